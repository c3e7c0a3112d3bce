"""What LlamaIndex's dispatcher is told: a span and an event for each stage, with counts and seconds."""

import inspect
from contextvars import Token
from types import TracebackType
from typing import Self
from uuid import uuid4

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id

import core

dispatcher = get_dispatcher(__name__)

_NO_ARGUMENTS = inspect.signature(lambda: None).bind()


class CompressEvent(BaseEvent):
    """Documents or nodes were taken in."""

    documents: int
    unchanged: int
    """Those that the bank held already, word for word."""
    chunks: int
    """Chunks that are new, and were compressed."""
    tokens: int
    """Of new chunks."""
    seconds: float

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return cls.__name__


class RecallEvent(BaseEvent):
    """A stage of answering a question is done."""

    seconds: float
    tokens_read: int = 0
    slots_read: int = 0
    tokens_written: int = 0
    found: int
    """What it came to; see each stage."""

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return cls.__name__


class GateEvent(RecallEvent):
    """The gate looked for a chunk to open; ``found`` is how many opened."""


class UpdateEvent(RecallEvent):
    """An opened chunk was read; ``found`` is how many notes it gave."""


class CallbackEvent(RecallEvent):
    """What was passed over or had left memory was looked for; ``found`` is how many notes and chunks came back."""


class AnswerEvent(RecallEvent):
    """The answer was written; ``found`` is 0 where nothing was found to answer from."""


_EVENTS: dict[str, type[RecallEvent]] = {
    "gate": GateEvent,
    "update": UpdateEvent,
    "callback": CallbackEvent,
    "answer": AnswerEvent,
}


class StageSpans:
    """The stages of one question as spans, children of the span that is open where this is made."""

    def __init__(self, instance: object) -> None:
        self._instance = instance
        self._parent = active_span_id.get()
        self._open: tuple[str, Token[str | None]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            name, token = self._open
            dispatcher.span_drop(name, _NO_ARGUMENTS, self._instance, error)
            active_span_id.reset(token)

    def see(self, event: "core.Event") -> None:
        """Enter or exit a span."""
        if isinstance(event, core.Began):
            name = f"{type(self._instance).__name__}.{event.stage}-{uuid4()}"
            # Open while the stage lasts, so that an LLM's own spans are children of it.
            self._open = (name, active_span_id.set(name))
            tags = active_instrument_tags.get()
            dispatcher.span_enter(name, _NO_ARGUMENTS, self._instance, self._parent, tags)
        elif isinstance(event, core.Ended) and self._open is not None:
            name, token = self._open
            dispatcher.event(
                _EVENTS[event.stage](
                    seconds=event.seconds,
                    tokens_read=event.tokens_read,
                    slots_read=event.slots_read,
                    tokens_written=event.tokens_written,
                    found=event.found,
                )
            )
            dispatcher.span_exit(name, _NO_ARGUMENTS, self._instance)
            active_span_id.reset(token)
            self._open = None
