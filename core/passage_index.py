"""The coarse search: FAISS over the passages of a namespace, scored by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from .chunking import Span


@dataclass(frozen=True)
class StoredChunk:
    """A chunk as the bank lists it: where it stands and what it costs, without its text or slots."""

    chunk_id: str
    document_id: str
    span: Span
    """Characters of the document."""
    tokens: int
    slots: int


class PassageIndex:
    """The chunks of one namespace in reading order, with an exact inner-product index over their passages."""

    def __init__(self, chunks: Sequence[StoredChunk], owners: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """
        Args:
            chunks: in reading order.
            owners: int64 [passages], the row in ``chunks`` that each passage belongs to.
            vectors: float32 [passages, dimension], of unit length.
        """
        self.chunks = tuple(chunks)
        self._owners = owners
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def similarities(self, queries: NDArray[np.float32], candidates: int | None) -> NDArray[np.float32]:
        """Return each chunk's similarity to the nearest of ``queries``.

        Args:
            queries: float32 [queries, dimension], of unit length.
            candidates: passages to look at for each query; ``None`` looks at all.

        Returns:
            float32 [chunks]: cosine of the best pair of query and passage, -1 where none was looked at.
        """
        best = np.full(len(self.chunks), -1.0, dtype=np.float32)
        if not self.chunks:
            return best
        wanted = self._index.ntotal if candidates is None else min(candidates, self._index.ntotal)
        scores, found = self._index.search(queries, wanted)
        np.maximum.at(best, self._owners[found.ravel()], scores.ravel())
        return best
