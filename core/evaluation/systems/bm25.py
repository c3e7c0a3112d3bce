"""Retrieval by words: BM25 (Robertson and Zaragoza, 2009; Lucene's form), read as :mod:`.rag` reads."""

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...backbone import Backbone, Role
from ...embedder import Embedder
from ...errors import ExtraMissingError
from ...generation import Generator
from ...ingest import Document
from ..cost import Cost
from .passage_reader import cut, read_passages
from .system import Outcome

# Where there is JAX, bm25s wakes it as it is imported, and it would take three quarters of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
try:
    import bm25s
except ImportError as error:
    raise ExtraMissingError("the evaluation needs: pip install 'compressed-memory[evaluation]'") from error


class WordIndex:
    """Texts that are ranked by BM25, English stop words left out, k1 1.5, b 0.75."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        self._bm25 = bm25s.BM25()
        self._bm25.index(_tokens(list(texts)), show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the score of each text, float32 [texts]; 0 where it has no word of ``query``."""
        known = [word for word in _tokens([query])[0] if word in self._bm25.vocab_dict]
        if not known:
            return np.zeros(self._count, dtype=np.float32)
        return np.asarray(self._bm25.get_scores(known), dtype=np.float32)


class WordRetrieval:
    """BM25 and the base model."""

    def __init__(
        self, backbone: Backbone, embedder: Embedder, passages: int = 8, role: Role | None = "reasoner"
    ) -> None:
        """
        Args:
            embedder: only cuts, so that both retrievals choose among the same passages.
            passages: shown to the model.
            role: whose adapter reads, where there is one.
        """
        self._generator, self._embedder, self._count = Generator(backbone, role), embedder, passages

    def take_in(self, documents: Sequence[Document]) -> "IndexedPassages":
        """See :class:`core.evaluation.systems.system.System`."""
        return IndexedPassages(self._generator, self._embedder, self._count, documents)


class IndexedPassages:
    """Passages with an index of their words."""

    def __init__(self, generator: Generator, embedder: Embedder, count: int, documents: Sequence[Document]) -> None:
        self._generator, self._count, self.cost = generator, count, Cost()
        with self.cost.timed("cut"):
            self._passages = cut(documents, embedder)
        with self.cost.timed("index"):
            self._index = WordIndex([passage.text for passage in self._passages])

    def ask(self, question: str) -> Outcome:
        """See :class:`core.evaluation.systems.system.Corpus`."""
        cost = Cost()
        with cost.timed("retrieve"):
            rows = np.argsort(-self._index.scores(question), kind="stable")[: self._count]
        return read_passages(self._generator, question, [self._passages[row] for row in rows], cost)

    def close(self) -> None:
        """Nothing outlives the object."""


def _tokens(texts: list[str]) -> list[list[str]]:
    words: list[list[str]] = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
    return words
