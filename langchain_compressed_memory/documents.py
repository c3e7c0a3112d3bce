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
    name = f"{note.document_id}:{note.span.start}-{note.span.end}"
    return _placed(engine, namespace, name, note.document_id, note.span, note.quote, note.gate)


def opened(engine: "core.Engine", namespace: str, found: "core.OpenedChunk") -> Document:
    """Return a chunk that the gate opened, with what was stored beside its document."""
    chunk = found.chunk
    return _placed(engine, namespace, chunk.chunk_id, chunk.document_id, chunk.span, found.text, found.gate)


def _placed(
    engine: "core.Engine", namespace: str, name: str, document_id: str, span: tuple[int, int], text: str, gate: float
) -> Document:
    stored = engine.bank.document_metadata(namespace, document_id)
    place = {"document_id": document_id, "start": span[0], "end": span[1], "gate": gate}
    return Document(id=name, page_content=text, metadata={**stored, **place})
