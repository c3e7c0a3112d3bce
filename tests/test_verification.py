"""A byte that was changed is found and named, and what the kept text allows is rebuilt."""

import os
import shutil
import signal
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from core import ingest
from core.backbone import Backbone
from core.catalogue import CATALOGUE, log_damage
from core.embedder import Embedder
from core.engine import Engine
from core.errors import BankError, WeightsError
from core.ingest import Document
from core.memory_bank import MemoryBank
from core.settings import CompressionSettings
from core.verification import Damage, repair, verify

from . import tiny_models
from .test_cli import cli  # noqa: F401 - a fixture
from .test_deletion import filled
from .test_memory_bank import FINGERPRINT, encoded, record

SETTINGS = CompressionSettings(chunk_tokens=64)


def no_engine() -> Engine:
    raise AssertionError("nothing was to be encoded")


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x04
    file.write_bytes(data)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    filled(tmp_path / "bank")[0].close()
    return tmp_path / "bank"


def shard_of(bank: Path) -> Path:
    return min((bank / "slots").iterdir())


def test_a_sound_bank_has_no_damage_and_verifying_changes_no_byte(bank: Path) -> None:
    before = {file: file.read_bytes() for file in bank.rglob("*") if file.is_file()}
    assert verify(bank) == []
    assert {file: file.read_bytes() for file in before} == before


def test_every_changed_byte_is_named_or_says_nothing(bank: Path, tmp_path: Path) -> None:
    opened = MemoryBank(path=bank)
    content = opened.digest()
    opened.close()
    found = 0
    for file in [bank / CATALOGUE, *(bank / "slots").iterdir()]:
        kept = file.read_bytes()
        for at in range(3, len(kept), 13 if file.parent.name == "slots" else 397):
            flip(file, at)
            damages = verify(bank)
            name = str(file.relative_to(bank))
            if damages:
                # Where the checksum of a shard was changed, it is the shard that does not agree with it.
                assert any(name == d.where or "than its checksum" in d.what for d in damages), (name, at, damages)
                found += 1
            else:  # of a page's free room: what the bank holds is what it held
                assert file.name == CATALOGUE
                again = MemoryBank(path=bank)
                assert again.digest() == content
                again.close()
            file.write_bytes(kept)
    assert found > 50
    assert verify(bank) == []


def rewritten(bank: Path, statement: str) -> None:
    with sqlite3.connect(bank / CATALOGUE) as database:
        database.execute(statement)
    database.close()


TAMPERED = {
    "UPDATE passages SET embedding = zeroblob(16) WHERE passage = 1": "the embeddings or counts of chunk",
    "UPDATE chunks SET tokens = tokens + 1": "the embeddings or counts of chunk",
    "UPDATE chunks SET text = x'00' WHERE rowid = 1": "the text of chunk",
    "UPDATE documents SET metadata = '{\"a\": 1}'": "the row of document 'kept' of namespace 'a' was changed",
    "UPDATE documents SET document_id = 'x' WHERE document = 1": "the row of document 'x'",
    "UPDATE placements SET start = 1 WHERE ordinal = 0": "the row of document",
    "DELETE FROM passages WHERE passage = 1": "the embeddings or counts of chunk",
    "UPDATE shards SET sha256 = 'x'": "holds other bytes",
    "UPDATE chunks SET shard = '../../etc/passwd'": "is named by chunks and has no checksum",
    "DELETE FROM chunks WHERE rowid = 1": "text of document 'kept' of namespace 'a' is missing",
    "UPDATE meta SET value = replace(value, '64', '65') WHERE key = 'fingerprint'": "its fingerprint was changed",
    "CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END": "damaged or not of this library's",
    "DROP INDEX passages_of_chunk": "passages_of_chunk of its catalogue is not as format 3",
}


@pytest.mark.parametrize("statement", TAMPERED)
def test_a_catalogue_that_was_tampered_with_is_said(statement: str, bank: Path) -> None:
    rewritten(bank, statement)
    assert any(TAMPERED[statement] in damage.what for damage in verify(bank))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lay_another_in_its_place(file: Path) -> None:
    shutil.copy(sorted(file.parent.iterdir())[1], file)


HARMS: dict[str, Callable[[Path], None]] = {
    "holds other bytes than its": truncate,
    "is missing": Path.unlink,
    "holds other bytes": lay_another_in_its_place,
    "of no commit": lambda file: (file.parent / "foreign.safetensors").write_bytes(b"x") and None,
}


@pytest.mark.parametrize("said", HARMS)
def test_shards_that_are_short_missing_or_foreign_are_named(said: str, bank: Path) -> None:
    HARMS[said](shard_of(bank))
    (damage,) = verify(bank)
    assert said in damage.what
    assert damage.where.startswith("slots/")


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_models.backbone()


@pytest.fixture
def reopened(
    tiny: Backbone, default_embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Engine]:
    """Return what opens a bank of two real documents in several commits, which this makes."""
    monkeypatch.setitem(ingest._PASS_TOKENS, "cpu", 64)
    place = tmp_path / "real"
    with Engine(tiny, default_embedder, SETTINGS, place) as engine:
        engine.add(Document(name, topics[name], {"of": name}) for name in ("pass", "with"))
    assert len(list((place / "slots").iterdir())) > 2
    return lambda: Engine(tiny, default_embedder, SETTINGS, place)


def digest(path: Path) -> str:
    bank = MemoryBank(path=path)
    try:
        return bank.digest()
    finally:
        bank.close()


def test_shards_and_embeddings_are_rebuilt_bit_for_bit(reopened: Callable[[], Engine], tmp_path: Path) -> None:
    place = tmp_path / "real"
    before = digest(place)
    first, second, *_ = sorted((place / "slots").iterdir())
    flip(first, first.stat().st_size // 2)
    second.unlink()
    (place / "slots" / "foreign.safetensors").write_bytes(b"x")
    rewritten(place, "UPDATE passages SET embedding = zeroblob(1536) WHERE passage = 1")
    done = repair(place, reopened)
    assert len(done.found) == 4
    assert done.lost == ()
    assert done.rebuilt > 2
    assert verify(place) == []
    assert digest(place) == before


def test_a_document_whose_text_is_gone_is_named_and_can_be_ingested_again(
    reopened: Callable[[], Engine], tmp_path: Path
) -> None:
    place = tmp_path / "real"
    rewritten(
        place, "UPDATE chunks SET text = x'00' WHERE chunk_id IN (SELECT chunk_id FROM placements WHERE document = 1)"
    )
    done = repair(place, no_engine)
    assert done.lost == ("pass (namespace default)",)
    assert verify(place) == []
    with reopened() as engine:
        assert [name for name, *_ in engine.bank.documents("default")] == ["with"]
        assert engine.add([Document("pass", topics["pass"])]).unchanged == 0
        assert len(engine.bank.documents("default")) == 2


def test_without_its_model_nothing_is_removed(bank: Path) -> None:
    shard_of(bank).unlink()
    rewritten(bank, "UPDATE documents SET metadata = '{}' WHERE document_id = 'secret'")

    def gone() -> Engine:
        raise WeightsError("the model is gone")

    before = verify(bank)
    with pytest.raises(WeightsError, match="gone"):
        repair(bank, gone)
    assert verify(bank) == before
    assert len(before) == 2


def test_a_catalogue_that_sqlite_cannot_read_is_written_anew_from_what_it_can(tmp_path: Path) -> None:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    for i in range(60):
        chunk = encoded(f"{i} " + os.urandom(900).hex(), seed=i)
        bank.commit("a", [chunk], [record(f"d{i}", chunk)])
    bank.close()
    file = tmp_path / "bank" / CATALOGUE
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = b"\xff" * 4096
    file.write_bytes(data)
    assert verify(tmp_path / "bank") != []
    done = repair(tmp_path / "bank", no_engine)
    assert verify(tmp_path / "bank") == []
    again = MemoryBank(path=tmp_path / "bank")
    kept = {name for name, *_ in again.documents("a")}
    assert len(kept) > 40
    assert {f"d{i}" for i in range(60)} - kept <= {name.split()[0] for name in done.lost}
    again.close()


def test_what_cannot_be_repaired_is_said_and_nothing_is_changed(bank: Path) -> None:
    file = bank / CATALOGUE
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(BankError, match="cannot be repaired"):
        repair(bank, no_engine)
    assert file.read_bytes() == b"x" * file.stat().st_size
    assert [entry.name for entry in bank.iterdir() if "salvaged" in entry.name] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_changed_byte_of_the_log_that_a_killed_process_left_is_named(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:
        filled(tmp_path / "bank")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    log = tmp_path / "bank" / f"{CATALOGUE}-wal"
    sound = log.read_bytes()
    assert log_damage(sound) is None
    assert log_damage(sound[:-2000]) is None  # where writing ended
    assert log_damage(b"") is None
    for at in range(40, len(sound) - 3 * 4120, 5003):
        changed = bytearray(sound)
        changed[at] ^= 1
        assert "write-ahead log was changed" in str(log_damage(bytes(changed))), at
    flip(log, 20)
    assert Damage(log.name, "the header of the write-ahead log was changed: what was committed last is lost") in verify(
        tmp_path / "bank"
    )


@pytest.mark.parametrize("number", [1, 2])
def test_a_bank_of_an_earlier_format_is_brought_to_this_one(number: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parent / f"data/bank-format-{number}.zip") as stored:
        stored.extractall(tmp_path / "old")
    one, two, three = (encoded(t, seed=i) for i, t in enumerate(("one", "two", "three")))
    assert verify(tmp_path / "old") == []
    old = MemoryBank(FINGERPRINT, tmp_path / "old")
    assert old.fingerprint.slots == "bf16"
    assert [c.chunk_id for c in old.index("a").chunks] == [c.chunk_id for c in (one, two, three)]
    for chunk in (one, two, three, encoded("other", "b", seed=3)):
        assert old.text(chunk.chunk_id) == chunk.text
        assert chunk.slots is not None
        assert torch.equal(old.slots(chunk.chunk_id).keys, chunk.slots.keys)
    assert old.document_metadata("a", "second") == {"year": 1991}
    more = encoded("more", seed=5)
    old.commit("a", [more], [record("third", more)])
    old.close()
    assert verify(tmp_path / "old") == []
    flip(shard_of(tmp_path / "old"), 400)
    assert len(verify(tmp_path / "old")) == 1


def test_a_shard_of_a_bank_in_int8_comes_back_to_the_bit(tmp_path: Path) -> None:
    settings = CompressionSettings(chunk_tokens=64, slots="int8")
    with Engine(tiny_models.backbone(), Embedder(device="cpu"), settings, tmp_path / "bank") as engine:
        engine.add([Document("assert", topics["assert"])])
        before = engine.bank.digest()
    assert verify(tmp_path / "bank") == []
    shard = shard_of(tmp_path / "bank")
    flip(shard, shard.stat().st_size // 2)
    (damage,) = verify(tmp_path / "bank")
    assert damage.where == f"slots/{shard.name}"

    def open_engine() -> Engine:
        return Engine(tiny_models.backbone(), Embedder(device="cpu"), settings, tmp_path / "bank")

    assert repair(tmp_path / "bank", open_engine).rebuilt > 1
    assert digest(tmp_path / "bank") == before


def test_the_command_line_names_damage_and_says_what_repair_did(cli, bank: Path) -> None:  # noqa: F811
    assert "every byte is as it was written" in cli("show", "--bank", bank, "--verify").out
    foreign = bank / "slots/foreign.safetensors"
    foreign.write_bytes(b"x")
    ran = cli("show", "--bank", bank, "--verify")
    assert ran.code == 1
    assert "damaged: slots/foreign.safetensors: is of no commit" in ran.out
    assert cli("repair", "--bank", bank).code == 0
    assert not foreign.exists()
    rewritten(bank, "UPDATE chunks SET text = x'00' WHERE rowid = 1")
    ran = cli("repair", "--bank", bank)
    assert ran.code == 1
    assert "lost: kept (namespace a): ingest it again" in ran.out
    for command in (("show", "--verify"), ("repair",)):
        ran = cli(*command, "--bank", bank / "none")
        assert (ran.code, ran.error.count("\n")) == (2, 1)
