"""The coarse search: FAISS over the passages of a namespace, scored by chunk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from .approximation import IndexReport, IndexSettings, build, looking_at
from .chunking import Span

EXACT = IndexSettings(flat_below=1 << 62)
"""An index that is flat whatever its size."""


@dataclass(frozen=True)
class StoredChunk:
    """A chunk as the bank lists it: where it stands and what it costs, without its text or slots."""

    chunk_id: str
    document_id: str
    span: Span
    """Characters of the document."""
    tokens: int
    slots: int


def highest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows of the ``count`` highest scores, best first, of equals the earlier, without sorting them all."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    floor = np.partition(scores, -count)[-count]
    above = np.flatnonzero(scores >= floor)
    return above[np.argsort(-scores[above], kind="stable")[:count]]


class PassageIndex:
    """The chunks of one namespace in reading order, with an inner-product index over their passages.

    It does not change: :meth:`changed` makes another one.
    """

    def __init__(
        self,
        chunks: Sequence[StoredChunk],
        owners: NDArray[np.int64],
        vectors: NDArray[np.float32],
        settings: IndexSettings = EXACT,
        centroids: NDArray[np.float32] | None = None,
        measured: IndexReport | None = None,
    ) -> None:
        """
        Args:
            chunks: in reading order.
            owners: int64 [passages], the row in ``chunks`` that each passage belongs to.
            vectors: float32 [passages, dimension], of unit length.
            settings: when the index may be approximate.
            centroids: float32 [lists, dimension] of an earlier approximate index of this namespace.
            measured: what that index was, where it was of these very passages.
        """
        self.chunks = tuple(chunks)
        self._owners = owners
        self.drift = 0
        """Chunks that :meth:`changed` added and removed since the index was built."""
        self._index: Any  # FAISS's own stubs lack what SWIG gives
        self._index, self.report, self.centroids = build(vectors, settings, centroids, measured)

    def similarities(
        self, queries: NDArray[np.float32], candidates: int | None, *, exact: bool = False
    ) -> NDArray[np.float32]:
        """Return each chunk's similarity to the nearest of ``queries``.

        Args:
            queries: float32 [queries, dimension], of unit length.
            candidates: passages to look at for each query; ``None`` looks at all, which is exact.
            exact: whether the candidates are found by a scan of every passage, where the index is approximate.

        Returns:
            float32 [chunks]: cosine of the best pair of query and passage, -1 where none was looked at.
        """
        best = np.full(len(self.chunks), -1.0, dtype=np.float32)
        if not self.chunks:
            return best
        if candidates is None or candidates >= self._index.ntotal:
            scores, found = self._scanned(queries)
        else:
            scores, found = self._index.search(queries, candidates, params=self._parameters(exact))
        scores, owners = scores[found >= 0], self._owners[found[found >= 0]]
        np.maximum.at(best, owners, scores)
        return best

    def _parameters(self, exact: bool) -> faiss.SearchParameters | None:
        # Every list together is every passage.
        return looking_at(self.report.lists if exact else self.report.probes) if self.report.kind == "ivf" else None

    def _scanned(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return cosines and ids, [queries, passages], of all passages, in no order."""
        blocks = [(queries @ vectors.T, ids) for ids, vectors in self._blocks()]
        scores, ids = np.concatenate([s for s, _ in blocks], axis=1), np.concatenate([i for _, i in blocks])
        return scores, np.broadcast_to(ids, scores.shape)

    def _blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield ids [passages] and vectors [passages, dimension] where FAISS keeps them: nothing is copied."""
        if self.report.kind == "flat":
            held: Any = faiss.downcast_index(self._index.index)
            vectors = faiss.rev_swig_ptr(held.get_xb(), held.ntotal * held.d).reshape(held.ntotal, held.d)
            yield faiss.vector_to_array(self._index.id_map), vectors
            return
        lists, dimension = self._index.invlists, self._index.d
        for number in range(self._index.nlist):
            if size := lists.list_size(number):
                codes = faiss.rev_swig_ptr(lists.get_codes(number), size * dimension * 4)
                ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
                yield ids, codes.view(np.float32).reshape(size, dimension)

    def changed(
        self, chunks: Sequence[StoredChunk], added: Mapping[str, NDArray[np.float32]], replaced: frozenset[str]
    ) -> "PassageIndex":
        """Return the index of ``chunks`` in the place of this one's; only what differs is computed.

        Args:
            chunks: in reading order.
            added: float32 [passages, dimension] by chunk id, of each chunk that this index does not hold or whose
                embeddings are others now.
            replaced: the latter's ids.
        """
        made = object.__new__(PassageIndex)
        made.chunks, made.report, made.centroids = tuple(chunks), self.report, self.centroids
        made._index = faiss.clone_index(self._index)  # others may be searching in this one
        rows = {chunk.chunk_id: row for row, chunk in enumerate(made.chunks)}
        kept = [-1 if c.chunk_id in replaced else rows.get(c.chunk_id, -1) for c in self.chunks]
        made.drift = self.drift + len(added) + kept.count(-1)
        # Ids are never used twice, so that a passage is its own also where others were removed.
        owners = np.where(self._owners < 0, -1, np.array([*kept, -1], dtype=np.int64)[self._owners])
        gone = np.flatnonzero((owners < 0) & (self._owners >= 0))
        if len(gone):
            made._index.remove_ids(gone)
        new = [np.full(len(vectors), rows[name]) for name, vectors in added.items()]
        if new:
            ids = len(owners) + np.arange(sum(map(len, new)))
            made._index.add_with_ids(np.concatenate(list(added.values())), ids)
        made._owners = np.concatenate([owners, *new])
        return made
