"""Takes documents in: cut, encoded in batches, committed group by group. An interrupted ingest goes on where it was.

What is encoded together depends only on the documents and on what the bank holds at a commit, so
that a resumed ingest makes the same batches, and the same bits, as one that was never interrupted.
"""

import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from .chunking import Span, chunk_id, split_text
from .compressor import Compressor
from .embedder import Embedder
from .errors import InputError, require_unicode
from .kv_cache import Slots
from .limits import NamespaceUse
from .memory_bank import DocumentRecord, EncodedChunk, MemoryBank

_PASS_TOKENS = {"cpu": 4096}
"""Padded tokens in one pass of the model; other devices take eight times as many."""
_COMMIT_PASSES = 4
"""Passes between two commits: what an interrupt may cost."""


def commit_tokens(device: str) -> int:
    """Return how many tokens a commit has on a type of device, ``"cpu"`` or ``"cuda"``."""
    return _COMMIT_PASSES * pass_tokens(device)


def pass_tokens(device: str) -> int:
    """Return how many padded tokens one pass of the model has on a type of device."""
    return _PASS_TOKENS.get(device, 8 * _PASS_TOKENS["cpu"])


IngestStage = Literal["cut", "encode", "embed", "store"]


@dataclass(frozen=True)
class Document:
    """A text to take in."""

    document_id: str
    text: str
    metadata: dict[str, object] = field(default_factory=dict)
    """Values that JSON can hold; given back with the sources."""
    added_at: float | None = None
    """Seconds since 1970 when it was first taken in, for deleting by age; ``None``: now."""


@dataclass(frozen=True)
class Progress:
    """How far an ingest has come."""

    document_id: str
    characters: int
    """Of all documents so far, skipped ones included."""
    tokens_encoded: int


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did."""

    documents: int
    unchanged: int
    """Documents that the bank held already, word for word."""
    chunks_encoded: int
    """Chunks that are new; in a bank that keeps text only they are embedded and not encoded."""
    tokens_encoded: int
    seconds: dict[IngestStage, float]


@dataclass(frozen=True)
class _Pending:
    chunk_id: str
    text: str
    ids: list[int]


class Ingest:
    """One run of taking documents into one namespace of a bank."""

    def __init__(
        self,
        bank: MemoryBank,
        compressor: Compressor,
        embedder: Embedder,
        namespace: str,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        """
        Args:
            tokenizer: the model's, which no other thread uses meanwhile, where many banks are made one after the other;
                ``None``: a copy is made.

        Raises:
            InputError: the namespace has no name.
        """
        if not namespace.strip():
            raise InputError(f"namespace is {namespace!r}: give it a name")
        require_unicode(namespace, "the namespace")
        self._bank, self._compressor, self._embedder, self._namespace = bank, compressor, embedder, namespace
        # A fast tokenizer may not be used by two threads at once.
        self._tokenizer = copy.deepcopy(compressor.backbone.tokenizer) if tokenizer is None else tokenizer
        self._pass_tokens = pass_tokens(compressor.backbone.device.type)
        self._pending: dict[str, _Pending] = {}
        self._finished: list[DocumentRecord] = []
        self._characters = self._chunks = self._tokens = 0
        self._seconds: dict[IngestStage, float] = {}

    def run(self, documents: Iterable[Document], progress: Callable[[Progress], None] = lambda _: None) -> IngestReport:
        """Take ``documents`` in, one after the other; memory does not grow with their number.

        A document that the bank holds already word for word is skipped; one whose text changed is replaced.

        Raises:
            InputError: a document is empty, or its id comes twice.
            BankError: another process is writing to the bank.
            LimitError: the namespace has a limit and would grow past it: nothing was taken in.
            StorageError: the disk refused; all that was committed stays.
        """
        seen: set[str] = set()
        unchanged = 0
        with self._bank.writing():
            for document in self._within_limit(documents):
                self._check(document, seen)
                digest = hashlib.sha256(document.text.encode()).hexdigest()
                if self._bank.document_hash(self._namespace, document.document_id) == digest:
                    unchanged += 1
                    self._bank.set_metadata(self._namespace, document.document_id, document.metadata)
                    self._characters += len(document.text)
                else:
                    self._take(document, digest, progress)
                progress(Progress(document.document_id, self._characters, self._tokens))
            self._commit(())
        return IngestReport(len(seen), unchanged, self._chunks, self._tokens, dict(self._seconds))

    def _within_limit(self, documents: Iterable[Document]) -> Iterable[Document]:
        """Count all documents before the first is encoded, where there is a limit, which bounds what is held so."""
        use = NamespaceUse(self._bank, self._namespace)
        if not use.limited:
            return documents
        counted = []
        for document in documents:
            digest = hashlib.sha256(document.text.encode(errors="surrogatepass")).hexdigest()
            if self._bank.document_hash(self._namespace, document.document_id) != digest:
                use.put(document.document_id, self._sizes(document.text))
            counted.append(document)
        return counted

    def _sizes(self, text: str) -> Iterator[tuple[str, int]]:
        for start, end in split_text(text, self._tokenizer, self._compressor.settings.chunk_tokens):
            yield chunk_id(self._namespace, text[start:end]), len(self._compressor.backbone.encode(text[start:end]))

    def _check(self, document: Document, seen: set[str]) -> None:
        if not document.text.strip():
            raise InputError(f"document {document.document_id!r} is empty: leave it out")
        require_unicode(document.text, f"the text of document {document.document_id!r}")
        require_unicode(document.document_id, "the document id")
        try:
            json.dumps(document.metadata)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the metadata of document {document.document_id!r} cannot be kept as JSON: {error}. Give strings, "
                "numbers, lists and dictionaries"
            ) from error
        if document.document_id in seen:
            raise InputError(f"document id {document.document_id!r} comes twice: give each document its own")
        seen.add(document.document_id)

    def _take(self, document: Document, digest: str, progress: Callable[[Progress], None]) -> None:
        placements: list[tuple[str, Span]] = []
        spans = split_text(document.text, self._tokenizer, self._compressor.settings.chunk_tokens)
        while span := self._next(spans):
            text = document.text[span.start : span.end]
            name = chunk_id(self._namespace, text)
            placements.append((name, span))
            if name not in self._pending and not self._bank.stored_chunks([name]):
                self._pending[name] = _Pending(name, text, self._compressor.backbone.encode(text))
            self._characters += len(text)
            if sum(len(p.ids) for p in self._pending.values()) >= _COMMIT_PASSES * self._pass_tokens:
                self._commit([chunk for chunk, _ in placements])
                progress(Progress(document.document_id, self._characters, self._tokens))
        self._finished.append(
            DocumentRecord(document.document_id, digest, tuple(placements), document.metadata, document.added_at)
        )

    def _next(self, spans: Iterator[Span]) -> Span | None:
        with self._timed("cut"):
            return next(spans, None)

    def _commit(self, needed: Sequence[str]) -> None:
        encoded = self._encoded()
        with self._timed("store"):
            self._bank.commit(self._namespace, encoded, self._finished, set(needed))
        self._chunks += len(encoded)
        self._tokens += sum(chunk.tokens for chunk in encoded)
        self._pending, self._finished = {}, []

    def rebuild(self, texts: Mapping[str, str]) -> None:
        """Encode chunks that the bank holds anew, and put what was made in place of what they had.

        Args:
            texts: by chunk id, in the order in which they were committed: then the batches, and the bits, are the same.
        """
        self._bank.restore(self.encode(texts))

    def encode(self, texts: Mapping[str, str]) -> list[EncodedChunk]:
        """Encode chunks, by chunk id, as one commit of :meth:`run` does; nothing is stored."""
        self._pending = {
            name: _Pending(name, text, self._compressor.backbone.encode(text)) for name, text in texts.items()
        }
        try:
            return self._encoded()
        finally:
            self._pending = {}

    def _encoded(self) -> list[EncodedChunk]:
        encoded: list[EncodedChunk] = []
        for batch in self._batches():
            slots = self._slots(batch)
            with self._timed("embed"):
                vectors = self._embeddings(batch)
            encoded += [
                EncodedChunk(pending.chunk_id, pending.text, len(pending.ids), held, found)
                for pending, held, found in zip(batch, slots, vectors, strict=True)
            ]
        return encoded

    def _slots(self, batch: Sequence[_Pending]) -> Sequence[Slots | None]:
        if not self._compressor.settings.encode:
            return [None] * len(batch)
        with self._timed("encode"):
            made = self._compressor.compress([pending.ids for pending in batch])
            # Off the device at once, so that a commit's slots do not pile up there.
            return [Slots(s.keys.cpu(), s.values.cpu(), s.positions.cpu(), s.span) for s in made]

    def _embeddings(self, batch: Sequence[_Pending]) -> list[NDArray[np.float32]]:
        """Embed the passages of all chunks of ``batch`` at once: short ones share a pass."""
        cut = [[p.text[start:end] for start, end in self._embedder.passages(p.text)] for p in batch]
        vectors = self._embedder.embed([passage for passages in cut for passage in passages])
        return np.split(vectors, np.cumsum([len(passages) for passages in cut])[:-1])

    @contextmanager
    def _timed(self, stage: IngestStage) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    def _batches(self) -> Iterator[list[_Pending]]:
        """Put chunks of like length together, each batch within one pass."""
        batch: list[_Pending] = []
        for pending in sorted(self._pending.values(), key=lambda p: -len(p.ids)):
            if batch and len(batch[0].ids) * (len(batch) + 1) > self._pass_tokens:
                yield batch
                batch = []
            batch.append(pending)
        if batch:
            yield batch
