"""Keeps what one question's run went through, and writes it as a page: see :meth:`Trace.write`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .gate import Scored
from .generation import Writer
from .memory_bank import Fingerprint
from .passage_index import StoredChunk
from .recall import Answer, Began, Event, Listener, Opened
from .settings import RecallSettings, replaced
from .usage import Stage

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True)
class Scoring:
    """The gate's word on every chunk at one moment of the run."""

    scored: Scored
    stage: Stage
    """``gate``: the scan asked; ``callback``: the look back did."""
    chunks_read: int
    """Before it."""


@dataclass(frozen=True)
class Trace:
    """One question's run: its answer, and what the gate gave every chunk on the way."""

    question: str
    namespace: str
    answer: Answer
    settings: RecallSettings
    """As they came out: ``form`` and ``gate`` are never ``None``."""
    fingerprint: Fingerprint
    """Of the bank."""
    scorings: tuple[Scoring, ...]
    """In order; the gate is asked again only when the memory or the query changed."""
    chosen_by: tuple[int, ...]
    """For each of the answer's steps, the row in ``scorings`` that opened its chunk."""
    texts: Mapping[str, str]
    """Source text of the opened chunks, by chunk id."""

    @property
    def chunks(self) -> tuple[StoredChunk, ...]:
        """The namespace's chunks in reading order."""
        return self.scorings[0].scored.chunks

    @property
    def highest(self) -> NDArray[np.float32]:
        """Each chunk's highest P(open) over the run, float32 [chunks]."""
        return np.max([scoring.scored.probabilities for scoring in self.scorings], axis=0)

    def write(self, path: Path) -> None:
        """Write the run as one HTML page that needs nothing else, in the place of what ``path`` held.

        Raises:
            InputError: ``path`` cannot be the page's: it has another ending, or its folder is not there.
            StorageError: the disk refused; ``path`` holds what it held.
        """
        from .trace_page import write_page

        write_page(self, path)


@dataclass
class Recorder:
    """A listener that keeps what :class:`Trace` needs, and passes every event on."""

    onward: Listener
    scorings: list[Scoring] = field(default_factory=list)
    chosen_by: list[int] = field(default_factory=list)
    _stage: Stage = "gate"

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            self._stage = event.stage
        elif isinstance(event, Scored):
            self.scorings.append(Scoring(event, self._stage, len(self.chosen_by)))
        elif isinstance(event, Opened):
            self.chosen_by.append(len(self.scorings) - 1)  # a scan opens by what it was given last
        self.onward(event)


def record(
    engine: "Engine",
    question: str,
    namespace: str,
    settings: RecallSettings,
    listener: Listener,
    writer: Writer | None,
    document_ids: Collection[str] | None,
) -> Trace:
    """Answer a question and keep its run; see :meth:`core.engine.Engine.trace`."""
    recorder = Recorder(listener)
    answer = engine.ask(question, namespace, settings, recorder, writer, document_ids=document_ids)
    return Trace(
        question,
        namespace,
        answer,
        replaced(
            settings,
            form="raw" if writer is not None else engine.form(settings),
            gate=engine.gate_choice(settings),
        ),
        engine.bank.fingerprint,
        tuple(recorder.scorings),
        tuple(recorder.chosen_by),
        {step.chunk.chunk_id: engine.bank.text(step.chunk.chunk_id) for step in answer.steps},
    )
