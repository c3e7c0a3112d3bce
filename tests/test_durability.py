"""The harness in short: kills, full disks, flipped bits, hostile banks and names, many at once."""

import io
import os
import random
import shutil
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from core.benchmarks import durability, load
from core.benchmarks.durability import history, kill_points, try_harm
from core.benchmarks.durability.hostile import HARMS
from core.benchmarks.stand_in import StandInEngine
from core.errors import BankError, InputError
from core.ingest import Document
from core.memory_bank import MemoryBank
from core.report import print_bank
from core.verification import repair, verify

STORED = Path(__file__).parent / "data/bank-format-1.zip"
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


@forks
@pytest.mark.parametrize("fault", ["kill: moment", "kill: step", "kill: power cut", "full disk", "flipped bit"])
def test_a_bank_survives(fault: str, tmp_path: Path) -> None:
    count = 6 if fault.startswith("kill") else 4
    result = durability.measure(count, 3, STORED, tmp_path, [fault])
    assert result.failures == []
    assert sum(row.survived for row in result.rows) == count or result.skipped


@forks
@pytest.mark.parametrize("wrong", ["no sync of a shard", "no transaction", "no sync of names"])
def test_the_harness_sees_what_is_wrong(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ordering that the bank rests on is taken away once."""
    if wrong == "no transaction":
        monkeypatch.setattr(MemoryBank, "_transaction", MemoryBank._guarded)
    else:
        spoil(wrong, monkeypatch)
    result = durability.measure(10, 3, STORED, tmp_path, ["kill: power cut"])
    assert result.failures


def spoil(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from core import slot_store

    real = slot_store.sync
    skipped = (lambda path: path.is_dir()) if wrong == "no sync of names" else (lambda path: path.suffix == ".tmp")
    monkeypatch.setattr(slot_store, "sync", lambda path: None if skipped(path) else real(path))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile") / "bank"
    for namespace in ("a", "b"):
        texts = {"d": " ".join(f"word{i}" for i in range(150)), "e": "a short text"}
        history.perform(history.Operation("ingest", namespace, texts), place)
    return place


@forks
@pytest.mark.parametrize("harm", HARMS)
def test_a_bank_of_other_hands_leads_to_errors_of_this_library_only(harm: str, sound: Path, tmp_path: Path) -> None:
    try_harm(harm, sound, tmp_path / "case", random.Random(1))


NAMES = [
    *("..", "/", "../../etc/passwd", "/etc/passwd", "a/../b", "~root", "C:\\x", "-rf", "--help", "*", "%s{}%n"),
    *(
        "a\0b",
        "a\nb",
        "\r\x1b[31mred\x07",
        "\u202egnp.exe",
        "x" * 10_000,
        "\ufeff",
        "é",
        "e\u0301",
        "а",
        "a",
        "ａ",
        "A",
    ),
    *("'; DROP TABLE chunks; --", '"', "a' OR '1'='1", "[bold]", "[/red]", "NULL", "nul", "\u0130", "𝕏"),
]


def test_hostile_names_work_fully_and_make_no_path(tmp_path: Path) -> None:
    with StandInEngine(tmp_path / "bank") as engine:
        for number, name in enumerate(NAMES):
            engine.add([Document(name, f"text number {number}"), Document("other", "another text")], name)
        for number, name in enumerate(NAMES):
            assert {c.document_id for c in engine.bank.index(name).chunks} == {name, "other"}
            (chunk_id, _), *_ = next(r for r in engine.bank.records(name) if r.document_id == name).placements
            assert engine.bank.text(chunk_id) == f"text number {number}"
            engine.delete(name, [name])
            assert [r.document_id for r in engine.bank.records(name)] == ["other"]
        assert {s.namespace for s in engine.bank.summaries()} == set(NAMES)
        for name in NAMES[1:]:
            engine.bank.delete(name, compact=False)
        engine.bank.compact()
        assert [s.namespace for s in engine.bank.summaries()] == NAMES[:1]
    assert verify(tmp_path / "bank") == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["bank"]
    assert {entry.name for entry in (tmp_path / "bank").iterdir()} == {"bank.sqlite", "slots", "write.lock"}


def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    with StandInEngine(tmp_path / "bank") as engine:
        engine.add([Document("\x1b]0;title\x07[/red]", "text")], "[red]\x1b[2J[/nothing]")
        console = Console(width=200, record=True, file=io.StringIO())
        print_bank(console, engine.bank)
    shown = console.export_text()
    assert r"[red]\x1b[2J[/nothing]" in shown
    assert r"\x1b]0;title\x07[/red]" in shown
    assert "\x1b" not in shown


def test_names_of_half_a_character_are_refused_everywhere(tmp_path: Path) -> None:
    with StandInEngine(tmp_path / "bank") as engine:
        engine.add([Document("d", "text")], "a")
        for call in (
            lambda: engine.add([Document("d", "text")], "\ud800"),
            lambda: engine.add([Document("\ud800", "text")], "a"),
            lambda: engine.delete("\ud800"),
            lambda: engine.delete("a", ["\ud800"]),
            lambda: engine.bank.index("\ud800"),
        ):
            with pytest.raises(InputError, match=r"no Unicode|surrogate"):
                call()


@forks
def test_many_read_while_others_write_and_none_meets_an_error() -> None:
    rows, errors = load.measure(readers=2, writers=2, namespaces=8, seconds=1.5)
    assert errors == []
    assert all(row.done > 0 for row in rows)


def test_documents_that_come_and_go_are_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    """Another connection replaces and deletes while this one lists and reads."""
    text = {n: " ".join(f"w{n}-{i}" for i in range(300)) for n in range(2)}
    with StandInEngine(tmp_path / "bank") as writer:
        writer.add([Document("stays", "a text that stays")], "a")
        stop, seen = threading.Event(), Counter[object]()

        def read() -> None:
            reading = MemoryBank(path=tmp_path / "bank")
            while not stop.is_set():
                for record in reading.records("a"):
                    try:
                        seen["".join(reading.text(chunk_id) for chunk_id, _ in record.placements)] += 1
                    except BankError as error:
                        seen["told" if "deleted or replaced" in str(error) else repr(error)] += 1
            reading.close()

        reader = threading.Thread(target=read)
        reader.start()
        for turn in range(24):
            writer.add([Document("goes", text[turn % 2])], "a")
            if turn % 3 == 2:
                writer.delete("a", ["goes"])
        stop.set()
        reader.join()
    assert set(seen) - {"told"} <= {"a text that stays", *text.values()}
    assert len(seen) > 1


@pytest.mark.parametrize("read", ["records", "index", "summaries"])
def test_what_takes_several_queries_is_of_one_moment(
    read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        StandInEngine(tmp_path / "bank") as writer,
        closing(MemoryBank(writer.bank.fingerprint, tmp_path / "bank")) as bank,
    ):
        writer.add([Document("d", "one text")], "a")
        given = {"records": ("a",), "index": ("a", lambda *_: True), "summaries": ()}[read]
        real, turn = bank.rows, iter(range(100))

        def rows(query: str, *values: object) -> list[tuple[object, ...]]:
            found = real(query, *values)
            writer.add([Document("d", f"text {next(turn)}"), Document(f"d{next(turn)}", "more")], "a")
            return found

        before = getattr(bank, read)(*given)
        monkeypatch.setattr(bank, "rows", rows)
        during = getattr(bank, read)(*given)
    if read == "index":
        query = writer.embedder.embed(["one text"])
        assert [c.chunk_id for c in during.chunks] == [c.chunk_id for c in before.chunks]
        assert during.similarities(query, None).tolist() == before.similarities(query, None).tolist()
    else:
        assert during == before


def test_a_changed_column_name_is_damage(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "bank")
    file = tmp_path / "bank/bank.sqlite"
    file.write_bytes(file.read_bytes().replace(b"key TEXT PRIMARY KEY, value", b"key TEXT PRIMARY KEY, val\xf5e"))
    assert "damaged" in verify(tmp_path / "bank")[0].what
    with pytest.raises(BankError, match="cannot be repaired"):
        repair(tmp_path / "bank", lambda: StandInEngine(tmp_path / "bank"))


@pytest.mark.parametrize("column", ["checksum", "metadata", "sha256"])
def test_a_document_whose_row_is_no_utf8_is_named_when_it_is_lost(column: str, sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "bank")
    with closing(sqlite3.connect(tmp_path / "bank/bank.sqlite", isolation_level=None)) as database:
        database.execute(f"UPDATE documents SET {column} = CAST(x'ff41' AS TEXT) WHERE document = 1")
    done = repair(tmp_path / "bank", lambda: StandInEngine(tmp_path / "bank"))
    assert done.lost == ("d (namespace a)",)
    assert verify(tmp_path / "bank") == []


def test_a_copy_that_a_killed_repair_left_goes_with_the_next_write(tmp_path: Path) -> None:
    with StandInEngine(tmp_path / "bank") as engine:
        engine.add([Document("d", "text")], "a")
        left = tmp_path / "bank/bank.sqlite.salvaged"
        left.write_bytes(b"text")
        engine.delete("a", ["d"])
    assert not left.exists()


def test_a_power_cut_undoes_what_was_not_made_durable(tmp_path: Path) -> None:
    slots, journal = tmp_path / "slots", tmp_path / "journal"
    slots.mkdir()
    for name in ("durable", "half"):
        (slots / name).write_bytes(b"x" * 1000)
    journal.write_text(f"file {(slots / 'durable').stat().st_ino}\nnamed 1 {slots / 'durable'}\nfolder\n")
    sizes = Counter[int]()
    for seed in range(20):
        (slots / "half").write_bytes(b"x" * 1000)
        kill_points.cut_power(slots, journal, set(), random.Random(seed))
        sizes[(slots / "half").stat().st_size == 1000] += 1
        assert (slots / "durable").stat().st_size == 1000
    assert sizes[False] > 5


def test_the_catalogue_waits_for_the_disk(tmp_path: Path) -> None:
    """A killed process loses nothing that it handed to the system; only a power cut would show this."""
    with StandInEngine(tmp_path / "bank") as engine:
        assert engine.bank.rows("PRAGMA synchronous") == [(2,)]
        assert engine.bank.rows("PRAGMA journal_mode") == [("wal",)]
