"""When an index is approximate, and that what it says of itself is so."""

import numpy as np
import pytest
from numpy.typing import NDArray

from core.approximation import IndexReport, IndexSettings, build
from core.errors import InputError
from core.passage_index import PassageIndex, StoredChunk

from .test_passage_index import stored, unit_vectors

SMALL = IndexSettings(flat_below=1000, recall_at=8, queries=100)


def clustered(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return unit vectors, float32 [count, 16], in forty heaps, as text on forty subjects is."""
    random = np.random.default_rng(seed)
    heaps = np.random.default_rng(7).normal(size=(40, 16))
    vectors = heaps[random.integers(0, 40, count)] + 0.4 * random.normal(size=(count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def indexed(vectors: NDArray[np.float32], settings: IndexSettings) -> PassageIndex:
    return PassageIndex(stored(len(vectors)), np.arange(len(vectors)), vectors, settings)


def found_by(index: PassageIndex, queries: NDArray[np.float32], reach: int) -> list[set[int]]:
    return [set(np.flatnonzero(index.similarities(q[None], reach) > -1).tolist()) for q in queries]


def test_it_is_flat_while_small() -> None:
    assert indexed(clustered(999), SMALL).report == IndexReport(kind="flat", passages=999)
    assert indexed(clustered(1000), SMALL).report.kind == "ivf"


def test_what_it_says_it_finds_it_finds() -> None:
    vectors = clustered(3000)
    index = indexed(vectors, SMALL)
    report = index.report
    assert (report.kind, report.passages, report.recall_at, report.queries) == ("ivf", 3000, 8, 100)
    assert 0.99 <= report.recall <= 1
    assert report.probes < report.lists // 2
    assert report.scanned < 0.25
    queries = clustered(200, seed=1)
    truth = [set(np.argsort(-(vectors @ q))[:8].tolist()) for q in queries]
    shares = [len(a & b) / 8 for a, b in zip(found_by(index, queries, 8), truth, strict=True)]
    assert np.mean(shares) > 0.97  # other queries than it was measured with
    assert np.mean(shares) < 1  # or this would not be about an approximate index


def test_more_recall_takes_more_lists_and_one_list_fewer_would_not_do() -> None:
    vectors = clustered(3000)
    little, much = (
        indexed(vectors, IndexSettings(flat_below=1000, recall=recall, recall_at=8)).report for recall in (0.8, 0.999)
    )
    assert little.probes < much.probes
    assert 0.8 <= little.recall < much.recall


def test_where_lists_find_too_little_the_index_stays_flat_and_says_what_they_found() -> None:
    vectors = unit_vectors(2000, seed=3)  # no heaps: neighbours are all over
    index = indexed(vectors, IndexSettings(flat_below=1000, recall=1.0))
    assert index.report.kind == "flat"
    assert index.report.refused is not None
    assert 0.5 < index.report.refused < 1
    assert index.centroids is None


def test_the_same_passages_give_the_same_index() -> None:
    first, second = (build(clustered(1500), SMALL) for _ in range(2))
    assert first[1] == second[1]
    assert first[2] is not None
    assert second[2] is not None
    assert np.array_equal(first[2], second[2])


def test_centroids_are_used_again_and_made_anew_when_the_text_has_moved_away() -> None:
    _, report, centroids = build(clustered(1500), SMALL)
    _, grown, kept = build(clustered(1800, seed=2), SMALL, centroids)
    assert kept is centroids
    assert grown.passages == 1800
    elsewhere = np.tile(np.eye(1, 16, dtype=np.float32), (len(centroids), 1))
    _, again, made = build(clustered(1500), SMALL, elsewhere)
    assert made is not elsewhere
    assert again == report


@pytest.mark.parametrize("settings", [SMALL, IndexSettings()])
def test_an_exact_scan_is_the_flat_index_and_brute_force(settings: IndexSettings) -> None:
    vectors = clustered(3000)
    owners = np.sort(np.random.default_rng(0).integers(0, 900, 3000))
    index, queries = PassageIndex(stored(900), owners, vectors, settings), clustered(5, seed=4)
    flat = PassageIndex(stored(900), owners, vectors)
    for candidates in (1, 40, 2999, 3000, None):
        expected = np.full(900, -1.0, dtype=np.float32)
        for query in queries:
            nearest = np.argsort(-(vectors @ query))[:candidates]
            np.maximum.at(expected, owners[nearest], (vectors @ query)[nearest])
        exact = index.similarities(queries, candidates, exact=True)
        assert exact.dtype == np.float32
        np.testing.assert_allclose(exact, expected, atol=1e-6)
        np.testing.assert_allclose(flat.similarities(queries, candidates), expected, atol=1e-6)


@pytest.mark.parametrize("settings", [SMALL, IndexSettings()])
def test_an_index_that_was_changed_is_one_that_was_built_so(settings: IndexSettings) -> None:
    vectors = clustered(2000)
    chunks = stored(1000)
    index = PassageIndex(chunks, np.repeat(np.arange(1000), 2), vectors, settings)
    others = clustered(6, seed=9)
    now = [chunks[999], StoredChunk("new", "d", chunks[0].span, 1, 1), *chunks[5:900]]
    changed = index.changed(now, {"new": others[:3], "7": others[3:]}, frozenset({"7"}))
    held = {chunk.chunk_id: vectors[2 * row : 2 * row + 2] for row, chunk in enumerate(chunks)}
    held |= {"new": others[:3], "7": others[3:]}
    parts = [held[chunk.chunk_id] for chunk in now]
    owners = np.repeat(np.arange(len(now)), [len(part) for part in parts])
    queries = clustered(20, seed=5)
    if changed.report.kind == "ivf":
        from core.approximation import inverted

        assert index.centroids is not None
        built = PassageIndex(now, owners, np.concatenate(parts), settings, index.centroids, index.report)
        assert isinstance(built._index, type(inverted(others, index.centroids)))
    else:
        built = PassageIndex(now, owners, np.concatenate(parts))
    for candidates in (1, 30, None):
        np.testing.assert_allclose(
            changed.similarities(queries, candidates), built.similarities(queries, candidates), atol=1e-6
        )
    assert changed.drift == 2 + 1 + 104  # added, replaced, removed
    assert index.similarities(queries, None).shape == (1000,)  # the old one is as it was
    again = changed.changed(now[1:], {}, frozenset())
    np.testing.assert_allclose(again.similarities(queries, None), changed.similarities(queries, None)[1:], atol=1e-6)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"recall=1\.5"):
        IndexSettings(recall=1.5)
    with pytest.raises(InputError, match="flat_below=0"):
        IndexSettings(flat_below=0)
