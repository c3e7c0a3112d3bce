"""Makes a bank for another model or ratio from the text that a bank keeps."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from .engine import Engine, stored_compression, stored_fingerprint
from .errors import BankError, InputError
from .ingest import Document, Progress
from .memory_bank import MemoryBank
from .settings import CompressionSettings, replaced


def open_like(
    path: Path, out: Path, *, model: str | None = None, adapters: str | None = None, **compression: object
) -> Engine:
    """Open a bank in directory ``out``, new or begun, that differs from the one in ``path`` in what is given.

    Args:
        compression: values of :class:`core.settings.CompressionSettings`.

    Raises:
        InputError: both are one directory, or a value is out of range.
        MissingBankError: there is no bank at ``path``.
        BankMismatchError: ``out`` was begun with something else.
        WeightsError, ModelError: see :meth:`core.engine.Engine.open`.
    """
    if path.resolve() == out.resolve():
        raise InputError(f"bank {path} cannot be re-encoded into itself: give another directory")
    made = stored_fingerprint(path)
    if made is None:
        MemoryBank(path=path).close()  # says what is wrong with the place
    settings = replaced(stored_compression(path) or CompressionSettings(), **compression)
    name, held, embedder = (made.model, made.adapters, made.embedder) if made else (None, None, None)
    return Engine.open(out, model=model or name, embedder=embedder, compression=settings, adapters=adapters or held)


def text_characters(bank: MemoryBank) -> int:
    """Return how many characters all documents of a bank have: what a re-encoding has to go through."""
    return int(bank.rows("SELECT COALESCE(SUM(end - start), 0) FROM placements")[0][0])


def reencode(path: Path, engine: Engine, progress: Callable[[Progress], None] = lambda _: None) -> int:
    """Take every document of the bank in directory ``path`` into ``engine``'s; return how many it encoded.

    Ids, namespaces, metadata and when a document was taken in are kept; limits are the new bank's own. Run it again
    after an interrupt and it goes on.

    Args:
        progress: hears of characters and tokens of all namespaces together.

    Raises:
        BankError: kept text is damaged, or another process removed it meanwhile or is writing to the new bank.
        LimitError: the new bank has a limit, and a namespace would grow past it.
        StorageError: the disk refused; all that was committed stays.
    """
    encoded = characters = tokens = 0
    with closing(MemoryBank(path=path)) as source:
        for summary in source.summaries():
            before, spent = characters, tokens

            def heard(step: Progress, before: int = before, spent: int = spent) -> None:
                nonlocal characters, tokens
                characters, tokens = before + step.characters, spent + step.tokens_encoded
                progress(Progress(step.document_id, characters, tokens))

            report = engine.add(_documents(source, summary.namespace), summary.namespace, heard)
            encoded += report.documents - report.unchanged
    return encoded


def _documents(source: MemoryBank, namespace: str) -> Iterator[Document]:
    for record in source.records(namespace):
        text = "".join(source.text(name) for name, _ in record.placements)
        if hashlib.sha256(text.encode()).hexdigest() != record.sha256:
            raise BankError(
                f"bank {source.path} is damaged: the text of document {record.document_id!r} of namespace "
                f"{namespace!r} was changed. Run 'compressed-memory repair --bank {source.path}' first"
            )
        yield Document(record.document_id, text, record.metadata, record.added_at)
