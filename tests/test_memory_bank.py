"""The bank: what is committed is there whole, in memory and on disk; what is refused leaves nothing."""

import dataclasses
import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core.catalogue import CATALOGUE, checksum
from core.chunking import Span, chunk_id
from core.errors import BankError, BankMismatchError, StorageError, UnknownNamespaceError
from core.kv_cache import Slots
from core.memory_bank import DocumentRecord, EncodedChunk, Fingerprint, MemoryBank

FINGERPRINT = Fingerprint(
    model="m", weights="w", chunk_tokens=64, ratio=4, placement="in_place", sink_tokens=4, embedder="e"
)


def encoded(text: str, namespace: str = "a", seed: int = 0, slots: int = 5) -> EncodedChunk:
    random = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(2, 2, slots, 8, generator=random, dtype=torch.bfloat16) for _ in range(2))
    vectors = np.eye(4, dtype=np.float32)[[seed % 4]]
    held = Slots(keys, values, torch.arange(slots, dtype=torch.int32), slots)
    return EncodedChunk(chunk_id(namespace, text), text, slots, held, vectors)


def record(document_id: str, *chunks: EncodedChunk) -> DocumentRecord:
    spans, at = [], 0
    for chunk in chunks:
        spans.append((chunk.chunk_id, Span(at, at + len(chunk.text))))
        at += len(chunk.text)
    return DocumentRecord(document_id, f"hash of {document_id} {at}", tuple(spans))


@pytest.fixture(params=["memory", "directory"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryBank:
    return MemoryBank(FINGERPRINT, tmp_path / "bank" if request.param == "directory" else None)


def test_what_is_committed_is_read_back_bit_for_bit(bank: MemoryBank) -> None:
    chunk = encoded("Ünïcode text\r\nwith an astral 𝕏", seed=3)
    bank.commit("a", [chunk], [record("d", chunk)])
    read = bank.slots(chunk.chunk_id)
    for part in ("keys", "values", "positions"):
        assert torch.equal(getattr(read, part), getattr(chunk.slots, part))
    assert read.span == chunk.slots.span
    assert bank.text(chunk.chunk_id) == chunk.text
    (listed,) = bank.index("a").chunks
    assert (listed.document_id, listed.span, listed.slots) == ("d", Span(0, len(chunk.text)), 5)


def test_the_order_of_reading_is_the_order_of_documents_and_of_chunks_in_them(bank: MemoryBank) -> None:
    first, second, third = (encoded(t, seed=i) for i, t in enumerate(("one", "two", "three")))
    bank.commit("a", [third, first, second], [record("z", second, third), record("b", first, second)])
    # "two" stands in both documents and is read where it stands first.
    assert [bank.text(c.chunk_id) for c in bank.index("a").chunks] == ["two", "three", "one"]


def test_a_document_given_again_replaces_the_old_one_and_what_only_it_held(bank: MemoryBank) -> None:
    shared, old, new = (encoded(t, seed=i) for i, t in enumerate(("shared", "old", "new")))
    bank.commit("a", [shared, old], [record("d", shared, old)])
    bank.commit("a", [new], [record("d", shared, new)])
    assert [bank.text(c.chunk_id) for c in bank.index("a").chunks] == ["shared", "new"]
    assert bank.stored_chunks([shared.chunk_id, old.chunk_id]) == {shared.chunk_id}


def test_a_chunk_that_a_document_on_its_way_needs_survives_the_replacement(bank: MemoryBank) -> None:
    old, new = encoded("old", seed=1), encoded("new", seed=2)
    bank.commit("a", [old], [record("d", old)])
    bank.commit("a", [new], [record("d", new)], needed={old.chunk_id})
    bank.commit("a", [], [record("e", old)])
    assert bank.text(bank.index("a").chunks[1].chunk_id) == "old"


def test_deleting_a_document_removes_it_and_its_namespace_when_it_was_the_last(bank: MemoryBank) -> None:
    chunk = encoded("x")
    bank.commit("a", [chunk], [record("d", chunk)])
    bank.delete("a", ["d"])
    assert bank.summaries() == []
    assert bank.stored_chunks([chunk.chunk_id]) == set()
    with pytest.raises(UnknownNamespaceError, match="no namespace 'a'"):
        bank.delete("a", ["d"])


def test_namespaces_share_nothing(bank: MemoryBank) -> None:
    mine, yours = encoded("same text", "a", seed=1), encoded("same text", "b", seed=2)
    bank.commit("a", [mine], [record("d", mine)])
    bank.commit("b", [yours], [record("d", yours)])
    assert mine.chunk_id != yours.chunk_id
    bank.delete("a", ["d"])
    assert torch.equal(bank.slots(yours.chunk_id).keys, yours.slots.keys)
    with pytest.raises(UnknownNamespaceError, match=r"no namespace 'a'; it has: 'b'"):
        bank.index("a")


def test_a_commit_that_fails_leaves_the_bank_as_it_was(bank: MemoryBank) -> None:
    chunk = encoded("x")
    bank.commit("a", [chunk], [record("d", chunk)])
    before = bank.digest()
    dangling = DocumentRecord("d", "h", (("not a chunk", Span(0, 1)),))
    with pytest.raises(BankError):
        bank.commit("a", [encoded("y", seed=1)], [dangling])
    assert bank.digest() == before


def test_another_process_reads_what_this_one_wrote(tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    chunks = [encoded(f"text {i}", seed=i) for i in range(3)]
    bank.commit("a", chunks, [record("d", *chunks)])
    script = (
        "import sys, pathlib\nfrom core.memory_bank import MemoryBank\n"
        "print(MemoryBank(path=pathlib.Path(sys.argv[1])).digest())"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "bank"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == bank.digest()


def test_a_second_writer_is_told_and_a_reader_is_not_kept_out(tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    chunk = encoded("x")
    bank.commit("a", [chunk], [record("d", chunk)])
    script = (
        "import sys, pathlib\nfrom core.memory_bank import MemoryBank\nfrom core.errors import BankError\n"
        "bank = MemoryBank(path=pathlib.Path(sys.argv[1]))\nassert bank.index('a').chunks\n"
        "try:\n    with bank.writing(): print('wrote')\nexcept BankError as error: print(error)"
    )
    with bank.writing():
        run = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "bank"], capture_output=True, text=True, check=True
        )
    assert "being written by another process" in run.stdout


def test_what_an_interrupted_write_left_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    chunk = encoded("x")
    bank.commit("a", [chunk], [record("d", chunk)])
    strays = [tmp_path / "bank/slots" / name for name in ("half.tmp", "unnamed.safetensors")]
    for stray in strays:
        stray.write_bytes(b"half a shard")
    with bank.writing():
        assert not any(stray.exists() for stray in strays)
        assert bank.slots(chunk.chunk_id)


def test_a_full_disk_is_said_and_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    chunk = encoded("x")
    bank.commit("a", [chunk], [record("d", chunk)])
    before = bank.digest()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        bank.commit("a", [encoded("y", seed=1)], [])
    monkeypatch.undo()
    assert bank.digest() == before
    assert len(list((tmp_path / "bank/slots").iterdir())) == 1


@pytest.mark.parametrize(
    "field", ["weights", "chunk_tokens", "ratio", "placement", "sink_tokens", "embedder", "encode"]
)
def test_a_bank_of_another_make_is_refused_naming_both_values(tmp_path: Path, field: str) -> None:
    MemoryBank(FINGERPRINT, tmp_path / "bank").close()
    other = {"weights": "v", "chunk_tokens": 32, "ratio": 8, "placement": "inserted", "sink_tokens": 0, "embedder": "f"}
    other["encode"] = False
    changed = FINGERPRINT.model_copy(update={field: other[field]})
    with pytest.raises(BankMismatchError, match=f"{field} {getattr(FINGERPRINT, field)!r}, not {other[field]!r}"):
        MemoryBank(changed, tmp_path / "bank")


def test_the_name_of_the_model_does_not_count_but_its_weights(tmp_path: Path) -> None:
    MemoryBank(FINGERPRINT, tmp_path / "bank").close()
    moved = FINGERPRINT.model_copy(update={"model": "/elsewhere/m"})
    assert MemoryBank(moved, tmp_path / "bank").fingerprint.model == "m"


def test_places_that_hold_no_bank_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BankError, match=r"no memory bank at .*missing: make one with"):
        MemoryBank(path=tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BankError, match="is a file: name a directory"):
        MemoryBank(FINGERPRINT, tmp_path / "file")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("x")
    with pytest.raises(BankError, match="holds other things"):
        MemoryBank(FINGERPRINT, tmp_path / "home")
    assert [entry.name for entry in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_damage_is_named(tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    chunk = encoded("x")
    bank.commit("a", [chunk], [record("d", chunk)])
    (shard,) = (tmp_path / "bank/slots").iterdir()
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(BankError, match=f"{shard.name} is missing or damaged"):
        bank.slots(chunk.chunk_id)
    bank.close()
    (tmp_path / "bank" / CATALOGUE).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(BankError, match="damaged"):
        MemoryBank(path=tmp_path / "bank")


def test_a_bank_of_a_later_format_is_refused(tmp_path: Path) -> None:
    MemoryBank(FINGERPRINT, tmp_path / "bank").close()
    with sqlite3.connect(tmp_path / "bank" / CATALOGUE) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    database.close()
    with pytest.raises(BankError, match="has format 99, this release reads 3"):
        MemoryBank(path=tmp_path / "bank")


def test_a_bank_that_keeps_text_only_has_no_slots(tmp_path: Path) -> None:
    text_only = FINGERPRINT.model_copy(update={"encode": False})
    bank = MemoryBank(text_only, tmp_path / "bank")
    chunk = dataclasses.replace(encoded("x"), slots=None)
    bank.commit("a", [chunk], [record("d", chunk)])
    assert bank.text(chunk.chunk_id) == "x"
    assert [c.slots for c in bank.index("a").chunks] == [0]
    assert [(s.slots, s.bytes) for s in bank.summaries()] == [(0, 0)]
    assert list((tmp_path / "bank/slots").iterdir()) == []
    assert len(bank.digest()) == 64
    with pytest.raises(BankError, match=r"keeps text only, chunk \w+ has no slots"):
        bank.slots(chunk.chunk_id)
    with bank.writing():  # what removes unnamed shards leaves it as it is
        pass
    assert bank.text(chunk.chunk_id) == "x"


def test_a_bank_made_before_text_only_ones_has_slots(tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    old = FINGERPRINT.model_dump_json(exclude={"encode"})
    for key, value in (("fingerprint", old), ("checksum", checksum(old))):
        bank._db.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
    bank.close()
    again = MemoryBank(FINGERPRINT, tmp_path / "bank")
    assert again.fingerprint.encode is True
    again.close()
