"""This project, as an application uses it: documents go into a bank in a directory, questions are asked of it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...adapters import NO_ADAPTERS
from ...backbone import Backbone
from ...embedder import Embedder
from ...engine import Engine
from ...ingest import Document, IngestStage
from ...prompts import NOTHING_FOUND
from ...settings import CompressionSettings, Form, RecallSettings, replaced
from ...usage import Stage
from ..cost import Cost
from .system import Outcome

_EVERY = 2**31 - 1


def without_gate(settings: RecallSettings) -> RecallSettings:
    """Return settings under which every chunk is read, in order, as LycheeMemory reads without its gate."""
    return replaced(settings, gate="similarity", threshold=0, top_k=_EVERY, max_steps=_EVERY, candidates=None)


class CompressedMemory:
    """One form of recall with one set of settings."""

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        form: Form,
        compression: CompressionSettings | None = None,
        recall: RecallSettings | None = None,
        adapters: str = NO_ADAPTERS,
    ) -> None:
        """
        Args:
            form: ``raw`` keeps text only, so that taking it in costs no more than it must, unless its gate reads slots.
            adapters: those that ``backbone`` was given, for the gate that may be among them.
        """
        self._backbone, self._embedder, self._adapters = backbone, embedder, adapters
        self._recall = replaced(recall or RecallSettings(), form=form)
        encode = form == "compressed" or self._recall.gate == "slots"
        self._compression = replaced(compression or CompressionSettings(), encode=encode)

    def take_in(self, documents: Sequence[Document]) -> "Bank":
        """See :class:`core.evaluation.systems.system.System`."""
        return Bank(self._backbone, self._embedder, self._compression, self._recall, documents, self._adapters)


class Bank:
    """A bank in a directory that goes when it is closed. ``TMPDIR`` says where."""

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        compression: CompressionSettings,
        recall: RecallSettings,
        documents: Sequence[Document],
        adapters: str = NO_ADAPTERS,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="compressed-memory-")
        self._recall = recall
        self._engine = Engine(backbone, embedder, compression, Path(self._folder.name) / "bank", adapters)
        report = self._engine.add(documents)
        encoded = report.tokens_encoded if compression.encode else 0
        self.cost = Cost(tokens_encoded=encoded, seconds=_by_name(report.seconds))

    def ask(self, question: str) -> Outcome:
        """See :class:`core.evaluation.systems.system.Corpus`. An answer that nothing was found is no answer."""
        answer = self._engine.ask(question, settings=self._recall)
        usage = answer.usage
        cost = Cost(
            tokens_read=usage.tokens_read,
            slots_read=usage.slots_read,
            tokens_written=usage.tokens_written,
            model_calls=usage.model_calls,
            seconds=_by_name(usage.seconds),
        )
        return Outcome(
            "" if answer.text == NOTHING_FOUND else answer.text,
            cost,
            tuple((note.document_id, note.span) for note in answer.sources),
            tuple(dict.fromkeys(step.chunk.document_id for step in answer.steps)),
        )

    def close(self) -> None:
        """Remove the bank."""
        self._engine.close()
        self._folder.cleanup()


def _by_name(seconds: Mapping[IngestStage, float] | Mapping[Stage, float]) -> dict[str, float]:
    return {str(stage): spent for stage, spent in seconds.items()}
