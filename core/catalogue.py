"""The bank's catalogue as a database: its tables, their checksums, and how one of an earlier format becomes this one.

The catalogue may come from other hands, so nothing in it runs: a trigger, a view or a table that is not
exactly as this release writes it is refused before anything is read.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import BankError, StorageError

FORMAT = 3
EARLIER_FORMATS = ("1", "2")
CATALOGUE = "bank.sqlite"

_FORMAT_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (
    document INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, document_id TEXT NOT NULL,
    sha256 TEXT NOT NULL, metadata TEXT NOT NULL, added_at REAL NOT NULL, UNIQUE (namespace, document_id));
CREATE TABLE chunks (
    chunk_id TEXT PRIMARY KEY, namespace TEXT NOT NULL, text BLOB NOT NULL, tokens INTEGER NOT NULL,
    slots INTEGER NOT NULL, bytes INTEGER NOT NULL, shard TEXT NOT NULL);
CREATE TABLE placements (
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, ordinal INTEGER NOT NULL,
    chunk_id TEXT NOT NULL REFERENCES chunks, start INTEGER NOT NULL, end INTEGER NOT NULL,
    PRIMARY KEY (document, ordinal));
CREATE INDEX placements_of_chunk ON placements (chunk_id);
CREATE TABLE passages (
    passage INTEGER PRIMARY KEY, chunk_id TEXT NOT NULL REFERENCES chunks ON DELETE CASCADE, embedding BLOB NOT NULL);
CREATE INDEX passages_of_chunk ON passages (chunk_id)"""

# A new bank goes the same way as one that is migrated, so that both have the same tables to the letter.
_FORMAT_2 = """
CREATE TABLE shards (shard TEXT PRIMARY KEY, sha256 TEXT NOT NULL);
ALTER TABLE chunks ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN checksum TEXT NOT NULL DEFAULT ''"""

_FORMAT_3 = """
CREATE TABLE indexes (
    namespace TEXT PRIMARY KEY, state TEXT NOT NULL, settings TEXT NOT NULL, report TEXT NOT NULL,
    centroids BLOB NOT NULL, checksum TEXT NOT NULL);
CREATE INDEX chunks_of_namespace ON chunks (namespace, chunk_id, checksum)"""

_STEPS = {1: _FORMAT_1, 2: _FORMAT_2, 3: _FORMAT_3}


def make(database: sqlite3.Connection, fingerprint: str) -> None:
    """Make the tables of a new bank, within the caller's transaction."""
    for number in sorted(_STEPS):
        _run(database, number)
    meta = {"format": str(FORMAT), "fingerprint": fingerprint, "checksum": checksum(fingerprint)}
    database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())


def migrate(database: sqlite3.Connection, held: int, digest: Callable[[str], str]) -> None:
    """Bring a catalogue of an earlier format to this one, within the caller's transaction.

    Args:
        held: its format.
        digest: gives the checksum of a shard by name, or nothing where there is no such file.
    """
    for number in range(held + 1, FORMAT + 1):
        _run(database, number)
        if number == 2:
            _seal_everything(database, digest)
    database.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT),))


def _seal_everything(database: sqlite3.Connection, digest: Callable[[str], str]) -> None:
    for (shard,) in database.execute("SELECT DISTINCT shard FROM chunks WHERE slots > 0").fetchall():
        database.execute("INSERT INTO shards VALUES (?, ?)", (shard, digest(shard)))
    for (chunk_id,) in database.execute("SELECT chunk_id FROM chunks").fetchall():
        seal_chunk(database, chunk_id)
    for (document,) in database.execute("SELECT document FROM documents").fetchall():
        seal_document(database, document)
    (fingerprint,) = database.execute("SELECT value FROM meta WHERE key = 'fingerprint'").fetchone()
    database.execute("INSERT INTO meta VALUES ('checksum', ?)", (checksum(fingerprint),))


def _run(database: sqlite3.Connection, number: int) -> None:
    for statement in _STEPS[number].split(";\n"):
        database.execute(statement)


def require_meta_table(database: sqlite3.Connection, where: object) -> None:
    """Refuse a catalogue of which ``meta`` is not this library's table, before anything is read from it.

    Raises:
        BankError: it is not.
    """
    found = {entry for entry in _tables(database) if entry[0] == "meta"}
    if found != {entry for entry in _expected(1) if entry[0] == "meta"}:
        raise BankError(f"bank {where} is damaged or not of this library's making: its catalogue has no table 'meta'")


def require_own_tables(database: sqlite3.Connection, number: int, where: object) -> None:
    """Refuse a catalogue that holds anything but the tables and indexes of format ``number``.

    Raises:
        BankError: naming what is there too much, too little or otherwise.
    """
    differing = sorted(name for name, _ in _tables(database) ^ _expected(number))
    if differing:
        raise BankError(
            f"bank {where} is damaged or not of this library's making: {', '.join(dict.fromkeys(differing))} of its "
            "catalogue is not as format "
            f"{number} has it. Restore the bank from a copy, or ingest into another directory"
        )


@cache
def _expected(number: int) -> frozenset[tuple[str, str]]:
    database = sqlite3.connect(":memory:")
    try:
        for step in range(1, number + 1):
            _run(database, step)
        return _tables(database)
    finally:
        database.close()


def _tables(database: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return frozenset((str(name), " ".join(str(sql).split())) for name, sql in rows)


def checksum(*values: object) -> str:
    """Hash values as SQLite gives them back: texts, whole numbers, floats and bytes."""
    return hashlib.sha256(repr(values).encode()).hexdigest()


_CHUNK = "SELECT chunk_id, namespace, tokens, slots, bytes FROM chunks WHERE chunk_id = ?"
_EMBEDDINGS = "SELECT embedding FROM passages WHERE chunk_id = ? ORDER BY passage"
_DOCUMENT = "SELECT namespace, document_id, sha256, metadata, added_at FROM documents WHERE document = ?"
_PLACEMENTS = "SELECT ordinal, chunk_id, start, end FROM placements WHERE document = ? ORDER BY ordinal"


def chunk_checksum(database: sqlite3.Connection, chunk_id: str) -> str:
    """Hash what is kept of a chunk but its text, whose hash is its name, and its shard, which may change."""
    row = database.execute(_CHUNK, (chunk_id,)).fetchone()
    return checksum(row, database.execute(_EMBEDDINGS, (chunk_id,)).fetchall())


def document_checksum(database: sqlite3.Connection, document: int) -> str:
    """Hash a document's row and where its chunks stand in it."""
    row = database.execute(_DOCUMENT, (document,)).fetchone()
    return checksum(row, database.execute(_PLACEMENTS, (document,)).fetchall())


def seal_chunk(database: sqlite3.Connection, chunk_id: str) -> None:
    """Store a chunk's checksum, in the transaction that changed it."""
    values = (chunk_checksum(database, chunk_id), chunk_id)
    database.execute("UPDATE chunks SET checksum = ? WHERE chunk_id = ?", values)


def seal_document(database: sqlite3.Connection, document: int) -> None:
    """Store a document's checksum, in the transaction that changed it."""
    values = (document_checksum(database, document), document)
    database.execute("UPDATE documents SET checksum = ? WHERE document = ?", values)


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Keep other processes from writing to the bank in directory ``path``.

    Raises:
        BankError: another one is writing.
        StorageError: the lock cannot be made.
    """
    lock = FileLock(path / "write.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BankError(f"bank {path} is being written by another process: wait for it to finish") from error
    except OSError as error:
        raise StorageError(f"bank {path} cannot be written or read: {error}; nothing was changed") from error
    try:
        yield
    finally:
        lock.release()


def log_damage(log: bytes) -> str | None:
    """Say what is wrong with a write-ahead log, which SQLite itself would pass over in silence.

    SQLite reads a log up to the first frame whose checksum is wrong. After a crash that is where writing
    ended. Where a sound frame of the same run follows, the bytes before it were changed, and what was
    committed since is lost. (Format: https://www.sqlite.org/fileformat2.html#walformat)
    """
    if len(log) <= 32:
        return None
    order = ">" if log[3] & 1 else "<"
    page = int.from_bytes(log[8:12], "big")
    seen = _log_checksum(log[:24], (0, 0), order)
    if seen != _pair(log[24:32]) or not 512 <= page <= 65536:
        return "the header of the write-ahead log was changed: what was committed last is lost"
    broken = None
    for number, start in enumerate(range(32, len(log) - page - 23, page + 24)):
        head, data = log[start : start + 24], log[start + 24 : start + 24 + page]
        sound = (  # a frame of an earlier run has other salts
            head[8:16] == log[16:24]
            and _log_checksum(data, _log_checksum(head[:8], seen, order), order) == _pair(head[16:24])
        )
        if sound and broken is not None:
            return f"frame {broken} of the write-ahead log was changed: what was committed since is lost"
        broken = number if not sound and broken is None else broken
        seen = _pair(head[16:24])
    return None


def _pair(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")


def _log_checksum(data: bytes, seed: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = seed
    words: Sequence[int] = struct.unpack(f"{order}{len(data) // 4}I", data)
    pairs: Iterable[tuple[int, int]] = zip(words[::2], words[1::2], strict=True)
    for even, odd in pairs:
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
