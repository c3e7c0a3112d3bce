"""Copies what a bank holds into the bank of a directory, so that a bank in memory can outlive its process."""

from collections.abc import Iterator
from pathlib import Path

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
            needed = {chunk_id for record in records for chunk_id, _ in record.placements}
            with target.writing():
                for chunks, documents in _missing(source, target, namespace, records):
                    target.commit(namespace, chunks, documents, needed)
            gone = {record.document_id for record in target.records(namespace)} - {r.document_id for r in records}
            if gone:
                target.delete(namespace, gone)
    finally:
        target.close()


def _missing(
    source: MemoryBank, target: MemoryBank, namespace: str, records: list[DocumentRecord]
) -> Iterator[tuple[list[EncodedChunk], list[DocumentRecord]]]:
    chunks: dict[str, EncodedChunk] = {}
    documents: list[DocumentRecord] = []
    for record in records:
        if target.document_hash(namespace, record.document_id) == record.sha256:
            target.set_metadata(namespace, record.document_id, record.metadata)
            continue
        placed = [chunk_id for chunk_id, _ in record.placements]
        held = target.stored_chunks(placed)
        chunks |= {name: source.chunk(name) for name in placed if name not in held and name not in chunks}
        documents.append(record)
        if len(chunks) >= _COMMIT_CHUNKS:
            yield list(chunks.values()), documents
            chunks, documents = {}, []
    yield list(chunks.values()), documents
