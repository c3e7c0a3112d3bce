"""Copies documents with all that was made of them from one bank into another; nothing is encoded again."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .chunking import chunk_id
from .memory_bank import DocumentRecord, EncodedChunk, MemoryBank

_COMMIT_CHUNKS = 64
"""Chunks between two commits: what is held in memory, and what an interrupt may cost."""


def copy_bank(source: MemoryBank, path: Path) -> None:
    """Make each namespace of ``source`` the same in the bank at ``path``, which is made if it is not there.

    Nothing is encoded again, and a document that is there already is not written again. Other namespaces there stay.

    Raises:
        BankMismatchError: the bank at ``path`` was made with another model or other settings.
        BankError: the place is taken, or another process is writing.
        StorageError: the disk refused; all that was committed stays.
    """
    target = MemoryBank(source.fingerprint, path)
    try:
        for summary in source.summaries():
            namespace = summary.namespace
            records = source.records(namespace)
            with target.writing():
                copy_documents(source, target, namespace, _changed(target, namespace, records))
            gone = {record.document_id for record in target.records(namespace)} - {r.document_id for r in records}
            if gone:
                target.delete(namespace, gone)
    finally:
        target.close()


def _changed(target: MemoryBank, namespace: str, records: list[DocumentRecord]) -> list[DocumentRecord]:
    changed = []
    for record in records:
        if target.document_hash(namespace, record.document_id) == record.sha256:
            target.set_metadata(namespace, record.document_id, record.metadata)
        else:
            changed.append(record)
    return changed


def copy_documents(
    source: MemoryBank,
    target: MemoryBank,
    namespace: str,
    records: Sequence[DocumentRecord],
    *,
    into: str | None = None,
    copied: Callable[[DocumentRecord], None] = lambda _: None,
) -> int:
    """Write documents of one namespace of ``source`` into ``target``, within its :meth:`MemoryBank.writing`.

    A document of the same id is replaced. Chunks that the target holds already, such as those that an interrupted copy
    left, are not written again. Memory does not grow with the length of a document.

    Args:
        into: the namespace there, if it is to have another name.
        copied: hears of each document once it is committed.

    Returns:
        Chunks that were written.

    Raises:
        BankError: a shard of ``source`` is missing or damaged.
        StorageError: the disk refused; all that was committed stays.
    """
    place = namespace if into is None else into
    coming = [(record, renamed(source, record, namespace, place)) for record in records]
    needed = {name for _, record in coming for name, _ in record.placements}
    chunks: dict[str, EncodedChunk] = {}
    finished: list[DocumentRecord] = []
    written = 0

    def commit() -> None:
        nonlocal chunks, finished, written
        target.commit(place, list(chunks.values()), finished, needed)
        written += len(chunks)
        for record in finished:
            copied(record)
        chunks, finished = {}, []

    for held, record in coming:
        for (old, _), (name, _) in zip(held.placements, record.placements, strict=True):
            if name not in chunks and not target.stored_chunks([name]):
                chunks[name] = replace(source.chunk(old), chunk_id=name)
            if len(chunks) >= _COMMIT_CHUNKS:
                commit()
        finished.append(record)
    commit()
    return written


def renamed(source: MemoryBank, record: DocumentRecord, namespace: str, place: str) -> DocumentRecord:
    """Name a document's chunks as the namespace ``place`` does: a chunk's name is the hash of both."""
    if place == namespace:
        return record
    placements = tuple((chunk_id(place, source.text(name)), span) for name, span in record.placements)
    return replace(record, placements=placements)
