"""LangChain's documents to those of a bank, and notes back to LangChain's documents."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import count

from langchain_core.documents import Document

import core


def named(documents: Iterable[Document], held: Collection[str], ids: list[str]) -> "Iterator[core.Document]":
    """Translate ``documents`` one by one, each under an id of its own, noted in ``ids``."""
    free = (name for name in map("document-{}".format, count(1)) if name not in held)
    times = Counter[str]()
    for document in documents:
        wanted = str(document.id or document.metadata.get("source") or next(free))
        times[wanted] += 1
        ids.append(wanted if times[wanted] == 1 else f"{wanted}#{times[wanted]}")
        yield core.Document(ids[-1], document.page_content, document.metadata)


def source(engine: "core.Engine", namespace: str, note: "core.Note") -> Document:
    """Return a note's span of its document, with what was stored beside it."""
    return Document(
        id=f"{note.document_id}:{note.span.start}-{note.span.end}",
        page_content=note.quote,
        metadata={
            **engine.bank.document_metadata(namespace, note.document_id),
            "document_id": note.document_id,
            "start": note.span.start,
            "end": note.span.end,
            "gate": note.gate,
        },
    )


def opened(engine: "core.Engine", namespace: str, found: "core.OpenedChunk") -> Document:
    """Return a chunk that the gate opened, with what was stored beside its document."""
    chunk = found.chunk
    return Document(
        id=chunk.chunk_id,
        page_content=found.text,
        metadata={
            **engine.bank.document_metadata(namespace, chunk.document_id),
            "document_id": chunk.document_id,
            "start": chunk.span.start,
            "end": chunk.span.end,
            "gate": found.gate,
        },
    )
