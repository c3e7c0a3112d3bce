"""The index and the catalogue say the same, whoever wrote last; nothing is approximate without saying so."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from core import approximation, namespace_index, passage_index
from core.approximation import IndexSettings
from core.catalogue import CATALOGUE
from core.chunking import chunk_id
from core.errors import BankError, StorageError, UnknownNamespaceError
from core.memory_bank import EncodedChunk, MemoryBank
from core.report import bank_as_json
from core.verification import repair, verify

from .test_approximation import clustered
from .test_cli import cli  # noqa: F401 - a fixture
from .test_memory_bank import FINGERPRINT, encoded, record
from .test_verification import no_engine, rewritten

SMALL = IndexSettings(flat_below=600, recall=0.9, recall_at=8, queries=60)
TEXT_ONLY = FINGERPRINT.model_copy(update={"encode": False})
VECTORS = clustered(1400)
QUERIES = clustered(6, seed=3)


def chunk(number: int, namespace: str = "a") -> EncodedChunk:
    """Return a chunk of two passages and no slots."""
    text = f"text {number}"
    return EncodedChunk(chunk_id(namespace, text), text, 2, None, VECTORS[2 * number : 2 * number + 2])


def add(bank: MemoryBank, numbers: Sequence[int], namespace: str = "a") -> None:
    """Add documents of one chunk each."""
    chunks = [chunk(number, namespace) for number in numbers]
    bank.commit(namespace, chunks, [record(f"d{n}", c) for n, c in zip(numbers, chunks, strict=True)])


def opened(path: Path | None, settings: IndexSettings = SMALL) -> MemoryBank:
    return MemoryBank(TEXT_ONLY, path, settings)


@pytest.fixture
def bank(tmp_path: Path) -> MemoryBank:
    made = opened(tmp_path / "bank")
    add(made, range(500))
    return made


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often centroids are found."""
    made: list[int] = []
    real = approximation._centroids

    def counted(*given: object) -> object:
        made.append(1)
        return real(*given)

    monkeypatch.setattr(approximation, "_centroids", counted)
    return made


def similar(bank: MemoryBank, namespace: str = "a") -> dict[str, float]:
    """Return every chunk's similarity by id, by an exact scan of the index."""
    index = bank.index(namespace)
    scores = index.similarities(QUERIES, None).tolist()
    return {c.chunk_id: round(s, 5) for c, s in zip(index.chunks, scores, strict=True)}


def expected(numbers: Sequence[int]) -> dict[str, float]:
    scores = {n: float((chunk(n).embeddings @ QUERIES.T).max()) for n in numbers}
    return {chunk(n).chunk_id: round(s, 5) for n, s in scores.items()}


def close_to(found: dict[str, float], numbers: Sequence[int]) -> bool:
    wanted = expected(numbers)
    return list(found) == list(wanted) and np.allclose(list(found.values()), list(wanted.values()), atol=2e-5)


def test_a_large_namespace_is_approximate_and_says_what_it_finds(bank: MemoryBank) -> None:
    assert bank.index_report("a") is None  # nobody has asked yet
    index = bank.index("a")
    assert index.report.kind == "ivf"
    assert bank.index_report("a") == index.report
    assert 0.9 <= index.report.recall < 1
    exact = index.similarities(QUERIES, 40, exact=True)
    assert (exact > -1).sum() > (index.similarities(QUERIES, 40) > -1).sum() > 0
    assert close_to(similar(bank), range(500))
    shown = bank_as_json(bank)
    assert json.loads(json.dumps(shown))["namespaces"][0]["index"]["recall"] == index.report.recall


def test_the_next_process_neither_trains_nor_measures(
    bank: MemoryBank, trainings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bank.index("a")
    assert trainings == [1]
    bank.close()
    monkeypatch.setattr(approximation, "_measured", None)
    again = opened(bank.path)
    assert again.index_report("a") == index.report
    assert again.index("a").report == index.report
    found = (again.index("a").similarities(QUERIES, 40), index.similarities(QUERIES, 40))
    assert np.array_equal(*found)
    assert trainings == [1]


def test_other_settings_are_measured_anew(bank: MemoryBank, trainings: list[int]) -> None:
    probes = bank.index("a").report.probes
    bank.close()
    strict = opened(bank.path, IndexSettings(flat_below=600, recall=0.999, recall_at=60, queries=60))
    assert strict.index("a").report.probes > probes
    assert trainings == [1]  # the centroids are the same
    strict.close()
    flat = opened(bank.path, IndexSettings())
    assert flat.index("a").report.kind == "flat"


def test_what_is_added_and_replaced_and_deleted_is_in_the_index_or_not(bank: MemoryBank, trainings: list[int]) -> None:
    first = bank.index("a")
    add(bank, range(500, 520))
    assert close_to(similar(bank), range(520))
    assert bank.index("a").centroids is first.centroids
    assert trainings == [1]
    old, new = chunk(3), chunk(600)
    bank.commit("a", [new], [record("d3", new)])
    wanted = [n for n in range(520) if n != 3] + [600]
    assert close_to(similar(bank), wanted)
    assert old.chunk_id not in {c.chunk_id for c in bank.index("a").chunks}
    other = opened(bank.path)
    other.delete("a", [f"d{n}" for n in range(30)])
    assert close_to(similar(bank), range(30, 520))  # of another connection's writing
    assert close_to(similar(other), range(30, 520))
    assert first.similarities(QUERIES, None).shape == (500,)


def test_when_much_has_changed_it_is_measured_again(bank: MemoryBank, trainings: list[int]) -> None:
    assert bank.index("a").report.passages == 1000
    add(bank, range(500, 540))
    assert bank.index("a").report.passages == 1000
    assert bank.index_report("a") is None  # what is kept is of other text, which is said
    add(bank, range(540, 600))
    assert bank.index("a").report.passages == 1200
    assert bank.index_report("a") == bank.index("a").report
    assert trainings == [1]


def test_a_write_elsewhere_changes_nothing_here(bank: MemoryBank) -> None:
    index = bank.index("a")
    add(bank, range(5), "b")
    assert bank.index("a") is index
    assert bank.index_report("b") == passage_index.IndexReport(kind="flat", passages=10)


def test_embeddings_that_were_put_right_are_in_the_index(bank: MemoryBank) -> None:
    bank.index("a")
    wrong = EncodedChunk(chunk(7).chunk_id, "text 7", 2, None, clustered(3, seed=8))
    bank.restore([wrong])
    assert not close_to(similar(bank), range(500))
    bank.restore([chunk(7)])
    assert close_to(similar(bank), range(500))


def test_a_deletion_takes_what_is_kept_of_the_index_with_it(bank: MemoryBank) -> None:
    bank.index("a")
    ((blob,),) = bank.rows("SELECT centroids FROM indexes")
    bank.delete("a", ["d0"])
    assert bank.rows("SELECT * FROM indexes") == []
    files = [file.read_bytes() for file in bank.path.rglob("*") if file.is_file()]
    means = [blob[at : at + 64] for at in range(0, len(blob), 64)]
    own = [mean for mean in means if mean not in VECTORS.tobytes()]  # a list of one passage has that for its mean
    assert len(own) > 20
    assert not any(mean in data for mean in own for data in files)


def test_a_deletion_that_leaves_bytes_to_a_later_one_forgets_the_index_at_once(bank: MemoryBank) -> None:
    bank.index("a")
    bank.delete("a", ["d0"], compact=False)
    assert bank.rows("SELECT * FROM indexes") == []


def test_a_replacement_takes_it_when_the_bank_is_compacted(bank: MemoryBank) -> None:
    bank.index("a")
    new = chunk(600)
    bank.commit("a", [new], [record("d3", new)])
    assert len(bank.rows("SELECT * FROM indexes")) == 1
    bank.compact()
    assert bank.rows("SELECT * FROM indexes") == []
    bank.index("a")
    bank.compact()
    assert len(bank.rows("SELECT * FROM indexes")) == 1


def test_an_index_that_was_tampered_with_is_named_and_made_anew(bank: MemoryBank, trainings: list[int]) -> None:
    report = bank.index("a").report
    bank.close()
    assert bank.path is not None
    rewritten(bank.path, "UPDATE indexes SET report = replace(report, '\"recall\":', '\"recall\":1')")
    (damage,) = verify(bank.path)
    assert (damage.where, damage.what) == (CATALOGUE, "what is kept of the index of namespace 'a' was changed")
    again = opened(bank.path)
    assert again.index_report("a") is None
    assert again.index("a").report == report
    assert trainings == [1, 1]
    again.close()
    assert verify(bank.path) == []
    rewritten(bank.path, "UPDATE indexes SET centroids = x'00'")
    assert repair(bank.path, no_engine).lost == ()
    assert verify(bank.path) == []


def test_a_disk_that_takes_nothing_more_is_read_all_the_same(
    bank: MemoryBank, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(MemoryBank, "_transaction", full)
    assert close_to(similar(bank), range(500))
    assert "the index of namespace 'a' is not kept" in caplog.text


def test_an_index_that_is_narrowed_is_exact_and_not_kept(bank: MemoryBank) -> None:
    some = bank.index("a", lambda _, document_id: document_id in ("d5", "d9"))
    assert [c.document_id for c in some.chunks] == ["d5", "d9"]
    assert some.report.kind == "flat"
    np.testing.assert_allclose(some.similarities(QUERIES, None), list(expected([5, 9]).values()), atol=2e-5)
    assert bank.index("a", lambda *_: False).chunks == ()
    with pytest.raises(UnknownNamespaceError):
        bank.index("none", lambda *_: True)


def test_embeddings_of_two_dimensions_are_damage(bank: MemoryBank) -> None:
    bank._db.execute("UPDATE passages SET embedding = x'0000803f' WHERE passage = 40")
    with pytest.raises(BankError, match=r"an embedding of chunk \w+ is not as it was written"):
        bank.index("a")


def test_embeddings_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_index, "_TOGETHER", 7)
    bank = opened(None)
    add(bank, range(50))
    assert close_to(similar(bank), range(50))


def test_show_says_what_the_index_is(cli, tmp_path: Path) -> None:  # noqa: F811
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    one = encoded("one")
    bank.commit("a", [one], [record("d", one)])
    assert "flat, exact, 1 passages" in cli("show", "--bank", tmp_path / "bank").out
    shown = json.loads(cli("show", "--bank", tmp_path / "bank", "--json").out)
    assert shown["namespaces"][0]["index"]["kind"] == "flat"
    assert shown["fingerprint"]["slots"] == "bf16"
    assert shown["bytes_on_disk"] > 0
