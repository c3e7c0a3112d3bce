"""Where a user's material lives: chunks, slots, source text and embeddings, in memory or in a directory.

A directory holds ``bank.sqlite`` (the catalogue, write-ahead logged) and ``slots/*.safetensors``
(one shard for each commit). A shard is complete on disk before the catalogue names it, and the
catalogue changes in one transaction, so that an interrupted write leaves the bank as it was.
"""

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from .approximation import IndexReport, IndexSettings
from .bank_files import SALVAGED, require_own_files
from .bank_records import DocumentRecord, EncodedChunk, Fingerprint, NamespaceSummary
from .catalogue import (
    CATALOGUE,
    EARLIER_FORMATS,
    FORMAT,
    checksum,
    make,
    migrate,
    require_meta_table,
    require_own_tables,
    seal_chunk,
    seal_document,
    write_lock,
)
from .chunking import Span
from .errors import (
    BankError,
    BankMismatchError,
    InputError,
    MissingBankError,
    StorageError,
    UnknownNamespaceError,
)
from .kv_cache import Slots
from .namespace_index import (
    OpenIndex,
    built,
    listed,
    row_for,
    sealed_chunks,
    sealed_documents,
    state_of,
    stored,
    updated,
)
from .passage_index import PassageIndex
from .slot_store import MemorySlots, ShardedSlots, kept_bytes
from .stored_values import pack_text, require_kinds, unpack_metadata, unpack_text, unpack_vectors

__all__ = ["DocumentRecord", "EncodedChunk", "Fingerprint", "MemoryBank", "NamespaceSummary"]

_log = logging.getLogger(__name__)
_Key = TypeVar("_Key", int, str)
_CHUNK_COLUMNS = "chunk_id, namespace, text, tokens, slots, bytes, shard"
_NOT_ERASED = "what was deleted is out of reach and not yet erased"


class MemoryBank:
    """Chunks by namespace. Reading is safe from many threads and processes; one process writes at a time."""

    def __init__(
        self,
        fingerprint: Fingerprint | None = None,
        path: Path | None = None,
        index: IndexSettings | None = None,
    ) -> None:
        """Open the bank at ``path``, or make it there; without a path it lives in memory.

        Args:
            fingerprint: what will read or grow the bank; ``None`` opens what is there as it is.
            path: a directory.
            index: when the search may be approximate; ``None`` takes the defaults.

        Raises:
            MissingBankError: there is no bank at ``path`` and no fingerprint to make one with.
            BankError: it is damaged, or the place is taken.
            BankMismatchError: the bank was made with something else.
            StorageError: the disk refused.
        """
        self.path = path
        self._slots = ShardedSlots(path / "slots") if path else MemorySlots()
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        self.index_settings = index or IndexSettings()
        self._indexes: dict[str, OpenIndex] = {}
        self._writes = 0
        with self._guarded():
            if path is not None:
                self._check_place(path, may_create=fingerprint is not None)
                (path / "slots").mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path / CATALOGUE if path else ":memory:", timeout=30, check_same_thread=False, isolation_level=None
            )
        try:
            with self._guarded():
                self._db.execute("PRAGMA foreign_keys = ON")
                self._db.execute("PRAGMA trusted_schema = OFF")
                self._db.execute("PRAGMA secure_delete = ON")  # deleted text is overwritten, not only unlinked
                if path is not None:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                self.fingerprint = self._read_fingerprint(fingerprint)
        except BaseException:
            self._db.close()
            raise
        if fingerprint and (differences := self.fingerprint.differences(fingerprint)):
            self._db.close()
            raise BankMismatchError(
                f"bank {path} was made by model {self.fingerprint.model!r} with {'; '.join(differences)}. Use what it "
                f"was made with, or make another of it with 'compressed-memory reencode --bank {path} --out NEW'"
            )

    def _check_place(self, path: Path, *, may_create: bool) -> None:
        require_own_files(path)
        if (path / CATALOGUE).is_file():
            return
        if path.exists() and not path.is_dir():
            raise BankError(f"bank {path} is a file: name a directory")
        if not may_create:
            raise MissingBankError(
                f"no memory bank at {path}: make one with 'compressed-memory ingest PATH --bank {path}'"
            )
        if path.is_dir() and any(entry.name not in ("slots", "write.lock") for entry in path.iterdir()):
            raise BankError(f"directory {path} holds other things and no memory bank: name a new or empty directory")

    def _read_fingerprint(self, wanted: Fingerprint | None) -> Fingerprint:
        with self._snapshot():
            meta = self._meta()
        if meta.get("format") != str(FORMAT):
            # BEGIN IMMEDIATE, so that of two processes that make or migrate the same bank one does.
            with self._transaction():
                meta = self._made_or_migrated(wanted)
        try:
            if meta.get("checksum") == checksum(meta["fingerprint"]):
                return Fingerprint.model_validate_json(meta["fingerprint"])
        except (KeyError, ValidationError) as error:
            raise BankError(f"bank {self.path} is damaged: its fingerprint cannot be read") from error
        raise BankError(f"bank {self.path} is damaged: its fingerprint was changed")

    def _made_or_migrated(self, wanted: Fingerprint | None) -> dict[str, str]:
        if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            if not wanted:
                raise BankError(f"{self.path} holds an empty catalogue: its making was interrupted; ingest again")
            make(self._db, wanted.model_dump_json())
        if (held := self._meta().get("format")) in EARLIER_FORMATS:
            migrate(self._db, int(held), self._slots.digest)
        return self._meta()

    def _meta(self) -> dict[str, str]:
        """Read what the catalogue says of itself, once its tables are known to be no one else's."""
        if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            return {}
        require_meta_table(self._db, self.path)  # a view could go on without an end
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        if meta.get("format") not in (*EARLIER_FORMATS, str(FORMAT)):
            raise BankError(f"bank {self.path} has format {meta.get('format')}, this release reads {FORMAT}")
        require_own_tables(self._db, int(meta["format"]), self.path)
        return meta

    def close(self) -> None:
        """Let go of the files. The bank cannot be used afterwards."""
        with self._lock:
            self._db.close()

    # ---- writing ----

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep others from writing; shards that an interrupted write left behind are removed.

        Other threads that write through this object wait for their turn.

        Raises:
            BankError: another process is writing.
        """
        with self._turn, write_lock(self.path) if self.path else nullcontext():
            with self._guarded():
                self.drop_unnamed()
            yield

    def commit(
        self,
        namespace: str,
        chunks: Sequence[EncodedChunk],
        documents: Sequence[DocumentRecord] = (),
        needed: Collection[str] = (),
    ) -> None:
        """Store ``chunks`` and the ``documents`` that they complete, all or nothing.

        A document whose id is there already is replaced, and chunks that only it held are removed,
        but for those whose ids are ``needed`` by a document still on its way.

        Raises:
            StorageError: the disk refused; the bank is as it was.
        """
        with self._guarded():
            shard = self._write_shard({c.chunk_id: c.slots for c in chunks if c.slots is not None})
            # From here on a failure leaves a shard that the catalogue does not name: the next writer removes it.
            with self._transaction():
                self._name_shard(shard)
                for chunk in chunks:
                    self._insert_chunk(namespace, chunk, shard)
                for document in documents:
                    held = self._remove_document(namespace, document.document_id)
                    self._insert_document(namespace, document)
                    self._remove_unplaced([chunk_id for chunk_id in held if chunk_id not in needed])

    def set_meta(self, values: Mapping[str, str]) -> None:
        """Keep values beside the fingerprint, see :mod:`core.limits`."""
        with self._guarded(), self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def set_metadata(self, namespace: str, document_id: str, metadata: dict[str, object]) -> None:
        """Replace what is stored beside a document, if it is not that already."""
        if self.document_metadata(namespace, document_id) == metadata:
            return
        where = "namespace = ? AND document_id = ?"
        with self._guarded(), self._transaction():
            values = (json.dumps(metadata), namespace, document_id)
            self._db.execute(f"UPDATE documents SET metadata = ? WHERE {where}", values)
            ((document,),) = self.rows(f"SELECT document FROM documents WHERE {where}", namespace, document_id)
            seal_document(self._db, document)

    def delete(
        self,
        namespace: str,
        document_ids: Collection[str] | None = None,
        *,
        before: float | None = None,
        compact: bool = True,
    ) -> list[str]:
        """Remove documents, or with ``None`` the whole namespace; what other documents hold as well stays.

        On return the removed text, embeddings and slots are in no file of the bank.

        Args:
            before: seconds since 1970; of the documents, only those that were taken in earlier.
            compact: whether to erase at once, see :meth:`compact`. Without, what is removed is out of reach and its
                bytes stay until then: for many deletions in a row, of which the last or :meth:`compact` erases all.

        Returns:
            The ids of what was removed.

        Raises:
            UnknownNamespaceError: the bank has no such namespace.
            BankError: the namespace has no such document, or another process is writing: nothing was removed. Or
                another process reads without an end: what was removed is out of reach, and :meth:`compact` erases it.
            StorageError: the disk refused; what was removed is out of reach, and :meth:`compact` erases it.
        """
        with self.writing():
            held = self.rows("SELECT document_id, added_at FROM documents WHERE namespace = ?", namespace)
            # A namespace whose only ingest was interrupted has chunks and no document.
            if not held and not self.rows("SELECT 1 FROM chunks WHERE namespace = ? LIMIT 1", namespace):
                self._refuse_namespace(namespace)
            for name in document_ids or ():
                self.document_hash(namespace, name, required=True)
            going = [
                name
                for name, added_at in held
                if (document_ids is None or name in document_ids) and (before is None or added_at < before)
            ]
            with self._guarded(), self._transaction():
                for name in going:
                    self._remove_document(namespace, name)
                # Those of an ingest that was interrupted go too: nobody could name them to have them deleted.
                unplaced = "namespace = ? AND chunk_id NOT IN (SELECT chunk_id FROM placements)"
                self._db.execute(f"DELETE FROM chunks WHERE {unplaced}", (namespace,))
                # The centroid of a list of one passage is that passage's embedding.
                self._db.execute("DELETE FROM indexes WHERE namespace = ?", (namespace,))
                self._indexes.pop(namespace, None)  # embeddings are not to stay in memory until someone asks
            if compact:
                self._erase()
        return going

    def compact(self) -> None:
        """Give the space of what was deleted and replaced back, and erase what a deletion that failed left.

        A document that another one replaced leaves its bytes in the files until then. The catalogue (text and
        embeddings) is written anew, which takes its size in free space and time in proportion; of the shards, those
        that hold something dead.

        Raises:
            BankError, StorageError: see :meth:`delete`.
        """
        with self.writing():
            self._erase()

    def _erase(self) -> None:
        """Make files hold nothing that the catalogue does not name. Interrupted anywhere, the next call finishes it."""
        with self._guarded(_NOT_ERASED, "run 'compressed-memory compact'"):
            living: dict[str, list[str]] = {}
            for chunk_id, shard in self.rows("SELECT chunk_id, shard FROM chunks WHERE slots > 0"):
                living.setdefault(shard, []).append(chunk_id)
            for shard, chunk_ids in living.items():
                if self.path is not None and self._slots.held(shard) != set(chunk_ids):
                    moved = self._write_shard({chunk_id: self._slots.read(chunk_id, shard) for chunk_id in chunk_ids})
                    with self._transaction():
                        self._name_shard(moved)
                        self._db.execute("UPDATE chunks SET shard = ? WHERE shard = ?", (moved, shard))
            self.drop_unnamed()
            for namespace in (outdated := self._outdated_indexes()):
                self._indexes.pop(namespace, None)  # so that it is built again, and kept
            self.drop_indexes(outdated)
            with self._lock:
                # secure_delete overwrites a deleted row, not the copies that moving it between pages once left.
                self._db.execute("VACUUM")
                if self.path is not None:
                    self._checkpoint()

    def _checkpoint(self) -> None:
        """Empty the write-ahead log, which holds pages as they were."""
        if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise BankError(
                f"bank {self.path} is being read by another process; {_NOT_ERASED}: run 'compressed-memory compact' "
                "when it is done"
            )

    def drop_unnamed(self) -> None:
        """Remove shards that the catalogue does not name. Nobody else may be writing: :meth:`writing` does it first."""
        rows = self.rows("SELECT chunk_id, shard FROM chunks")
        if self.rows("SELECT 1 FROM shards WHERE shard NOT IN (SELECT shard FROM chunks) LIMIT 1"):
            with self._transaction():
                self._db.execute("DELETE FROM shards WHERE shard NOT IN (SELECT shard FROM chunks)")
        self._slots.keep_only({chunk_id for chunk_id, _ in rows}, {shard for _, shard in rows})
        for file in self.path.glob(f"{SALVAGED}*") if self.path else ():
            file.unlink()  # a repair that was killed leaves a copy of the catalogue, deleted texts and all

    def _insert_chunk(self, namespace: str, chunk: EncodedChunk, shard: str) -> None:
        text = pack_text(chunk.text)
        slots, size = self._size(chunk)
        row = (chunk.chunk_id, namespace, text, chunk.tokens, slots, size, shard)
        self._db.execute(f"INSERT INTO chunks ({_CHUNK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._insert_passages(chunk)

    def _insert_passages(self, chunk: EncodedChunk) -> None:
        passages = [(chunk.chunk_id, vector.astype("<f4").tobytes()) for vector in chunk.embeddings]
        self._db.executemany("INSERT INTO passages (chunk_id, embedding) VALUES (?, ?)", passages)
        seal_chunk(self._db, chunk.chunk_id)

    def _write_shard(self, slots: Mapping[str, Slots]) -> str:
        # What is read back and written again is the same to the bit, in 8 bits as well.
        return self._slots.write(slots, self.fingerprint.slots)

    def _size(self, chunk: EncodedChunk) -> tuple[int, int]:
        """Return a chunk's slots, and the bytes that they take."""
        return (len(chunk.slots), kept_bytes(chunk.slots, self.fingerprint.slots)) if chunk.slots else (0, 0)

    def _name_shard(self, shard: str) -> None:
        if shard:
            self._db.execute("INSERT OR REPLACE INTO shards VALUES (?, ?)", (shard, self._slots.digest(shard)))

    def _insert_document(self, namespace: str, document: DocumentRecord) -> None:
        added_at = time.time() if document.added_at is None else document.added_at
        key = (
            self._db.execute(
                "INSERT INTO documents (namespace, document_id, sha256, metadata, added_at) VALUES (?, ?, ?, ?, ?)",
                (namespace, document.document_id, document.sha256, json.dumps(document.metadata), added_at),
            ).lastrowid
            or 0
        )
        rows = [(key, i, chunk_id, *span) for i, (chunk_id, span) in enumerate(document.placements)]
        self._db.executemany("INSERT INTO placements VALUES (?, ?, ?, ?, ?)", rows)
        seal_document(self._db, key)

    def _remove_document(self, namespace: str, document_id: str) -> list[str]:
        """Remove a document's row and placements; return the chunks it held, which may now be held by none."""
        where = "namespace = ? AND document_id = ?"
        held = self.rows(
            f"SELECT chunk_id FROM placements JOIN documents USING (document) WHERE {where}", namespace, document_id
        )
        self._db.execute(f"DELETE FROM documents WHERE {where}", (namespace, document_id))
        return [chunk_id for (chunk_id,) in held]

    def _remove_unplaced(self, chunk_ids: Sequence[str]) -> None:
        unplaced = "DELETE FROM chunks WHERE chunk_id = ? AND chunk_id NOT IN (SELECT chunk_id FROM placements)"
        self._db.executemany(unplaced, [(chunk_id,) for chunk_id in chunk_ids])

    # ---- reading ----

    def stored_chunks(self, chunk_ids: Sequence[str]) -> set[str]:
        """Return those of ``chunk_ids`` that are stored, whether or not a document names them yet."""
        return {c for c in chunk_ids if self.rows("SELECT 1 FROM chunks WHERE chunk_id = ?", c)}

    def document_hash(self, namespace: str, document_id: str, *, required: bool = False) -> str | None:
        """Return the SHA-256 of a document's text, or ``None`` where there is no such document.

        Raises:
            BankError: there is none and one is ``required``.
        """
        found = self.rows(
            "SELECT sha256 FROM documents WHERE namespace = ? AND document_id = ?", namespace, document_id
        )
        if not found and required:
            raise BankError(f"namespace {namespace!r} has no document {document_id!r}")
        return str(found[0][0]) if found else None

    def document_metadata(self, namespace: str, document_id: str) -> dict[str, object]:
        """Return what was stored beside a document."""
        with self._snapshot():
            self.document_hash(namespace, document_id, required=True)
            query = "SELECT metadata FROM documents WHERE namespace = ? AND document_id = ?"
            return unpack_metadata(self.rows(query, namespace, document_id)[0][0], document_id)

    def text(self, chunk_id: str) -> str:
        """Return a chunk's source text.

        Raises:
            BankError: it is not in the bank, or damaged.
        """
        return unpack_text(self._chunk_column("text", chunk_id), chunk_id)

    def slots(self, chunk_id: str) -> Slots:
        """Return a chunk's slots, on the CPU, read from their shard; of a bank in int8 in bf16.

        Raises:
            BankError: the bank keeps text only, or the shard is missing or damaged.
        """
        if not self.fingerprint.encode:
            raise BankError(f"bank {self.path or 'in memory'} keeps text only, chunk {chunk_id} has no slots")
        shard = self._chunk_column("shard", chunk_id)
        while True:
            try:
                return self._slots.read(chunk_id, shard)
            except BankError:
                # A deletion beside it may just have moved what the shard held, and the next one again.
                moved = self._chunk_column("shard", chunk_id)
                if moved == shard:
                    raise
                shard = moved

    def _chunk_column(self, column: str, chunk_id: str) -> Any:  # noqa: ANN401 - SQLite's own types
        found = self.rows(f"SELECT {column} FROM chunks WHERE chunk_id = ?", chunk_id)
        if not found:
            raise BankError(f"chunk {chunk_id} is not in the bank: its document was deleted or replaced; ask again")
        return found[0][0]

    def records(self, namespace: str) -> list[DocumentRecord]:
        """Return the documents of ``namespace`` in reading order; none where there is no such namespace."""
        with self._snapshot():
            placed = self.rows(
                "SELECT document, chunk_id, start, end FROM placements JOIN documents USING (document) "
                "WHERE namespace = ? ORDER BY document, ordinal",
                namespace,
            )
            found = self.rows(
                "SELECT document, document_id, sha256, metadata, added_at FROM documents WHERE namespace = ? "
                "ORDER BY document",
                namespace,
            )
        placements: dict[int, list[tuple[str, Span]]] = {}
        for document, chunk_id, start, end in placed:
            require_kinds((chunk_id, start, end), (str, int, int), f"a place of a document of namespace {namespace!r}")
            placements.setdefault(document, []).append((chunk_id, Span(start, end)))
        for _, name, sha256, _, added_at in found:
            require_kinds((name, sha256, added_at), (str, str, float), f"a document of namespace {namespace!r}")
        return [
            DocumentRecord(name, sha256, tuple(placements.get(document, ())), unpack_metadata(metadata, name), added_at)
            for document, name, sha256, metadata, added_at in found
        ]

    def passage_vectors(self, chunk_id: str) -> NDArray[np.float32]:
        """Return the embeddings of a chunk's passages in their order, float32 [passages, dimension].

        Raises:
            BankError: they are damaged.
        """
        query = "SELECT embedding FROM passages WHERE chunk_id = ? ORDER BY passage"
        return unpack_vectors([blob for (blob,) in self.rows(query, chunk_id)], chunk_id)

    def chunk(self, chunk_id: str) -> EncodedChunk:
        """Return a chunk with all that the bank keeps of it.

        Raises:
            BankError: it is not in the bank, or its shard is missing or damaged.
        """
        with self._snapshot():
            text, tokens = self.text(chunk_id), self._chunk_column("tokens", chunk_id)
            vectors = self.passage_vectors(chunk_id)
        return EncodedChunk(chunk_id, text, tokens, self.slots(chunk_id) if self.fingerprint.encode else None, vectors)

    def index(self, namespace: str, keep: Callable[[str, str], bool] | None = None) -> PassageIndex:
        """Return the namespace's chunks in reading order with their passage index, built when something changed.

        Args:
            keep: whether a chunk belongs to it, by the ids of the chunk and of its document; an index that is narrowed
                so is built anew for each call. ``None``: all do.

        Raises:
            UnknownNamespaceError: the bank has no such namespace.
        """
        row = None
        with self._snapshot():
            if keep is not None:
                chunks = listed(self.rows, namespace, keep)
                if not chunks and not listed(self.rows, namespace):
                    self._refuse_namespace(namespace)
                return built(self.rows, namespace, chunks)
            # data_version changes when another connection wrote, the counter when this one did.
            version = (self.rows("PRAGMA data_version"), self._writes)
            known = self._indexes.get(namespace)
            if known is None or known.version != version:
                known, row = self._opened_index(namespace, version, known)
                self._indexes[namespace] = known
        if row is not None:  # not before, because what is read is read as of one moment
            self._store_index(row)
        return known.index

    def _opened_index(
        self, namespace: str, version: object, known: OpenIndex | None
    ) -> tuple[OpenIndex, tuple[object, ...] | None]:
        """Return the index as the catalogue is now, and what of it the catalogue should keep, if that is new."""
        sealed, documents = sealed_chunks(self.rows, namespace), sealed_documents(self.rows, namespace)
        if known and (known.sealed, known.documents) == (sealed, documents):
            return replace(known, version=version), None
        chunks = listed(self.rows, namespace)
        if not chunks:
            self._refuse_namespace(namespace)
        index, coming = updated(self.rows, known, chunks, sealed) if known else None, None
        if index is None:
            kept, state = stored(self.rows, namespace), state_of(sealed)
            index = built(self.rows, namespace, chunks, self.index_settings, kept, state)
            row = row_for(namespace, state, self.index_settings, index)
            if (index.report.kind == "ivf" or index.report.refused is not None) and (kept is None or kept.row != row):
                coming = row
        return OpenIndex(version, sealed, documents, index), coming

    def _store_index(self, row: tuple[object, ...]) -> None:
        try:
            with self._guarded(), self._transaction():
                self._db.execute("INSERT OR REPLACE INTO indexes VALUES (?, ?, ?, ?, ?, ?)", row)
        except BankError as error:
            # A disk that takes nothing more can be read all the same.
            _log.warning("the index of namespace %r is not kept, the next process makes it again: %s", row[0], error)

    def index_report(self, namespace: str) -> IndexReport | None:
        """Return what the namespace's index is and was measured to find, without making one.

        ``None`` where it is large, and was not made yet or has changed since: :meth:`index` makes it.
        """
        query = "SELECT COUNT(*) FROM passages JOIN chunks USING (chunk_id) WHERE namespace = ?"
        ((passages,),) = self.rows(query, namespace)
        if passages < self.index_settings.flat_below:
            return IndexReport(kind="flat", passages=passages)
        kept = stored(self.rows, namespace)
        current = kept is not None and kept.state == state_of(sealed_chunks(self.rows, namespace))
        return kept.report if kept is not None and current else None

    def damaged_indexes(self) -> list[str]:
        """Return the namespaces of whose index the catalogue keeps something that was changed."""
        return [name for (name,) in self.rows("SELECT namespace FROM indexes") if stored(self.rows, name) is None]

    def _outdated_indexes(self) -> list[str]:
        kept = self.rows("SELECT namespace, state FROM indexes")
        return [name for name, state in kept if state != state_of(sealed_chunks(self.rows, name))]

    def drop_indexes(self, namespaces: Collection[str]) -> None:
        """Forget what the catalogue keeps of indexes; they are made anew when they are next wanted."""
        if namespaces:
            with self._guarded(), self._transaction():
                self._db.executemany("DELETE FROM indexes WHERE namespace = ?", [(name,) for name in namespaces])

    def _refuse_namespace(self, namespace: str) -> NoReturn:
        known = ", ".join(repr(s.namespace) for s in self.summaries()) or "none"
        raise UnknownNamespaceError(f"bank {self.path or 'in memory'} has no namespace {namespace!r}; it has: {known}")

    def summaries(self) -> list[NamespaceSummary]:
        """Return what each namespace holds, by name."""
        counts = (
            "SELECT namespace, COUNT(DISTINCT document), COUNT(DISTINCT chunk_id) FROM documents "
            "JOIN placements USING (document) GROUP BY namespace ORDER BY namespace"
        )
        sums = "SELECT SUM(tokens), SUM(slots), SUM(bytes) FROM chunks WHERE namespace = ?"
        with self._snapshot():
            found = [(*row, *self.rows(sums, row[0])[0]) for row in self.rows(counts)]
        for row in found:
            require_kinds(row, (str, int, int, int, int, int), f"namespace {row[0]!r}")
        return [NamespaceSummary(*row) for row in found]

    def documents(self, namespace: str) -> list[tuple[str, int, int]]:
        """Return (document id, chunks, tokens) of each document of ``namespace``, in reading order."""
        found = self.rows(
            "SELECT document_id, COUNT(*), SUM(tokens) FROM documents JOIN placements USING (document) "
            "JOIN chunks USING (chunk_id) WHERE documents.namespace = ? GROUP BY document ORDER BY document",
            namespace,
        )
        for row in found:
            require_kinds(row, (str, int, int), f"document {row[0]!r} of namespace {namespace!r}")
        return found

    def digest(self) -> str:
        """Hash all content: two banks with the same digest answer alike. Times and file names do not count."""
        total = hashlib.sha256(self.fingerprint.model_dump_json(exclude={"model", "adapters"}).encode())
        for query in (
            "SELECT namespace, document_id, sha256, metadata FROM documents ORDER BY document",
            "SELECT document_id, ordinal, chunk_id, start, end FROM placements JOIN documents USING (document) "
            "ORDER BY document, ordinal",
            "SELECT chunk_id, namespace, text, tokens, slots FROM chunks ORDER BY chunk_id",
            "SELECT chunk_id, embedding FROM passages ORDER BY chunk_id, passage",
        ):
            total.update(repr(self.rows(query)).encode())
        for (chunk_id,) in self.rows("SELECT chunk_id FROM chunks WHERE slots > 0 ORDER BY chunk_id"):
            slots = self.slots(chunk_id)
            for tensor in (slots.keys, slots.values, slots.positions):
                total.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def shard_digest(self, shard: str) -> str:
        """Return the SHA-256 of a shard as it is on disk.

        Raises:
            StorageError: it cannot be read.
        """
        with self._guarded():
            return self._slots.digest(shard)

    def sealed(self, checksum_of: Callable[[sqlite3.Connection, _Key], str], key: _Key) -> str:
        """Return what one of :mod:`core.catalogue`'s checksums is now."""
        with self._lock, self._guarded():
            return checksum_of(self._db, key)

    def restore(self, chunks: Sequence[EncodedChunk]) -> None:
        """Put slots and embeddings in the place of those that ``chunks``, which the bank holds, had.

        Raises:
            StorageError: the disk refused; the bank is as it was.
        """
        with self._guarded():
            shard = self._write_shard({c.chunk_id: c.slots for c in chunks if c.slots is not None})
            with self._transaction():
                self._name_shard(shard)
                for chunk in chunks:
                    slots, size = self._size(chunk)
                    self._db.execute("DELETE FROM passages WHERE chunk_id = ?", (chunk.chunk_id,))
                    self._db.execute(
                        "UPDATE chunks SET tokens = ?, slots = ?, bytes = ?, shard = ? WHERE chunk_id = ?",
                        (chunk.tokens, slots, size, shard, chunk.chunk_id),
                    )
                    self._insert_passages(chunk)

    def drop_documents(self, keys: Collection[int]) -> None:
        """Remove documents by their rows in the catalogue, and every chunk that is then held by none."""
        with self._guarded(), self._transaction():
            self._db.executemany("DELETE FROM documents WHERE document = ?", [(key,) for key in keys])
            self._db.execute("DELETE FROM chunks WHERE chunk_id NOT IN (SELECT chunk_id FROM placements)")

    # ---- SQLite ----

    def rows(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        """Return what a query finds in the catalogue, see :mod:`core.catalogue` for its tables.

        Raises:
            BankError: the catalogue is damaged or busy.
        """
        with self._lock, self._guarded():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Let several queries see one state, whatever other processes write meanwhile."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            with self._guarded():
                self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._writes += 1

    @contextmanager
    def _guarded(self, state: str = "nothing was changed", then: str = "run it again") -> Iterator[None]:
        """Translate the errors of the disk and of SQLite; say how the bank is and what to do ``then``."""
        advice = f"{state}; free some space or mend the disk, and {then}"
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise BankError(f"bank {self.path} is busy: {error}; {state}; {then}") from error
            if "decode to UTF-8" in str(error):
                raise BankError(f"bank {self.path} is damaged: {error}") from error
            raise StorageError(f"bank {self.path} cannot be written or read: {error}; {advice}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter of a column's changed name
            raise BankError(f"bank {self.path} is damaged: {error}") from error
        except (OSError, SafetensorError) as error:
            raise StorageError(f"bank {self.path} cannot be written or read: {error}; {advice}") from error
        except UnicodeEncodeError as error:
            raise InputError(f"{error.object!r} holds half a surrogate pair, which no bank can: remove it") from error
