"""Takes files in on many workers: each encodes parts into bank directories of their own, which are then joined.

What is encoded together depends only on the files and on what the bank holds, never on how many workers there are or
how fast they are: the parts are the commits of :class:`core.ingest.Ingest`, so that the bank is the same to the bit.
Nothing here knows how work reaches a worker; :mod:`core.ray_ingest` does.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedTokenizerBase

from .chunking import Span, chunk_id, split_text, token_ends
from .engine import Engine
from .errors import BankError, InputError, WorkerError
from .ingest import Ingest, IngestReport, Progress, commit_tokens
from .limits import NamespaceUse
from .memory_bank import DocumentRecord, MemoryBank
from .readers import SourceFile, read_file
from .verification import verified


class PlacedChunk(BaseModel):
    """A chunk as a place in a file, so that text goes to a worker by way of the disk that all share."""

    model_config = ConfigDict(frozen=True)

    chunk_id: str
    document_id: str
    path: Path
    start: int
    end: int
    """Characters of the file's text."""
    tokens: int


class CutDocument(BaseModel):
    """A file that was cut: all that planning needs of it."""

    model_config = ConfigDict(frozen=True)

    document_id: str
    sha256: str
    chunks: tuple[PlacedChunk, ...]


@dataclass
class Part:
    """What one commit takes in: chunks that are new, and the documents that they complete."""

    chunks: list[PlacedChunk] = field(default_factory=list)
    documents: list[DocumentRecord] = field(default_factory=list)

    def folder(self, parts: Path) -> Path:
        """Return where the part's bank is, or will be."""
        named = hashlib.sha256("".join(chunk.chunk_id for chunk in self.chunks).encode())
        return parts / named.hexdigest()[:32]


def cut(file: SourceFile, namespace: str, tokenizer: PreTrainedTokenizerBase, chunk_tokens: int) -> CutDocument:
    """Read a file and say where its chunks are.

    Raises:
        InputError, ExtraMissingError: see :func:`core.readers.read_file`.
    """
    text = read_file(file).text
    spans = list(split_text(text, tokenizer, chunk_tokens))
    pieces = [text[start:end] for start, end in spans]
    return CutDocument(
        document_id=file.document_id,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        chunks=tuple(
            PlacedChunk(
                chunk_id=chunk_id(namespace, piece),
                document_id=file.document_id,
                path=file.path.absolute(),
                start=span.start,
                end=span.end,
                tokens=len(token_ends(piece, tokenizer)),
            )
            for span, piece in zip(spans, pieces, strict=True)
        ),
    )


def plan(bank: MemoryBank, namespace: str, documents: Iterable[CutDocument], tokens: int) -> list[Part]:
    """Put documents into the commits that one process would make.

    Args:
        documents: in the order in which they are taken in; those that the bank holds word for word left out.
        tokens: of a commit, see :func:`core.ingest.commit_tokens`.

    Raises:
        LimitError: the namespace has a limit and would grow past it.
    """
    use = NamespaceUse(bank, namespace)
    parts, planned, size = [Part()], set[str](), 0
    for document in documents:
        if use.limited:
            use.put(document.document_id, ((chunk.chunk_id, chunk.tokens) for chunk in document.chunks))
        for chunk in document.chunks:
            if chunk.chunk_id not in planned and not bank.stored_chunks([chunk.chunk_id]):
                parts[-1].chunks.append(chunk)
                planned.add(chunk.chunk_id)
                size += chunk.tokens
            if size >= tokens:
                parts.append(Part())
                size = 0
        placements = tuple((chunk.chunk_id, Span(chunk.start, chunk.end)) for chunk in document.chunks)
        parts[-1].documents.append(DocumentRecord(document.document_id, document.sha256, placements))
    return [part for part in parts if part.chunks or part.documents]


def encode_part(engine: Engine, namespace: str, chunks: Sequence[PlacedChunk], folder: Path) -> None:
    """Encode chunks into a bank of their own in ``folder``, which is there whole or not at all.

    Args:
        engine: with a bank in memory, made like the one that the part is for.

    Raises:
        InputError: a file is not what it was when it was cut.
        StorageError: the disk refused.
    """
    texts = {chunk.chunk_id: _text(chunk)[chunk.start : chunk.end] for chunk in chunks}
    for chunk in chunks:
        if chunk_id(namespace, texts[chunk.chunk_id]) != chunk.chunk_id:
            raise InputError(f"{chunk.path} changed while it was taken in: run it again")
    encoded = Ingest(engine.bank, engine.compressor, engine.embedder, namespace).encode(texts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    moving = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    # SQLite's log wants a disk of this machine, and the folder may be on one that machines share.
    with tempfile.TemporaryDirectory() as local:
        with closing(MemoryBank(engine.bank.fingerprint, Path(local) / "part")) as bank:
            bank.commit(namespace, encoded)
        shutil.copytree(Path(local) / "part", moving)
    try:
        os.replace(moving, folder)
    except OSError:
        shutil.rmtree(moving)
        if not folder.is_dir():  # otherwise another attempt at the same part was done first
            raise


def _text(chunk: PlacedChunk) -> str:
    try:
        state = chunk.path.stat()
    except OSError as error:
        raise InputError(f"{chunk.path} cannot be read by a worker: {error.strerror}") from error
    return _read(chunk.document_id, chunk.path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)  # a long file is in many parts
def _read(document_id: str, path: Path, changed: int, size: int) -> str:  # noqa: ARG001 - another file is read anew
    return read_file(SourceFile(document_id, path)).text


def ingest_distributed(
    engine: Engine,
    files: Sequence[SourceFile],
    namespace: str,
    cut_all: Callable[[Sequence[SourceFile]], Iterable[CutDocument]],
    encode_all: Callable[[Sequence[tuple[Part, Path]]], Iterable[Path]],
    *,
    device: str = "cpu",
    progress: Callable[[Progress], None] = lambda _: None,
) -> IngestReport:
    """Take files in: cut by ``cut_all``, encoded by ``encode_all``, joined here. Run it again and it goes on.

    Args:
        engine: over the bank that all goes into.
        cut_all: cuts files with :func:`cut`, in any order.
        encode_all: encodes parts with :func:`encode_part` and yields each folder once it is there, in any order.
        device: what the workers encode on, ``"cpu"`` or ``"cuda"``.
        progress: hears of each part that was joined.

    Raises:
        InputError: the bank is in memory, or a file cannot be read or changed meanwhile.
        LimitError: the namespace would grow past its limit: nothing was taken in.
        BankError: a part is damaged or was made differently, or another process is writing.
        StorageError: the disk refused; all that was committed stays.
    """
    bank = engine.bank
    if bank.path is None:
        raise InputError("a bank in memory has no place for what workers write: keep it in a directory")
    parts_folder = bank.path.absolute().with_name(f"{bank.path.absolute().name}.parts")
    with bank.writing():
        found = {document.document_id: document for document in cut_all(files)}
        documents = [found[file.document_id] for file in files]
        new = [d for d in documents if bank.document_hash(namespace, d.document_id) != d.sha256]
        parts = plan(bank, namespace, new, commit_tokens(device))
        for document in documents:
            if bank.document_hash(namespace, document.document_id) == document.sha256:
                bank.set_metadata(namespace, document.document_id, {})
        _join_all(bank, namespace, parts, parts_folder, encode_all, progress)
        shutil.rmtree(parts_folder, ignore_errors=True)
    chunks = [chunk for part in parts for chunk in part.chunks]
    unchanged = len(documents) - len(new)
    return IngestReport(len(documents), unchanged, len(chunks), sum(chunk.tokens for chunk in chunks), {})


def _join_all(
    bank: MemoryBank,
    namespace: str,
    parts: Sequence[Part],
    folder: Path,
    encode_all: Callable[[Sequence[tuple[Part, Path]]], Iterable[Path]],
    progress: Callable[[Progress], None],
) -> None:
    """Commit parts in their order, as soon as each and all before it are there."""
    needed = {name for part in parts for record in part.documents for name, _ in record.placements}
    folders = [part.folder(folder) for part in parts]
    there = {at for at in folders if at.is_dir()}
    missing = [(part, at) for part, at in zip(parts, folders, strict=True) if part.chunks and at not in there]
    arriving: Iterator[Path] = iter(encode_all(missing) if missing else ())
    characters = tokens = 0
    for part, at in zip(parts, folders, strict=True):
        while part.chunks and at not in there:
            if (arrived := next(arriving, None)) is None:
                raise WorkerError(f"the part {at} was not made by any worker: run it again")
            there.add(arrived)
        _join(bank, namespace, part, at, needed)
        characters += sum(chunk.end - chunk.start for chunk in part.chunks)
        tokens += sum(chunk.tokens for chunk in part.chunks)
        last = part.documents[-1].document_id if part.documents else part.chunks[-1].document_id
        progress(Progress(last, characters, tokens))


def _join(bank: MemoryBank, namespace: str, part: Part, folder: Path, needed: set[str]) -> None:
    if not part.chunks:
        bank.commit(namespace, (), part.documents, needed)
        return
    with verified(folder) as made:
        if differences := bank.fingerprint.differences(made.fingerprint):
            raise BankError(
                f"the part {folder} was made differently: bank {bank.path} has {'; '.join(differences)}. Give each "
                "worker the same weights, remove the part and run it again"
            )
        names = [name for (name,) in made.rows("SELECT chunk_id FROM chunks ORDER BY rowid")]
        if set(names) != {chunk.chunk_id for chunk in part.chunks}:
            raise BankError(f"the part {folder} holds other chunks than it is named for: remove it and run it again")
        bank.commit(namespace, [made.chunk(name) for name in names], part.documents, needed)
    shutil.rmtree(folder, ignore_errors=True)
