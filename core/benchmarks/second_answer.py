"""What an ingested text saves: time to an answer from a text that is new, and from one that the bank holds."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backbone import Backbone
from ..embedder import Embedder
from ..engine import Engine
from ..ingest import Document
from ..settings import CompressionSettings, RecallSettings

_WARM_UP = Document("warm-up", "The mill stands by the river. It was built in 1790.")


@dataclass(frozen=True)
class SecondAnswerRow:
    """One question asked twice of one text, models loaded and warm. Both times the text is given to be taken in."""

    tokens: int
    """Of the text."""
    form: str
    """Of recall: raw or compressed."""
    first_seconds: float
    """From start to answer, the text encoded."""
    second_seconds: float
    """From start to answer, the text found in the bank."""
    second_over_first: float
    steps: int
    """Chunks that were read for the second answer."""


def measure(
    backbone: Backbone,
    embedder: Embedder,
    texts: Sequence[str],
    question: str,
    settings: RecallSettings | None = None,
    step: Callable[[], None] = lambda: None,
) -> list[SecondAnswerRow]:
    """Ask ``question`` twice of ``texts``, from a bank in a fresh directory.

    Args:
        step: called after each answer.
    """
    settings = settings or RecallSettings()
    _answer(Engine(backbone, embedder, CompressionSettings()), [_WARM_UP], "When was the mill built?", settings)
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory(prefix="compressed-memory-") as scratch:
        engine = Engine(backbone, embedder, CompressionSettings(), Path(scratch))
        first, _ = _answer(engine, documents, question, settings)
        step()
        second, steps = _answer(engine, documents, question, settings)
        step()
        tokens = sum(summary.tokens for summary in engine.bank.summaries())
        engine.bank.close()
    return [SecondAnswerRow(tokens, engine.form(settings), first, second, second / first, steps)]


def _answer(
    engine: Engine, documents: Sequence[Document], question: str, settings: RecallSettings
) -> tuple[float, int]:
    """Return seconds to the answer and how many chunks were read for it."""
    start = time.perf_counter()
    engine.add(documents)
    steps = len(engine.ask(question, settings=settings).steps)
    return time.perf_counter() - start, steps
