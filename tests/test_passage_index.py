"""The coarse search against brute force."""

import numpy as np
import pytest
from numpy.typing import NDArray

from core.chunking import Span
from core.passage_index import PassageIndex, StoredChunk, highest


def stored(count: int) -> list[StoredChunk]:
    return [StoredChunk(str(row), "document", Span(row, row + 1), 1, 1) for row in range(count)]


def unit_vectors(count: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


CHUNKS, OWNERS = 20, np.sort(np.random.default_rng(0).permutation(np.arange(60) % 20))
PASSAGES, QUERIES = unit_vectors(60, seed=1), unit_vectors(3, seed=2)


def by_brute_force(candidates: int) -> NDArray[np.float32]:
    best = np.full(CHUNKS, -1.0)
    for query in QUERIES:
        cosines = PASSAGES @ query
        for passage in sorted(range(60), key=lambda p: -cosines[p])[:candidates]:
            best[OWNERS[passage]] = max(best[OWNERS[passage]], cosines[passage])
    return best


@pytest.mark.parametrize("candidates", [1, 7, 60])
def test_a_chunk_is_as_near_as_its_nearest_passage_among_the_candidates(candidates: int) -> None:
    found = PassageIndex(stored(CHUNKS), OWNERS, PASSAGES).similarities(QUERIES, candidates)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_brute_force(candidates), atol=1e-6)


@pytest.mark.parametrize("candidates", [None, 61, 10_000])
def test_without_a_limit_or_with_a_large_one_every_passage_is_looked_at(candidates: int | None) -> None:
    found = PassageIndex(stored(CHUNKS), OWNERS, PASSAGES).similarities(QUERIES, candidates)
    np.testing.assert_allclose(found, by_brute_force(60), atol=1e-6)
    assert (found > -1).all()


def test_the_limit_holds_for_each_query() -> None:
    index = PassageIndex(stored(4), np.arange(4), np.eye(4, dtype=np.float32))
    queries = np.eye(4, dtype=np.float32)[[0, 2]]
    assert index.similarities(queries, 1).tolist() == [1, -1, 1, -1]


def test_a_negative_similarity_is_not_taken_for_none() -> None:
    index = PassageIndex(stored(1), np.array([0, 0]), np.array([[-0.6, 0.8], [-0.8, 0.6]], dtype=np.float32))
    np.testing.assert_allclose(index.similarities(np.array([[1.0, 0.0]], dtype=np.float32), None), [-0.6], atol=1e-6)


def test_an_index_without_chunks_finds_none() -> None:
    index = PassageIndex([], np.zeros(0, dtype=np.int64), np.zeros((0, 16), dtype=np.float32))
    assert index.similarities(QUERIES, 5).shape == (0,)
    assert index.chunks == ()


def test_the_chunks_keep_their_order() -> None:
    chunks = stored(5)[::-1]
    assert PassageIndex(chunks, np.arange(5), np.eye(5, dtype=np.float32)).chunks == tuple(chunks)


@pytest.mark.parametrize("count", [1, 3, 50, 99, 100, 1000])
def test_the_highest_are_the_first_of_a_stable_sort(count: int) -> None:
    scores = np.random.default_rng(count).integers(-3, 3, 100).astype(np.float32)  # many are equal
    assert highest(scores, count).tolist() == np.argsort(-scores, kind="stable")[:count].tolist()
