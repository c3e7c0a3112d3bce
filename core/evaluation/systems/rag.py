"""Retrieval by embedding: what a user would build first. The nearest passages by cosine, read in one prompt."""

from collections.abc import Sequence

import faiss

from ...backbone import Backbone, Role
from ...embedder import Embedder
from ...generation import Generator
from ...ingest import Document
from ..cost import Cost
from .passage_reader import cut, read_passages
from .system import Outcome


class EmbeddingRetrieval:
    """sentence-transformers, FAISS and the base model."""

    def __init__(
        self, backbone: Backbone, embedder: Embedder, passages: int = 8, role: Role | None = "reasoner"
    ) -> None:
        """
        Args:
            passages: shown to the model; 8 as in LycheeMemory's comparison.
            role: whose adapter reads, where there is one: the same reader as this project's own.
        """
        self._generator, self._embedder, self._count = Generator(backbone, role), embedder, passages

    def take_in(self, documents: Sequence[Document]) -> "EmbeddedPassages":
        """See :class:`core.evaluation.systems.system.System`."""
        return EmbeddedPassages(self._generator, self._embedder, self._count, documents)


class EmbeddedPassages:
    """Passages with an exact index of their embeddings."""

    def __init__(self, generator: Generator, embedder: Embedder, count: int, documents: Sequence[Document]) -> None:
        self._generator, self._embedder, self.cost = generator, embedder, Cost()
        with self.cost.timed("cut"):
            self._passages = cut(documents, embedder)
        with self.cost.timed("embed"):
            vectors = embedder.embed([passage.text for passage in self._passages])
        with self.cost.timed("index"):
            self._index = faiss.IndexFlatIP(vectors.shape[1])
            self._index.add(vectors)
        self._count = min(count, len(self._passages))

    def ask(self, question: str) -> Outcome:
        """See :class:`core.evaluation.systems.system.Corpus`."""
        cost = Cost()
        with cost.timed("retrieve"):
            _, rows = self._index.search(self._embedder.embed([question]), self._count)
        return read_passages(self._generator, question, [self._passages[row] for row in rows[0]], cost)

    def close(self) -> None:
        """Nothing outlives the object."""
