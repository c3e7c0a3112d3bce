"""Lets many conversations with the model run at once, and writes all their next replies in one batch.

Each conversation is ordinary code that calls :meth:`core.generation.Generator.reply`, in a thread of
its own. The model decodes when every conversation that goes on has asked, in their order, so what is
written depends on nothing that a scheduler decides.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import torch

from ..generation import Generator, Prompt, Reply

_Result = TypeVar("_Result")
_Event = tuple[int, Prompt | None]


class Exchange(NamedTuple):
    """A prompt, and what was written for it."""

    prompt: Prompt
    replies: tuple[Reply, ...]
    """One, or where it was sampled one for each of the conversation's sources; the conversation knows of the first."""


class StoppedError(RuntimeError):
    """Ends a conversation because another one failed; never leaves :func:`in_lockstep`."""


class Seat(Generator):
    """One conversation's generator: it asks, waits for all the others, and keeps what was said."""

    def __init__(self, generator: Generator, number: int, events: SimpleQueue[_Event]) -> None:
        super().__init__(generator.backbone, generator.role)
        self._number, self._events = number, events
        self._given: SimpleQueue[tuple[Reply, ...] | None] = SimpleQueue()
        self.said: list[Exchange] = []

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        """Wait for the batch with this prompt's reply; ``on_text`` sees it whole."""
        self._events.put((self._number, prompt))
        replies = self._given.get()
        if replies is None:
            raise StoppedError
        self.said.append(Exchange(prompt, replies))
        if on_text:
            on_text(replies[0].text[len(prompt.prefill) :])
        return replies[0]

    def give(self, replies: tuple[Reply, ...] | None) -> None:
        """Hand over what is awaited; ``None`` ends the conversation."""
        self._given.put(replies)


def in_lockstep(
    generator: Generator,
    conversations: Sequence[Callable[[Seat], _Result]],
    temperature: Callable[[Prompt], float],
    sources: Sequence[Sequence[torch.Generator]],
) -> list[_Result]:
    """Run ``conversations`` to their ends and return what they return, in order.

    Args:
        generator: writes the replies, in the calling thread.
        temperature: what a reply is sampled at; 0 takes the likeliest token.
        sources: of each conversation's samples, on the CPU. A reply that is sampled is written once for each of them:
            what conversations have in common need not be done by each.

    An exception in one conversation stops all of them and is raised here.
    """
    events: SimpleQueue[_Event] = SimpleQueue()
    seats = [Seat(generator, number, events) for number in range(len(conversations))]
    with ThreadPoolExecutor(max(1, len(seats))) as threads:
        futures = [threads.submit(talk, seat) for talk, seat in zip(conversations, seats, strict=True)]
        for number, future in enumerate(futures):
            future.add_done_callback(partial(_ended, events, number))
        try:
            _serve(generator, seats, futures, events, temperature, sources)
        finally:
            for seat in seats:
                seat.give(None)
    return [future.result() for future in futures]


def _ended(events: SimpleQueue[_Event], number: int, _: Future[_Result]) -> None:
    events.put((number, None))


def _serve(
    generator: Generator,
    seats: Sequence[Seat],
    futures: Sequence[Future[_Result]],
    events: SimpleQueue[_Event],
    temperature: Callable[[Prompt], float],
    sources: Sequence[Sequence[torch.Generator]],
) -> None:
    going, asked = set(range(len(seats))), dict[int, Prompt]()
    while going:
        number, prompt = events.get()
        if prompt is None:
            futures[number].result()  # raises what the conversation raised
            going.discard(number)
        else:
            asked[number] = prompt
        if going and asked.keys() == going:
            # Prompts with opened slots and prompts without cannot share a batch, nor can two temperatures.
            batches: dict[tuple[bool, float], list[int]] = {}
            for row, shown in sorted(asked.items()):
                batches.setdefault((not shown.slots, temperature(shown)), []).append(row)
            # One at a time, with slots and greedy first: answers, which have no slots and end a conversation, wait
            # until nothing else is asked, and are written in one batch.
            (_, heat), rows = min(batches.items())
            wanted = [(row, source) for row in rows for source in (sources[row] if heat else sources[row][:1])]
            drawn = [source for _, source in wanted]
            written = generator.replies([asked[row] for row, _ in wanted], temperature=heat, random=drawn)
            given: dict[int, list[Reply]] = {row: [] for row in rows}
            for (row, _), reply in zip(wanted, written, strict=True):
                given[row].append(reply)
            for row, replies in given.items():
                del asked[row]
                seats[row].give(tuple(replies))
