"""What is deleted is in no file, and everything else is as if it had never been there."""

import errno
import os
import random
import sqlite3
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core import slot_store
from core.catalogue import CATALOGUE
from core.errors import BankError, StorageError, UnknownNamespaceError
from core.memory_bank import DocumentRecord, EncodedChunk, MemoryBank
from core.slot_store import MemorySlots, ShardedSlots

from .test_memory_bank import FINGERPRINT, encoded, record

HISTORY = 1
"""A seed whose history makes SQLite 3.40 leave copies."""
SECRET = "The pass phrase is xylophone quartzite, and nobody else may know it. " * 3


def secret_chunk(namespace: str = "a") -> EncodedChunk:
    chunk = encoded(SECRET, namespace, seed=99, slots=7)
    vectors = np.random.default_rng(7).standard_normal((2, 4)).astype(np.float32)
    return EncodedChunk(chunk.chunk_id, chunk.text, chunk.tokens, chunk.slots, vectors)


def traces(chunk: EncodedChunk) -> list[bytes]:
    """Return what of a chunk could lie in a file."""
    slots = chunk.slots
    assert slots is not None
    tensors = [tensor.contiguous().view(-1)[:16].view(dtype=tensor.dtype) for tensor in (slots.keys, slots.values)]
    return [
        chunk.text.encode()[:60],
        zlib.compress(chunk.text.encode())[8:60],
        chunk.chunk_id.encode(),
        chunk.embeddings.astype("<f4").tobytes()[:16],
        *(tensor.view(torch.uint8).numpy().tobytes() for tensor in tensors),
    ]


def found(folder: Path, chunk: EncodedChunk) -> list[tuple[str, int]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [(f.name, i) for f in files for i, trace in enumerate(traces(chunk)) if trace in f.read_bytes()]


def others(bank: MemoryBank) -> None:
    """Commit documents that stay."""
    one, two = encoded("one", seed=1), encoded("two", seed=2)
    bank.commit("a", [one, two], [record("kept", one, two)])
    three = encoded("three", "b", seed=3)
    bank.commit("b", [three], [record("kept", three)])


def filled(path: Path | None) -> tuple[MemoryBank, EncodedChunk]:
    """Return a bank whose secret shares a shard with a document that stays."""
    bank = MemoryBank(FINGERPRINT, path)
    others(bank)
    secret, beside = secret_chunk(), encoded("beside", seed=4)
    document = record("secret", secret)
    document = DocumentRecord(document.document_id, document.sha256, document.placements, {"by": "xylophone"})
    bank.commit("a", [secret, beside], [document, record("beside", beside)])
    return bank, secret


def without(path: Path | None) -> MemoryBank:
    bank = MemoryBank(FINGERPRINT, path)
    others(bank)
    beside = encoded("beside", seed=4)
    bank.commit("a", [beside], [record("beside", beside)])
    return bank


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_a_bank_after_a_deletion_is_the_bank_that_never_had_it(place: str, tmp_path: Path) -> None:
    on_disk = place == "directory"
    bank, secret = filled(tmp_path / "bank" if on_disk else None)
    bank.index("a")
    if on_disk:
        assert {i for _, i in found(tmp_path, secret)} == {1, 2, 3, 4, 5}  # the text lies there compressed
    bank.delete("a", ["secret"])
    assert bank.digest() == without(None).digest()
    assert [chunk.document_id for chunk in bank.index("a").chunks] == ["kept", "kept", "beside"]
    with pytest.raises(BankError, match="deleted or replaced"):
        bank.slots(secret.chunk_id)
    if on_disk:
        assert found(tmp_path, secret) == []
        assert not any(b"xylophone" in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    else:
        held = bank._db.serialize()
        assert not any(trace in held for trace in (*traces(secret), b"xylophone"))
        assert isinstance(bank._slots, MemorySlots)
        assert secret.chunk_id not in bank._slots.held("")


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_a_deletion_can_leave_the_bytes_to_a_later_one(place: str, tmp_path: Path) -> None:
    on_disk = place == "directory"
    bank, secret = filled(tmp_path / "bank" if on_disk else None)
    bank.delete("a", ["secret"], compact=False)
    assert bank.digest() == without(None).digest()
    assert [chunk.document_id for chunk in bank.index("a").chunks] == ["kept", "kept", "beside"]
    if on_disk:
        assert found(tmp_path, secret) != []
    bank.delete("b", ["kept"])
    assert found(tmp_path, secret) == []
    assert len(bank.slots(encoded("beside").chunk_id)) == 5


def test_copies_that_moved_rows_left_in_the_catalogue_are_gone(tmp_path: Path) -> None:
    """What secure_delete alone does not do: SQLite moves rows between pages and leaves copies."""
    bank, dice = MemoryBank(FINGERPRINT, tmp_path / "bank"), random.Random(HISTORY)
    living: dict[str, list[EncodedChunk]] = {}
    dead: list[EncodedChunk] = []
    for i in range(80):
        texts = [f"{i} {k} {dice.randbytes(dice.choice([20, 200, 3000])).hex()}" for k in range(dice.choice([1, 3, 8]))]
        vectors = [np.frombuffer(dice.randbytes(4 * 64), dtype="<u4").astype("<f4").reshape(1, 64) for _ in texts]
        chunks = [EncodedChunk(encoded(t).chunk_id, t, 5, None, v) for t, v in zip(texts, vectors, strict=True)]
        bank.commit("a", chunks, [record(f"d{i}", *chunks)])
        living[f"d{i}"] = chunks
        if len(living) > 3 and dice.random() < 0.5:
            name = dice.choice(list(living))
            dead += living.pop(name)
            bank.delete("a", [name], compact=False)
    bank.compact()
    held = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    stayed = [c for cs in living.values() for c in cs]
    assert all(c.chunk_id.encode() in held and c.embeddings.tobytes()[-16:] in held for c in stayed)
    assert not any(c.chunk_id.encode() in held or c.embeddings.tobytes()[-16:] in held for c in dead)


def test_a_namespace_goes_whole_and_with_it_what_an_interrupted_ingest_left(tmp_path: Path) -> None:
    bank, secret = filled(tmp_path / "bank")
    on_its_way = encoded("a document that was never completed", seed=5)
    bank.commit("a", [on_its_way])
    assert len(bank.index("a").chunks) == 4
    bank.delete("a")
    with pytest.raises(UnknownNamespaceError, match="it has: 'b'"):
        bank.index("a")
    assert found(tmp_path, secret) == []
    assert found(tmp_path, on_its_way) == []
    assert len(bank.index("b").chunks) == 1
    assert list(bank._indexes) == ["b"]


def test_a_namespace_whose_only_ingest_was_interrupted_can_be_deleted(tmp_path: Path) -> None:
    bank, on_its_way = MemoryBank(FINGERPRINT, tmp_path / "bank"), secret_chunk("c")
    others(bank)
    bank.commit("c", [on_its_way])
    with pytest.raises(BankError, match="namespace 'c' has no document 'd'"):
        bank.delete("c", ["d"])
    bank.delete("c")
    assert found(tmp_path, on_its_way) == []
    with pytest.raises(UnknownNamespaceError, match="no namespace 'c'"):
        bank.delete("c")


def test_text_that_another_document_holds_stays(tmp_path: Path) -> None:
    bank, secret = filled(tmp_path / "bank")
    bank.commit("a", [], [record("copy", secret)])
    bank.delete("a", ["secret"])
    assert bank.text(secret.chunk_id) == SECRET
    assert len(bank.slots(secret.chunk_id)) == 7
    bank.delete("a", ["copy"])
    assert found(tmp_path, secret) == []


def test_replaced_text_is_gone_after_compaction_and_space_comes_back(tmp_path: Path) -> None:
    bank, secret = filled(tmp_path / "bank")
    bank.compact()
    size = (tmp_path / "bank" / CATALOGUE).stat().st_size
    many = [encoded(f"{i} " * 4000, seed=i) for i in range(30)]
    bank.commit("a", many, [record("many", *many)])
    new = encoded("harmless", seed=8)
    bank.commit("a", [new], [record("secret", new), record("many", new)])
    bank.compact()
    assert found(tmp_path, secret) == []
    assert (tmp_path / "bank" / CATALOGUE).stat().st_size <= size


@pytest.mark.parametrize("document_ids", [["kept", "nothing"], ["nothing"]])
def test_an_unknown_document_removes_nothing(document_ids: list[str], tmp_path: Path) -> None:
    bank, _ = filled(tmp_path / "bank")
    before = bank.digest()
    with pytest.raises(BankError, match="namespace 'a' has no document 'nothing'"):
        bank.delete("a", document_ids)
    with pytest.raises(UnknownNamespaceError, match="no namespace 'c'"):
        bank.delete("c")
    assert bank.digest() == before


def test_no_documents_are_not_all_documents(tmp_path: Path) -> None:
    bank, _ = filled(tmp_path / "bank")
    before = bank.digest()
    bank.delete("a", [])
    assert bank.digest() == before


class Killed(BaseException):
    """The process is gone."""


def killing(target: type, name: str, at: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make the ``at``-th call of a method end the process, before it does anything; return what counts the calls."""
    calls, real = 0, getattr(target, name)

    def call(self: object, *args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Killed
        return real(self, *args, **named)

    monkeypatch.setattr(target, name, call)
    return lambda: calls


POINTS = [
    (MemoryBank, "_remove_document"),
    (MemoryBank, "_erase"),
    (ShardedSlots, "write"),
    (MemoryBank, "_transaction"),
    (ShardedSlots, "keep_only"),
    (MemoryBank, "_checkpoint"),
]


@pytest.mark.parametrize(("target", "name"), POINTS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("at", [1, 2])
def test_a_deletion_that_is_killed_anywhere_is_whole_or_not_begun_and_can_be_finished(
    target: type, name: str, at: int, tmp_path: Path
) -> None:
    bank, secret = filled(tmp_path / "bank")
    before, after = bank.digest(), without(None).digest()
    with pytest.MonkeyPatch.context() as patched:
        calls = killing(target, name, at, patched)
        try:
            bank.delete("a", ["secret"])
        except Killed:
            pass
        else:
            assert calls() < at  # there is no such point
    bank.close()
    again = MemoryBank(path=tmp_path / "bank")
    assert again.digest() in (before, after)
    if again.digest() == before:
        again.delete("a", ["secret"])
    again.compact()
    assert again.digest() == after
    assert found(tmp_path, secret) == []


def end_at(point: int, bank: MemoryBank) -> None:
    """Make this process end, as if killed, at its ``point``-th statement or change of a file from here on."""
    passed = 0

    def step() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os._exit(3)

    def stepped(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            step()
            return real(*arguments, **named)

        return call

    def save_file(tensors: object, target: Path, **named: object) -> None:
        target.write_bytes(b"half a shard")
        step()
        real_save(tensors, target, **named)

    real_save, slot_store.save_file = slot_store.save_file, save_file
    os.replace, os.fsync, os.unlink = stepped(os.replace), stepped(os.fsync), stepped(os.unlink)
    bank._db.set_trace_callback(lambda statement: step())
    bank._db.set_progress_handler(step, 100)  # also amid a long statement, which VACUUM is


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a forked process")
def test_a_process_that_ends_at_any_step_leaves_a_bank_that_the_next_deletion_finishes(tmp_path: Path) -> None:
    after = without(None).digest()
    code, point, before_or_after = 3, 0, set()
    while code:
        point += 1
        place = tmp_path / str(point)
        bank, secret = filled(place)
        before = bank.digest()
        bank.close()
        if (child := os.fork()) == 0:
            try:
                bank = MemoryBank(path=place)
                end_at(point, bank)
                bank.delete("a", ["secret"])
            except BaseException:  # noqa: BLE001 - a forked test must not run on
                os._exit(4)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 3)
        again = MemoryBank(path=place)
        digest = again.digest()
        assert digest in (before, after)
        before_or_after.add(digest)
        if digest == before:
            again.delete("a", ["secret"])
        elif code:
            again.compact()
        assert again.digest() == after
        assert found(place, secret) == []
        assert len(list((place / "slots").iterdir())) == 3
        again.close()
    assert before_or_after == {before, after}
    assert point > 20


def test_a_full_disk_while_erasing_says_that_the_bytes_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, secret = filled(tmp_path / "bank")

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"No space left on device; what was deleted .* not yet erased; .* compact"):
        bank.delete("a", ["secret"])
    monkeypatch.undo()
    assert bank.digest() == without(None).digest()
    bank.compact()
    assert found(tmp_path, secret) == []


def test_a_deletion_beside_another_writer_removes_nothing(tmp_path: Path) -> None:
    bank, _ = filled(tmp_path / "bank")
    other, before = MemoryBank(path=tmp_path / "bank"), bank.digest()
    with other.writing():
        for call in (lambda: bank.delete("a", ["secret"]), bank.compact):
            with pytest.raises(BankError, match="being written by another process"):
                call()
    assert bank.digest() == before


def test_a_reader_follows_slots_however_often_they_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    chunks = [encoded(f"text {i}", seed=i) for i in range(4)]
    bank.commit("a", chunks, [record(f"d{i}", chunk) for i, chunk in enumerate(chunks)])
    going, real = ["d0", "d1", "d2"], ShardedSlots.read

    def read(self: ShardedSlots, chunk_id: str, shard: str) -> object:
        if going and threading.current_thread() is reader:
            thread = threading.Thread(target=bank.delete, args=("a", [going.pop()]))
            thread.start()
            thread.join()
        return real(self, chunk_id, shard)

    read_back: list[object] = []
    reader = threading.Thread(target=lambda: read_back.append(bank.slots(chunks[3].chunk_id)))
    monkeypatch.setattr(ShardedSlots, "read", read)
    reader.start()
    reader.join()
    assert [len(slots) for slots in read_back] == [5]
    assert going == []


@pytest.mark.parametrize("through", ["the same bank", "another connection"])
def test_threads_that_read_meanwhile_see_whole_chunks(through: str, tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    reading = bank if through == "the same bank" else MemoryBank(path=tmp_path / "bank")
    chunks = [encoded(f"text {i}", seed=i) for i in range(40)]
    bank.commit("a", chunks, [record(f"d{i}", chunk) for i, chunk in enumerate(chunks)])
    kept, errors, stop = chunks[20:], list[BaseException](), threading.Event()

    def read() -> None:
        while not stop.is_set():
            for chunk in kept:
                try:
                    assert len(reading.slots(chunk.chunk_id)) == 5
                    assert reading.text(chunk.chunk_id) == chunk.text
                    assert {c.chunk_id for c in reading.index("a").chunks} >= {c.chunk_id for c in kept}
                except BaseException as error:  # noqa: BLE001 - shown by the test
                    errors.append(error)
                    return

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20):
        bank.delete("a", [f"d{i}"])
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(reading.index("a").chunks) == 20


def test_a_reader_that_does_not_end_is_said_and_compaction_finishes(tmp_path: Path) -> None:
    bank, secret = filled(tmp_path / "bank")
    bank._db.execute("PRAGMA busy_timeout = 100")
    reader = sqlite3.connect(tmp_path / "bank" / CATALOGUE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM documents").fetchall()
    with pytest.raises(BankError, match=r"read by another process.*compact"):
        bank.delete("a", ["secret"])
    assert bank.digest() == without(None).digest()
    reader.execute("COMMIT")
    reader.close()
    bank.compact()
    assert found(tmp_path, secret) == []
