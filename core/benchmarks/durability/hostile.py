"""Banks of other hands: what anyone could put into a directory, and what then may happen: nothing but an error."""

import json
import os
import random
import signal
import sqlite3
import struct
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ...bank_files import kind_of
from ...catalogue import CATALOGUE, checksum
from ...errors import CompressedMemoryError
from ...ingest import Document
from ...memory_bank import MemoryBank
from ...verification import repair, verify
from ..stand_in import StandInEngine
from .history import HistoryError

Harm = Callable[[Path, Path, random.Random], None]
"""Harms the bank in the first directory; the second is outside it and not to be touched."""

_ROOM = 1 << 30
"""Bytes of memory that a process may take beside what it has."""
_PATIENCE = 60.0


def _sql(*statements: str) -> Harm:
    def harm(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
        with closing(sqlite3.connect(bank / CATALOGUE, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)

    return harm


def _file(name: str, make: Callable[[bytes, random.Random], bytes]) -> Harm:
    def harm(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
        for file in bank.glob(name):
            file.write_bytes(make(file.read_bytes(), dice))

    return harm


def _link(name: str) -> Harm:
    """Put a symbolic link to something outside in the place of what is there."""

    def harm(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
        file = next(iter(bank.glob(name)), bank / name)
        target = outside / ("folder" if file.is_dir() else "file")
        if kind_of(file):
            file.rename(outside / "moved")
            target = outside / "moved"
        file.symlink_to(target)

    return harm


def _pipe(name: str) -> Harm:
    def harm(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
        file = next(iter(bank.glob(name)), bank / name)
        file.unlink(missing_ok=True)
        os.mkfifo(file)

    return harm


def _folder(name: str) -> Harm:
    def harm(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
        file = next(iter(bank.glob(name)), bank / name)
        file.unlink(missing_ok=True)
        file.mkdir()
        (file / "inner").write_bytes(b"x")

    return harm


def _closed(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
    for file in (bank / CATALOGUE, *(bank / "slots").iterdir()):
        file.chmod(0)


def _header(**changes: object) -> Callable[[bytes, random.Random], bytes]:
    """Rewrite the header of a shard: each tensor's entries are changed to ``changes``."""

    def make(data: bytes, dice: random.Random) -> bytes:  # noqa: ARG001
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        for name, entry in header.items():
            if name != "__metadata__":
                entry |= changes
        written = json.dumps(header).encode()
        return struct.pack("<Q", len(written)) + written + data[8 + size :]

    return make


def _bomb(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
    packing = zlib.compressobj(9)
    megabyte = b" " * (1 << 20)
    packed = b"".join(packing.compress(megabyte) for _ in range(16)) + packing.flush()
    with closing(sqlite3.connect(bank / CATALOGUE, isolation_level=None)) as database:
        database.execute("UPDATE chunks SET text = ?", (packed,))


def _journal(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
    """A rollback journal whose end names a file, which SQLite removes when it takes the journal in."""
    name = str(outside / "file").encode()
    head = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 0, 0, 1, 512, 4096)
    end = struct.pack(">I", 1) + name + struct.pack(">2I", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    (bank / f"{CATALOGUE}-journal").write_bytes(head.ljust(512, b"\0") + end)


def _log(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
    (bank / f"{CATALOGUE}-wal").write_bytes(dice.randbytes(9000))


def _fingerprint(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
    said = '{"model": 7}'
    with closing(sqlite3.connect(bank / CATALOGUE, isolation_level=None)) as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'fingerprint'", (said,))
        database.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (checksum(said),))


def _noise(bank: Path, outside: Path, dice: random.Random) -> None:  # noqa: ARG001
    """Random bytes in random places of random files."""
    for file in [f for f in sorted(bank.rglob("*")) if f.is_file() and dice.random() < 0.5]:
        data = bytearray(file.read_bytes())
        for _ in range(dice.choice((1, 8, 200))):
            if data:
                at = dice.randrange(len(data))
                data[at : at + dice.randrange(1, 9)] = dice.randbytes(dice.randrange(9))
        file.write_bytes(data[: dice.randrange(len(data))] if data and dice.random() < 0.2 else data)


_ENDLESS = "WITH RECURSIVE n(key) AS (SELECT 1 UNION ALL SELECT key + 1 FROM n) SELECT key, key AS value FROM n"
HARMS: dict[str, Harm] = {
    "noise": _noise,
    "empty catalogue": _file(CATALOGUE, lambda _data, _dice: b""),
    "truncated catalogue": _file(CATALOGUE, lambda data, dice: data[: dice.randrange(len(data))]),
    "garbage catalogue": _file(CATALOGUE, lambda data, dice: dice.randbytes(len(data))),
    "garbage pages": _file(CATALOGUE, lambda data, dice: data[:4096] + dice.randbytes(len(data) - 4096)),
    "garbage log": _log,
    "journal that names a file": _journal,
    "catalogue is a folder": _folder(CATALOGUE),
    "catalogue is a pipe": _pipe(CATALOGUE),
    "log is a pipe": _pipe(f"{CATALOGUE}-wal"),
    "lock is a pipe": _pipe("write.lock"),
    "shard is a pipe": _pipe("slots/*"),
    "shard is a folder": _folder("slots/*"),
    "folder among shards": _folder("slots/foreign"),
    "catalogue is a link": _link(CATALOGUE),
    "log is a link": _link(f"{CATALOGUE}-wal"),
    "lock is a link": _link("write.lock"),
    "shards' folder is a link": _link("slots"),
    "shard is a link": _link("slots/*"),
    "link among shards": _link("slots/foreign.safetensors"),
    "salvaged is a link": _link(f"{CATALOGUE}.salvaged"),
    "nothing may be read": _closed,
    "shard with a huge header": _file("slots/*", lambda data, _dice: struct.pack("<Q", 1 << 62) + data[8:]),
    "shard of another type": _file("slots/*", _header(dtype="I16")),
    "shard of another shape": _file("slots/*", _header(shape=[1 << 40, 1 << 40])),
    "shard with wide offsets": _file("slots/*", _header(data_offsets=[0, 1 << 50])),
    "empty shard": _file("slots/*", lambda _data, _dice: b""),
    "zlib bomb": _bomb,
    "shard above": _sql("UPDATE chunks SET shard = '../../outside/file'", "UPDATE shards SET shard = '../' || shard"),
    "absolute shard": _sql("UPDATE chunks SET shard = '/etc/passwd'"),
    "shard is a number": _sql("UPDATE chunks SET shard = 7", "UPDATE shards SET shard = x'00' WHERE rowid = 1"),
    "short embeddings": _sql("UPDATE passages SET embedding = x'000102'"),
    "uneven embeddings": _sql("UPDATE passages SET embedding = zeroblob(4 * passage)"),
    "embeddings of no number": _sql("UPDATE passages SET embedding = x'0000c07f0000c07f0000c07f0000c07f'"),
    "embeddings are text": _sql("UPDATE passages SET embedding = 'abcd'"),
    "no embeddings": _sql("DELETE FROM passages"),
    "text is a number": _sql("UPDATE chunks SET text = 7"),
    "text is no zlib": _sql("UPDATE chunks SET text = x'0102030405'"),
    "counts are text": _sql("UPDATE chunks SET tokens = 'many', slots = 'some', bytes = 'few'"),
    "counts are below zero": _sql("UPDATE chunks SET tokens = -5, bytes = -9223372036854775807"),
    "places are text": _sql("UPDATE placements SET start = 'a', end = x'00'"),
    "ids are bytes": _sql("UPDATE documents SET document_id = CAST(document AS BLOB), namespace = x'00'"),
    "ids are no UTF-8": _sql("UPDATE documents SET document_id = CAST(x'ff' || document_id AS TEXT)"),
    "metadata is no JSON": _sql("UPDATE documents SET metadata = '{{'"),
    "metadata is deep": _sql("UPDATE documents SET metadata = replace(hex(zeroblob(100000)), '0', '[')"),
    "metadata is a list": _sql("UPDATE documents SET metadata = '[]'"),
    "endless view": _sql("DROP TABLE meta", f"CREATE VIEW meta AS {_ENDLESS}"),
    "endless passages": _sql("DROP TABLE passages", f"CREATE VIEW passages AS {_ENDLESS}"),
    "trigger": _sql("CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END"),
    "foreign table": _sql("CREATE TABLE foreign_table (x)"),
    "virtual table": _sql("CREATE VIRTUAL TABLE v USING fts5(x)"),
    "no tables": _sql("DROP TABLE passages", "DROP TABLE placements", "DROP TABLE documents", "DROP TABLE chunks"),
    "format is a number": _sql("DELETE FROM meta WHERE key = 'format'", "INSERT INTO meta VALUES ('format', x'32')"),
    "no fingerprint": _sql("DELETE FROM meta WHERE key = 'fingerprint'"),
    "foreign fingerprint": _fingerprint,
}


def try_bank(bank: Path, outside: Path) -> None:
    """Do all that a user may do with the bank in directory ``bank``, in a process of its own.

    Raises:
        HistoryError: something else than an error of this library came of it, it took too long or too much memory, or
            something in directory ``outside`` was touched.
    """
    import resource  # POSIX only, as forking is

    before = dict(_contents(outside))
    if (child := os.fork()) == 0:
        try:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + _ROOM, size + _ROOM))
            signal.alarm(int(_PATIENCE))
            for attempt in (_read, verify, _repair, _write, _read):
                with suppress(CompressedMemoryError):
                    attempt(bank)
        except BaseException:  # noqa: BLE001 - a forked process must not run on
            (bank.parent / "error").write_text(traceback.format_exc())
            os._exit(4)
        os._exit(0)
    start = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        error = bank.parent / "error"
        said = error.read_text() if error.exists() else f"after {time.monotonic() - start:.0f} s"
        raise HistoryError(f"ended with {status}: {said}")
    if dict(_contents(outside)) != before:
        raise HistoryError("something outside the bank was touched")


def _contents(folder: Path) -> Iterator[tuple[str, object]]:
    for entry in sorted(folder.rglob("*")):
        yield str(entry), entry.read_bytes() if entry.is_file() else kind_of(entry)


def _read(path: Path) -> None:
    """Read all that a bank gives; each piece may be refused, and the next is tried."""
    with closing(MemoryBank(path=path)) as bank:
        names = set[object]()
        for call in (bank.summaries, bank.digest):
            with suppress(CompressedMemoryError):
                names |= {getattr(found, "namespace", None) for found in call()}
        for namespace in ("a", "b", "c", *(name for name in names if isinstance(name, str))):
            for read in (bank.index, bank.records, bank.documents):
                with suppress(CompressedMemoryError):
                    read(namespace)
            with suppress(CompressedMemoryError):
                for chunk in bank.index(namespace).chunks:
                    for give in (bank.text, bank.slots, bank.chunk):
                        with suppress(CompressedMemoryError):
                            give(chunk.chunk_id)
                    with suppress(CompressedMemoryError):
                        bank.document_metadata(namespace, chunk.document_id)


def _repair(path: Path) -> None:
    repair(path, lambda: StandInEngine(path))


def _write(path: Path) -> None:
    with StandInEngine(path) as engine:
        for write in (
            lambda: engine.add([Document("new", "a few words of a new document")], "a"),
            lambda: engine.add([Document("d", "a few words in the place of others", {"new": True})], "a"),
            lambda: engine.delete("a"),
            engine.bank.compact,
        ):
            with suppress(CompressedMemoryError):
                write()
