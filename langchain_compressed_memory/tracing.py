"""Shows each chunk that is read as a run of its own, to tracers and to ``astream_events``."""

from types import TracebackType
from typing import Self

from langchain_core.callbacks import CallbackManagerForChainRun

import core


class TracedSteps:
    """The steps of one question as child runs named ``read``: begun when a chunk opens, ended when it was read."""

    def __init__(self, parent: CallbackManagerForChainRun) -> None:
        self._parent = parent
        self._open: CallbackManagerForChainRun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.on_chain_error(error or RuntimeError("the question ended while a chunk was read"))
            self._open = None

    def see(self, event: "core.Opened | core.Step") -> None:
        """Begin or end a run."""
        if isinstance(event, core.Opened):
            chunk = event.chunk
            self._open = self._parent.get_child().on_chain_start(
                None,
                {
                    "document_id": chunk.document_id,
                    "start": chunk.span.start,
                    "end": chunk.span.end,
                    "gate": event.gate,
                    "called_back": event.called_back,
                },
                name="read",
            )
        elif self._open is not None:
            notes = [note.quote for note in event.written]
            self._open.on_chain_end({"notes": notes, "looked_for": event.recalled.query})
            self._open = None
