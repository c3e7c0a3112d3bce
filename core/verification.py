"""Finds what is damaged in a bank, names it, and rebuilds what the kept source text allows.

Each byte that says something is under a checksum: a shard's in the catalogue, a chunk's text in the chunk's
name, its embeddings and counts and each document's row in a column beside them. SQLite checks the rest.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .bank_files import SALVAGED, require_own_files
from .catalogue import CATALOGUE, FORMAT, chunk_checksum, document_checksum, log_damage, make, write_lock
from .chunking import chunk_id
from .errors import BankError
from .limits import LIMITS, SEAL, limits_in, read_limits
from .memory_bank import MemoryBank
from .slot_store import sync
from .stored_values import unpack_text

if TYPE_CHECKING:
    from .engine import Engine

_TABLES = ("documents", "chunks", "placements", "passages", "shards")

_NOT_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
}


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written."""

    where: str
    """A file, relative to the bank."""
    what: str
    chunks: tuple[str, ...] = ()
    """Chunks to encode again from their text, in the order they were committed."""
    documents: tuple[int, ...] = ()
    """Rows of documents whose text or place is lost."""
    structural: bool = False
    """Whether the catalogue itself has to be written anew."""


@dataclass(frozen=True)
class Repaired:
    """What a repair did."""

    found: tuple[Damage, ...]
    rebuilt: int
    """Chunks that were encoded again."""
    lost: tuple[str, ...]
    """Documents that could not be rebuilt and were removed, so that they can be ingested again."""


def verify(path: Path) -> list[Damage]:
    """Read every byte of the bank in directory ``path`` and return what is damaged.

    Raises:
        MissingBankError: there is no bank.
        BankError: another process is writing to it.
    """
    _require_bank(path)
    with write_lock(path):
        return list(_damage(path))


@contextmanager
def verified(path: Path) -> Iterator[MemoryBank]:
    """Open a bank that is sound to the last byte, and keep other processes from writing to it meanwhile.

    Raises:
        MissingBankError: there is no bank.
        BankError: it is damaged, or another process is writing to it.
    """
    _require_bank(path)
    with write_lock(path):
        if found := list(_damage(path)):
            raise BankError(
                f"bank {path} is damaged in {len(found)} places, the first is {found[0].where}: {found[0].what}. "
                f"Nothing was taken from it: run 'compressed-memory repair --bank {path}' first"
            )
        with closing(MemoryBank(path=path)) as bank:
            yield bank


def _require_bank(path: Path) -> None:
    require_own_files(path)
    if not (path / CATALOGUE).is_file():
        MemoryBank(path=path).close()  # says what is wrong with the place


def _damage(path: Path) -> Iterator[Damage]:
    log = path / f"{CATALOGUE}-wal"
    # Before the catalogue is opened, because that is when SQLite takes the log in.
    if log.is_file() and (what := log_damage(log.read_bytes())):
        yield Damage(log.name, what)
    try:
        with closing(MemoryBank(path=path)) as bank:
            sound = [row[0] for row in bank.rows("PRAGMA integrity_check(10)")]
            if sound != ["ok"]:
                yield Damage(CATALOGUE, "; ".join(" ".join(str(line).split()) for line in sound), structural=True)
            read_limits(bank)
            yield from _shard_damage(bank)
            yield from _chunk_damage(bank)
            yield from _document_damage(bank)
            for namespace in bank.damaged_indexes():
                yield Damage(CATALOGUE, f"what is kept of the index of namespace {namespace!r} was changed")
    except BankError as error:
        code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF in _NOT_DAMAGE:
            raise
        yield Damage(CATALOGUE, str(error), structural=True)


def _shard_damage(bank: MemoryBank) -> Iterator[Damage]:
    folder = _folder(bank) / "slots"
    known = dict(bank.rows("SELECT shard, sha256 FROM shards"))
    holding: dict[str, list[str]] = {}
    for name, shard in bank.rows("SELECT chunk_id, shard FROM chunks WHERE slots > 0 ORDER BY rowid"):
        holding.setdefault(shard, []).append(name)
    for shard, chunks in holding.items():
        what = None
        if shard not in known:
            yield Damage(CATALOGUE, f"shard {shard} is named by chunks and has no checksum", chunks=tuple(chunks))
        elif not (folder / shard).is_file():
            what = "is missing"
        elif bank.shard_digest(shard) != known[shard]:
            what = "holds other bytes than its checksum is of"
        if what:
            yield Damage(f"slots/{shard}", what, chunks=tuple(chunks))
    for file in sorted(folder.iterdir()):
        if file.name not in holding and file.name not in known:  # a known one is of replaced text, and compaction's
            yield Damage(f"slots/{file.name}", "is of no commit: an interrupted write or other hands left it")


def _chunk_damage(bank: MemoryBank) -> Iterator[Damage]:
    for row, name, namespace, sealed in bank.rows("SELECT rowid, chunk_id, namespace, checksum FROM chunks"):
        (packed,) = bank.rows("SELECT text FROM chunks WHERE rowid = ?", row)[0]
        try:
            sound = chunk_id(namespace, unpack_text(packed, name)) == name
        except (BankError, TypeError):
            sound = False
        if not sound:
            holders = bank.rows("SELECT DISTINCT document FROM placements WHERE chunk_id = ?", name)
            yield Damage(CATALOGUE, f"the text of chunk {name} was changed", documents=tuple(d for (d,) in holders))
        elif bank.sealed(chunk_checksum, name) != sealed:
            yield Damage(CATALOGUE, f"the embeddings or counts of chunk {name} were changed", chunks=(name,))


def _document_damage(bank: MemoryBank) -> Iterator[Damage]:
    for document, namespace, name, sealed in bank.rows(
        "SELECT document, namespace, document_id, checksum FROM documents"
    ):
        said = f"document {name!r} of namespace {namespace!r}"
        if bank.sealed(document_checksum, document) != sealed:
            yield Damage(CATALOGUE, f"the row of {said} was changed", documents=(document,))
        elif bank.rows(
            "SELECT 1 FROM placements WHERE document = ? AND chunk_id NOT IN (SELECT chunk_id FROM chunks)", document
        ):
            yield Damage(CATALOGUE, f"text of {said} is missing", documents=(document,))
    if bank.rows("PRAGMA foreign_key_check"):
        yield Damage(CATALOGUE, "rows name others that are not there", structural=True)


def _folder(bank: MemoryBank) -> Path:
    if bank.path is None:
        raise BankError("a bank in memory has no files to verify: keep it in a directory")
    return bank.path


def repair(path: Path, open_engine: "Callable[[], Engine]") -> Repaired:
    """Rebuild what is damaged; remove what cannot be, and name it.

    A shard is encoded again from its chunks' text. A document whose text or row is lost is removed. A catalogue
    that SQLite cannot read is written anew from the rows that it can.

    Args:
        open_engine: opens the bank with what made it; called only where something is to be encoded.

    Raises:
        BankError: the bank is beyond repair, or another process is writing; WeightsError: its model cannot be had.
    """
    _require_bank(path)
    with write_lock(path):
        found = list(_damage(path))
        if any(damage.structural for damage in found):
            _salvage(path)
        remaining = list(_damage(path))
        if unmended := [damage.what for damage in remaining if damage.structural]:
            raise BankError(f"bank {path} cannot be repaired: {unmended[0]}. Restore it from a copy, or ingest again")
        lost = {document for damage in remaining for document in damage.documents}
        with ExitStack() as opened:
            # Before anything is removed: where the model cannot be had, the bank stays and what is lost is named later.
            engine = opened.enter_context(open_engine()) if any(damage.chunks for damage in remaining) else None
            bank = engine.bank if engine else opened.enter_context(closing(MemoryBank(path=path)))
            names = [
                f"{name} (namespace {namespace})"
                for document, namespace, name in bank.rows("SELECT document, namespace, document_id FROM documents")
                if document in lost
            ]
            bank.drop_documents(lost)
            rebuilt = _rebuild(remaining, engine) if engine else 0
            bank.drop_unnamed()
            bank.drop_indexes(bank.damaged_indexes())
    return Repaired(tuple(found), rebuilt, tuple(sorted(names)))


def _rebuild(remaining: list[Damage], engine: "Engine") -> int:
    from .ingest import Ingest

    done: set[str] = set()
    for damage in remaining:
        wanted = [name for name in damage.chunks if name not in done and engine.bank.stored_chunks([name])]
        by_namespace: dict[str, dict[str, str]] = {}
        for name in wanted:
            ((namespace,),) = engine.bank.rows("SELECT namespace FROM chunks WHERE chunk_id = ?", name)
            by_namespace.setdefault(namespace, {})[name] = engine.bank.text(name)
        for namespace, texts in by_namespace.items():
            Ingest(engine.bank, engine.compressor, engine.embedder, namespace).rebuild(texts)
        done.update(wanted)
    return len(done)


def _salvage(path: Path) -> None:
    """Write the catalogue anew from every row that can still be read."""
    scratch, file = path / SALVAGED, path / CATALOGUE
    scratch.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(file, isolation_level=None)) as old,
            closing(sqlite3.connect(scratch, isolation_level=None)) as new,
        ):
            # A row with a changed letter is kept, to be found out by its checksum and named.
            old.text_factory = lambda data: data.decode(errors="replace")
            # Before they are read: a view could go on without an end.
            kinds = old.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE%'")
            if not {"meta", *_TABLES} <= {name for (name,) in kinds.fetchall()}:
                raise BankError(f"bank {path} cannot be repaired: tables are missing. Restore it, or ingest again")
            meta = {row[1]: row[2] for row in _readable(old, "meta")}
            # One of format 2 has the same rows, and no index, which is made anew.
            if meta.get("format") not in ("2", str(FORMAT)) or "fingerprint" not in meta:
                raise BankError(f"bank {path} cannot be repaired: what made it cannot be read. Ingest again")
            new.execute("BEGIN")
            make(new, meta["fingerprint"])
            new.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (meta.get("checksum", ""),))
            new.executemany("INSERT INTO meta VALUES (?, ?)", _sound_limits(meta, path))
            for table in _TABLES:
                for row in _readable(old, table):
                    names = ", ".join(name for _, name, *_ in new.execute(f"PRAGMA table_info({table})"))
                    values = ", ".join("?" * len(row))
                    new.execute(f"INSERT OR IGNORE INTO {table} (rowid, {names}) VALUES ({values})", row)
            new.execute("DELETE FROM passages WHERE chunk_id NOT IN (SELECT chunk_id FROM chunks)")
            new.execute("DELETE FROM placements WHERE document NOT IN (SELECT document FROM documents)")
            for (name,) in new.execute(
                "SELECT DISTINCT chunk_id FROM placements WHERE chunk_id NOT IN (SELECT chunk_id FROM chunks)"
            ).fetchall():
                # The document stays, with a wrong checksum, so that it is named before it goes.
                new.execute("DELETE FROM placements WHERE chunk_id = ?", (name,))
            new.execute("COMMIT")
            new.execute("PRAGMA journal_mode = WAL")
            # What the log holds is to be in the old file before the log goes, or a kill here would lose it.
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for name in ("wal", "shm"):
            (path / f"{CATALOGUE}-{name}").unlink(missing_ok=True)
        os.replace(scratch, file)
        sync(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise BankError(f"bank {path} cannot be repaired: {error}. Restore it from a copy, or ingest again") from error
    finally:
        scratch.unlink(missing_ok=True)


def _sound_limits(meta: dict[str, str], path: Path) -> list[tuple[str, str]]:
    try:
        limits_in(meta, path)
    except BankError:
        return []  # named as damage, and set anew by whoever set them
    return [(key, meta[key]) for key in (LIMITS, SEAL) if key in meta]


def _readable(database: sqlite3.Connection, table: str) -> Iterator[tuple]:  # type: ignore[type-arg]
    """Yield (rowid, columns…) of the rows of ``table`` that can be read, past those that cannot."""
    last, skip = 0, 0
    while skip < 1 << 40:
        try:
            for row in database.execute(f"SELECT rowid, * FROM {table} WHERE rowid > ? ORDER BY rowid", (last + skip,)):
                yield row
                last, skip = row[0], 0
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error) or "not a database" in str(error):
                raise
            skip = skip + 1 if skip < 256 else 2 * skip
        else:
            return
