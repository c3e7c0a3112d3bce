"""A copy of a bank is the bank, follows what changes, and leaves alone what it has no part in."""

from pathlib import Path

import pytest

from core.bank_copy import copy_bank
from core.errors import BankError, BankMismatchError
from core.memory_bank import DocumentRecord, MemoryBank

from .test_memory_bank import FINGERPRINT, encoded, record


@pytest.fixture
def source() -> MemoryBank:
    bank = MemoryBank(FINGERPRINT)
    one, two, three = (encoded(text, seed=i) for i, text in enumerate(("one", "two", "three")))
    bank.commit(
        "a", [one, two], [record("x", one, two), DocumentRecord("y", "hash", record("y", two).placements, {"n": 1})]
    )
    bank.commit("b", [other := encoded("three", "b", seed=2)], [record("x", other)])
    assert three.chunk_id != other.chunk_id
    return bank


def test_a_copy_is_the_same_to_the_bit(source: MemoryBank, tmp_path: Path) -> None:
    copy_bank(source, tmp_path / "copy")
    copy = MemoryBank(path=tmp_path / "copy")
    assert copy.digest() == source.digest()
    assert copy.fingerprint == source.fingerprint


def test_copying_again_follows_what_changed_and_writes_nothing_else(source: MemoryBank, tmp_path: Path) -> None:
    copy_bank(source, tmp_path / "copy")
    shards = set((tmp_path / "copy" / "slots").iterdir())
    copy_bank(source, tmp_path / "copy")
    assert set((tmp_path / "copy" / "slots").iterdir()) == shards
    source.delete("a", ["x"])
    source.set_metadata("a", "y", {"n": 2})
    source.commit("a", [new := encoded("four", seed=3)], [record("z", new)])
    copy_bank(source, tmp_path / "copy")
    assert MemoryBank(path=tmp_path / "copy").digest() == source.digest()


def test_a_chunk_that_moves_to_a_later_document_is_kept(source: MemoryBank, tmp_path: Path) -> None:
    copy_bank(source, tmp_path / "copy")
    # "x" no longer has "one", which a document that is copied after it has now.
    source.commit("a", [new := encoded("four", seed=3)], [record("x", new)])
    source.commit("a", [encoded("one")], [record("z", encoded("one"))])
    copy_bank(source, tmp_path / "copy")
    assert MemoryBank(path=tmp_path / "copy").digest() == source.digest()


def test_other_namespaces_of_the_place_stay(source: MemoryBank, tmp_path: Path) -> None:
    mine = MemoryBank(FINGERPRINT, tmp_path / "copy")
    mine.commit("mine", [chunk := encoded("five", "mine")], [record("x", chunk)])
    copy_bank(source, tmp_path / "copy")
    assert [summary.namespace for summary in mine.summaries()] == ["a", "b", "mine"]


def test_places_that_cannot_be_used(source: MemoryBank, tmp_path: Path) -> None:
    MemoryBank(FINGERPRINT.model_copy(update={"ratio": 8}), tmp_path / "other").close()
    with pytest.raises(BankMismatchError, match="ratio"):
        copy_bank(source, tmp_path / "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(BankError, match="holds other things"):
        copy_bank(source, tmp_path / "full")
