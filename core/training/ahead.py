"""Draws a seeded sequence ahead while what came before is learned from: in a thread, or in processes."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Generic, TypeVar, cast

_Block = TypeVar("_Block")


class Ahead(Generic[_Block]):
    """A sequence of blocks, of which those behind the one that was asked for last are being drawn."""

    def __init__(
        self, draw: Callable[[int], _Block], processes: int, made_anew: Callable[[], Callable[[int], _Block]]
    ) -> None:
        """
        Args:
            draw: returns block ``number``, the same whenever it is asked for.
            processes: that draw; 0: a thread of this one does. A GPU learns faster than one process draws.
            made_anew: returns ``draw`` in such a process; pickled.
        """
        self._ahead, self._draw = 1 + processes, draw
        self._executor: Executor
        if processes:
            # Forked ones could not use a GPU.
            spawn = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(processes, spawn, _begin, (made_anew,))
            self._draw = cast(Callable[[int], _Block], _drawn)
        else:
            self._executor = ThreadPoolExecutor(1, "drawing-ahead")
        self._drawn: dict[int, Future[_Block]] = {}

    def at(self, number: int) -> _Block:
        """Return block ``number``; any from 0 on."""
        ahead = range(number, number + 1 + self._ahead)
        for other in [drawn for drawn in self._drawn if drawn not in ahead]:
            self._drawn.pop(other).cancel()
        for wanted in ahead:
            if wanted not in self._drawn:
                self._drawn[wanted] = self._executor.submit(self._draw, wanted)
        return self._drawn[number].result()


_draw: Callable[[int], object]
"""In a process that draws: what it draws from."""


def _begin(made_anew: Callable[[], Callable[[int], object]]) -> None:
    global _draw
    # An interrupt is for the trainer, which ends this process when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _draw = made_anew()


def _drawn(number: int) -> object:
    return _draw(number)
