"""How passages are indexed: flat while they are few, by inverted lists once they are many and lose too little by it.

An inverted-file index looks at the lists whose centroids are nearest to a query. How many lists that takes is
measured when the index is built, on passages that the centroids have not seen; where no useful number of lists
gives the recall that was asked for, the index stays flat.
"""

import math
from typing import Annotated, Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .settings import CheckedSettings

_TRAINING_ROUNDS = 10
_LISTS = 4
"""Times the square root of the passages. Embeddings of sentences lie so that many small lists find more, of as many
passages looked at, than few large ones (docs/benchmarks.md, search)."""
_OUTGROWN = 1.5
"""Times as many lists as there are that a new index would have, beyond which the old centroids are not used."""
_PASSAGES_A_LIST = 40
"""Most passages, for each list, that k-means sees."""
_MOST_SCANNED = 0.5
"""An index that has to look at a greater share of the passages is not worth having."""
_SAME = 1e-6
"""Cosines that differ by less are equal: text that stands twice has one nearest neighbour or the other."""


class IndexSettings(CheckedSettings):
    """When the search among passages may be approximate, and how much of it may be lost."""

    flat_below: Annotated[int, Field(ge=4)] = 50_000
    """Passages in a namespace below which its index is flat, which is exact."""
    recall: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Share of the ``recall_at`` nearest passages that an approximate index has to find, mean over ``queries``."""
    recall_at: Annotated[int, Field(ge=1)] = 32
    queries: Annotated[int, Field(ge=1)] = 256
    """Passages that recall is measured with: at most a tenth of all."""
    seed: int = 0


class IndexReport(BaseModel):
    """What an index is, and what it was measured to find."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["flat", "ivf"]
    passages: int
    """In the index when it was built or last measured."""
    lists: Annotated[int, Field(ge=0)] = 0
    """Inverted lists."""
    probes: Annotated[int, Field(ge=0)] = 0
    """Lists looked at for each query."""
    scanned: float = 1.0
    """Share of the passages that are in them, mean over ``queries``."""
    recall: float = 1.0
    """Share of the ``recall_at`` nearest passages found, against the flat index; 1 where the index is flat."""
    recall_at: int = 0
    """0 where nothing was measured, because a flat index is exact."""
    queries: int = 0
    """Held-out passages that it was measured with."""
    refused: float | None = None
    """Recall of the inverted lists that were tried and not taken."""


def build(
    vectors: NDArray[np.float32],
    settings: IndexSettings,
    centroids: NDArray[np.float32] | None = None,
    measured: IndexReport | None = None,
) -> tuple[Any, IndexReport, NDArray[np.float32] | None]:
    """Index ``vectors``, whose ids are their rows.

    Args:
        vectors: float32 [passages, dimension], of unit length.
        centroids: float32 [lists, dimension] of an earlier index, used as long as they give the recall.
        measured: what that index was, where it was of these very vectors and nothing has to be measured again.

    Returns:
        The FAISS index (``IndexIDMap2`` over a flat one, or ``IndexIVFFlat``), what it is, and its centroids.
    """
    if len(vectors) < settings.flat_below:
        return flat(vectors), IndexReport(kind="flat", passages=len(vectors)), None
    if measured is not None:
        return flat(vectors) if centroids is None else inverted(vectors, centroids), measured, centroids
    held_out = _held_out(len(vectors), settings)
    if centroids is not None and len(centroids) * _OUTGROWN < _lists(len(vectors)):
        centroids = None
    known = centroids is not None
    while True:
        if centroids is None:
            centroids = _centroids(np.delete(np.arange(len(vectors)), held_out), vectors, settings)
        index = inverted(vectors, centroids)
        probes, recall = _measured(index, vectors, held_out, settings)
        scanned = _scanned(index, vectors[held_out], probes)
        if recall >= settings.recall and scanned <= _MOST_SCANNED:
            break
        del index
        if not known:
            return flat(vectors), IndexReport(kind="flat", passages=len(vectors), refused=recall), None
        centroids, known = None, False  # the text has moved away from them
    report = IndexReport(
        kind="ivf",
        passages=len(vectors),
        lists=len(centroids),
        probes=probes,
        scanned=scanned,
        recall=recall,
        recall_at=min(settings.recall_at, len(vectors) - 1),
        queries=len(held_out),
    )
    return index, report, centroids


def flat(vectors: NDArray[np.float32]) -> Any:  # noqa: ANN401 - FAISS's own stubs lack what SWIG gives
    """Return an exact index of ``vectors``, float32 [passages, dimension], whose ids are their rows."""
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, np.arange(len(vectors)))
    return index


def inverted(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> Any:  # noqa: ANN401
    """Return an index of ``vectors`` in the lists of ``centroids``; the same of both give the same index."""
    lists, dimension = centroids.shape
    coarse = faiss.IndexFlatIP(dimension)
    coarse.add(centroids)
    index = faiss.IndexIVFFlat(coarse, dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    index.add_with_ids(vectors, np.arange(len(vectors)))
    return index


def looking_at(probes: int) -> faiss.SearchParametersIVF:
    """Return how an inverted index is told to look at so many lists."""
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = probes
    return parameters


def _held_out(passages: int, settings: IndexSettings) -> NDArray[np.int64]:
    count = max(1, min(settings.queries, passages // 10))
    return np.sort(np.random.default_rng(settings.seed).choice(passages, count, replace=False))


def _lists(passages: int) -> int:
    return max(2, round(_LISTS * math.sqrt(passages)))


def _centroids(rows: NDArray[np.int64], vectors: NDArray[np.float32], settings: IndexSettings) -> NDArray[np.float32]:
    lists = _lists(len(rows))
    seen = np.random.default_rng(settings.seed).permutation(rows)[: lists * _PASSAGES_A_LIST]
    means = faiss.Kmeans(
        vectors.shape[1],
        lists,
        niter=_TRAINING_ROUNDS,
        seed=settings.seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_PASSAGES_A_LIST,
    )
    means.train(vectors[np.sort(seen)])
    return np.array(means.centroids, dtype=np.float32)


def _measured(
    index: Any,  # noqa: ANN401
    vectors: NDArray[np.float32],
    held_out: NDArray[np.int64],
    settings: IndexSettings,
) -> tuple[int, float]:
    """Return the fewest lists to look at for the recall that is asked for, and the recall that they give.

    Where half the lists do not give it, the recall of half the lists.
    """
    reach = min(settings.recall_at, len(vectors) - 1)
    floors = np.array([_floor(vectors, row, reach) for row in held_out], dtype=np.float32)

    def recall(probes: int) -> float:
        scores, found = index.search(vectors[held_out], reach + 1, params=looking_at(probes))
        hits = (scores >= floors[:, None] - _SAME) & (found != held_out[:, None]) & (found >= 0)
        return float(np.minimum(hits.sum(axis=1), reach).mean() / reach)

    most = max(1, index.nlist // 2)
    low, high, best = 0, 1, recall(1)
    while best < settings.recall and high < most:
        low, high = high, min(2 * high, most)
        best = recall(high)
    while best >= settings.recall and high - low > 1:
        middle = (low + high) // 2
        if (found := recall(middle)) >= settings.recall:
            high, best = middle, found
        else:
            low = middle
    return high, best


def _scanned(index: Any, queries: NDArray[np.float32], probes: int) -> float:  # noqa: ANN401
    _, lists = index.quantizer.search(queries, probes)
    sizes = np.array([index.invlists.list_size(number) for number in range(index.nlist)])
    return float(sizes[lists].sum(axis=1).mean() / index.ntotal)


def _floor(vectors: NDArray[np.float32], row: int, reach: int) -> float:
    """Return the cosine of the passage ``row`` to the last of its ``reach`` nearest others."""
    scores = vectors @ vectors[row]
    scores[row] = -np.inf
    return float(np.partition(scores, -reach)[-reach])
