"""Work in a thread whose words are seen as they come, in both colours; whoever stops listening ends it."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised inside work that nobody listens to any more."""


class Listening:
    """What the work is given: where its words go, and whether anybody still listens."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put, self._stop = put, threading.Event()

    def say(self, text: str) -> None:
        """Hand a piece of text on."""
        self._put(text)

    def check(self) -> None:
        """End the work if nobody listens.

        Raises:
            Stopped: nobody does.
        """
        if self._stop.is_set():
            raise Stopped

    def stop(self) -> None:
        """Listen no more."""
        self._stop.set()


class Finished(Generic[_Result]):
    """The last thing that comes: what the work returned."""

    def __init__(self, result: _Result) -> None:
        self.result = result


def streamed(work: Callable[[Listening], _Result]) -> Iterator[str | Finished[_Result]]:
    """Do ``work`` in a thread and yield what it says, then what it returned; what it raises is raised here."""
    pieces: queue.SimpleQueue[str | Finished[_Result] | BaseException] = queue.SimpleQueue()
    listening = Listening(pieces.put)
    run = contextvars.copy_context().run
    worker = threading.Thread(target=run, args=(_into, pieces.put, work, listening), daemon=True)
    worker.start()
    try:
        while not isinstance(piece := pieces.get(), Finished):
            yield _text(piece)
        yield piece
    finally:
        listening.stop()
        worker.join()


async def astreamed(work: Callable[[Listening], _Result]) -> AsyncGenerator[str | Finished[_Result], None]:
    """See :func:`streamed`; the event loop keeps turning."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | Finished[_Result] | BaseException] = asyncio.Queue()

    def put(piece: str | Finished[_Result] | BaseException) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    listening = Listening(put)
    working = asyncio.ensure_future(asyncio.to_thread(_into, put, work, listening))
    try:
        while not isinstance(piece := await pieces.get(), Finished):
            yield _text(piece)
        yield piece
    finally:
        listening.stop()
        await asyncio.shield(working)


async def in_thread(work: Callable[[Listening], _Result]) -> _Result:
    """Do ``work`` in a thread; a caller that is cancelled ends it soon after."""
    listening = Listening(lambda _: None)
    try:
        return await asyncio.to_thread(work, listening)
    except asyncio.CancelledError:
        listening.stop()
        raise


def _into(
    put: Callable[[str | Finished[_Result] | BaseException], None],
    work: Callable[[Listening], _Result],
    listening: Listening,
) -> None:
    try:
        put(Finished(work(listening)))
    except BaseException as error:  # noqa: BLE001 - raised again where the pieces are taken
        put(error)


def _text(piece: str | BaseException) -> str:
    if isinstance(piece, BaseException):
        raise piece
    return piece
