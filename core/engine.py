"""A model, an embedder and a bank, opened together: what the command line and both framework packages call."""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Self

from .adapters import DEFAULT_ADAPTERS, NO_ADAPTERS, find_adapters, load_adapters
from .approximation import IndexSettings
from .backbone import Backbone
from .bank_copy import copy_bank
from .catalogue import CATALOGUE
from .compressor import Compressor
from .embedder import Embedder
from .embedder_head import find_head
from .errors import InputError
from .evidence import Tagger
from .extraction import Extractor
from .gate import BankGate, Gate, Scan, SimilarityGate
from .generation import Generator, Writer
from .ingest import Document, Ingest, IngestReport, Progress
from .memory_bank import Fingerprint, MemoryBank
from .naming_gate import NamingGate
from .passage_index import StoredChunk
from .prompts import Instructions
from .query_encoder import find_queries
from .reasoner import Reasoner
from .recall import Answer, Listener, Recall, check_question
from .retention import earliest
from .settings import DEFAULT_NAMESPACE, CompressionSettings, Form, GateChoice, Placement, RecallSettings, replaced
from .slot_gate import HEAD, load_gate
from .trace import Trace, record
from .weights import DEFAULT_EMBEDDER, DEFAULT_MODEL
from .working_memory import WorkingMemory

_log = logging.getLogger(__name__)
_told: set[str] = set()

DECLINE_BIAS = 3.0
"""Nats; what it brings and costs: docs/benchmarks.md, "When no document says it"."""
EXTRACTOR_WEIGHT = 0.6
"""Beside the default model's reasoner; how it was chosen: docs/benchmarks.md, "Two readers"."""
OWN_MODEL = RecallSettings(raw_passages=None, memory_tokens=1024, update_tokens=512, answer_tokens=1024)
"""How an application's own model reads unless told otherwise: whole chunks, with room to write."""


@dataclass(frozen=True)
class OpenedChunk:
    """A chunk that the gate opened, with its text."""

    chunk: StoredChunk
    gate: float
    text: str


# One copy of the weights in a process, however many banks are open.
@lru_cache(maxsize=2)
def _backbone(model: str, adapters: Path | None, placement: Placement) -> Backbone:
    backbone = Backbone.load(model)
    if adapters is not None:
        load_adapters(backbone, adapters, placement)
    return backbone


@lru_cache(maxsize=2)
def _embedder(name: str, queries: Path | None, tagger: Path | None, extractor: Path | None) -> Embedder:
    return Embedder(name, queries=queries, tagger=tagger, extractor=extractor)


class Engine:
    """A bank with the model that encodes for it and reads from it. Safe to share between threads."""

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        compression: CompressionSettings,
        bank: Path | None = None,
        adapters: str = NO_ADAPTERS,
        index: IndexSettings | None = None,
    ) -> None:
        """Open the bank in directory ``bank``, or make it there; ``None`` keeps it in memory.

        Args:
            index: when the search among passages may be approximate; ``None`` takes the defaults.
            adapters: what ``backbone`` was given, as it was asked for: the bank remembers it.

        Raises:
            WeightsError: the placement needs weights that the adapters do not hold.
            BankMismatchError: the bank was made with another model or other settings.
            BankError, StorageError: see :class:`core.memory_bank.MemoryBank`.
        """
        self.backbone, self.embedder = backbone, embedder
        self.compressor = Compressor(backbone, compression)
        self._slot_gate = None
        if folder := find_adapters(adapters, backbone.name):
            self.compressor.load_weights(folder)
            if (folder / HEAD).is_file():
                self._slot_gate = load_gate(backbone, folder).requires_grad_(False)
        if compression.encode:
            self.compressor.check()
        self.bank = MemoryBank(
            Fingerprint(
                model=backbone.name,
                # Without slots a bank outlives every compressor.
                weights=self.compressor.fingerprint() if compression.encode else backbone.fingerprint(None),
                adapters=adapters,
                embedder=embedder.name,
                **compression.model_dump(),
            ),
            bank,
            index,
        )

    @classmethod
    def open(
        cls,
        bank: Path | None = None,
        *,
        model: str | None = None,
        embedder: str | None = None,
        compression: CompressionSettings | None = None,
        adapters: str | None = None,
        create: bool = True,
        index: IndexSettings | None = None,
    ) -> "Engine":
        """Open a bank with models by name. What is not given is as the bank has it, else the default.

        Args:
            bank: a directory, made if it is not there; ``None`` keeps the bank in memory.
            model: see :func:`core.weights.resolve`.
            adapters: ``"default"``, those that ship for the model; ``"none"``; or a folder that training wrote.
            create: whether a bank may be made; to ask only, say no, and a mistyped path is an error.
            index: when the search among passages may be approximate.

        Raises:
            WeightsError, ModelError: the model cannot be had or used.
            BankError: see :class:`core.memory_bank.MemoryBank`.
        """
        made = stored_fingerprint(bank)
        if bank is not None and made is None and not create:
            MemoryBank(path=bank)  # says what is wrong with the place
        if made:
            model, embedder, adapters = model or made.model, embedder or made.embedder, adapters or made.adapters
        model, adapters = model or DEFAULT_MODEL, adapters or DEFAULT_ADAPTERS
        embedder = embedder or DEFAULT_EMBEDDER
        compression = compression or stored_compression(bank) or CompressionSettings()
        return cls(
            _backbone(model, find_adapters(adapters, model), compression.placement),
            _embedder(
                embedder,
                find_queries(adapters, embedder),
                find_head(Tagger, adapters, embedder),
                find_head(Extractor, adapters, embedder),
            ),
            compression,
            bank,
            adapters,
            index,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the bank's files. The models stay loaded for other engines."""
        self.bank.close()

    def add(
        self,
        documents: Iterable[Document],
        namespace: str = DEFAULT_NAMESPACE,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> IngestReport:
        """Take documents in; see :meth:`core.ingest.Ingest.run`."""
        return Ingest(self.bank, self.compressor, self.embedder, namespace).run(documents, progress)

    def delete(
        self,
        namespace: str = DEFAULT_NAMESPACE,
        document_ids: Collection[str] | None = None,
        *,
        older_than: datetime | timedelta | None = None,
        compact: bool = True,
    ) -> list[str]:
        """Remove documents, or with ``None`` the whole namespace; see :meth:`core.memory_bank.MemoryBank.delete`.

        Args:
            older_than: of the documents, only those that were taken in before this moment, or longer ago than this.

        Returns:
            The ids of what was removed.

        Raises:
            InputError: the age is negative or out of reach.
            UnknownNamespaceError, BankError, StorageError: see there.
        """
        before = None if older_than is None else earliest(older_than)
        return self.bank.delete(namespace, document_ids, before=before, compact=compact)

    def persist(self, path: Path) -> None:
        """Make the bank in directory ``path``, new or there already, hold what this one holds.

        A bank that is in that directory is there already: what is added is safe on disk when adding returns.

        Raises:
            BankMismatchError: there is a bank that was made with something else.
            BankError, StorageError: the place is taken, another process is writing there, or the disk refused.
        """
        if self.bank.path is None or self.bank.path.resolve() != path.resolve():
            copy_bank(self.bank, path)

    def ask(
        self,
        question: str,
        namespace: str = DEFAULT_NAMESPACE,
        settings: RecallSettings | None = None,
        listener: Listener = lambda _: None,
        writer: Writer | None = None,
        *,
        chunk_ids: Collection[str] | None = None,
        document_ids: Collection[str] | None = None,
        instructions: Instructions | None = None,
    ) -> Answer:
        """Answer a question; see :meth:`core.recall.Recall.ask`. The same input gives the same answer.

        Args:
            writer: the application's own model in the reasoner's place. It reads source text, as :data:`OWN_MODEL`
                says unless there are ``settings``; gate and callback are the same.
            chunk_ids: chunks that are all read, and no others, in reading order.
            document_ids: documents whose chunks there are to open and to call back; ``None``: all of the namespace.
            instructions: what the model is told in place of the words that adapters are trained on.

        Raises:
            InputError: besides, the compressed form is asked of a ``writer``: slots are of the bank's own model; or the
                namespace has no such chunk or document; or chunks and documents are both named.
            UnknownNamespaceError: the bank has no such namespace.
        """
        settings = settings or (RecallSettings() if writer is None else OWN_MODEL)
        wanted = None if chunk_ids is None else frozenset(chunk_ids)
        among = self._among(namespace, document_ids)
        if wanted is not None and among is not None:
            raise InputError("chunk_ids and document_ids were both given: chunks that are named are all read, alone")
        if wanted is not None:
            known = {chunk.chunk_id for chunk in self.bank.index(namespace).chunks}
            if unknown := sorted(wanted - known):
                raise InputError(
                    f"chunks {', '.join(map(repr, unknown))} are not in namespace {namespace!r}: give those that were "
                    "retrieved from it"
                )
            count = max(1, len(wanted))
            settings = replaced(
                settings, threshold=0, top_k=count, max_steps=count, gate_candidates=count, candidates=None
            )
        if writer is not None and settings.form == "compressed":
            raise InputError("form='compressed' reads slots of the bank's model: leave it out with a model of your own")
        if writer is not None:  # a model of the application's own is believed
            settings = replaced(settings, likely_notes=False, second_look=False, extractor_weight=0)
        elif "reasoner" in self.backbone.adapters:
            # Beside a larger base, which reads better than the extractor, its weight has not been measured.
            weight = EXTRACTOR_WEIGHT if self.backbone.name == DEFAULT_MODEL else 0.0
            trained = {"decline_bias": DECLINE_BIAS, "extractor_weight": weight}
            settings = replaced(settings, **{n: v for n, v in trained.items() if getattr(settings, n) is None})
        form = "raw" if writer is not None else self.form(settings)
        reasoner = Reasoner(writer or Generator(self.backbone), self.bank, self.embedder, settings, form, instructions)
        keep = among if wanted is None else (lambda chunk_id, _: chunk_id in wanted)
        return Recall(self.bank, self.gate(settings), reasoner, settings).ask(question, namespace, listener, keep)

    def trace(
        self,
        question: str,
        namespace: str = DEFAULT_NAMESPACE,
        settings: RecallSettings | None = None,
        listener: Listener = lambda _: None,
        writer: Writer | None = None,
        *,
        document_ids: Collection[str] | None = None,
    ) -> Trace:
        """Answer a question exactly as :meth:`ask` does and keep its run, to write it as a page.

        Raises:
            InputError, UnknownNamespaceError: see :meth:`ask`.
        """
        settings = settings or (RecallSettings() if writer is None else OWN_MODEL)
        return record(self, question, namespace, settings, listener, writer, document_ids)

    def retrieve(
        self,
        question: str,
        namespace: str = DEFAULT_NAMESPACE,
        settings: RecallSettings | None = None,
        document_ids: Collection[str] | None = None,
    ) -> list[OpenedChunk]:
        """Return the chunks that the gate opens for the question alone, likeliest first, without reading them.

        Args:
            document_ids: documents whose chunks there are to open; ``None``: all of the namespace.

        Raises:
            InputError: the question has no words, or the namespace has no such document.
            UnknownNamespaceError: the bank has no such namespace.
        """
        check_question(question)
        settings = settings or RecallSettings()
        settings = replaced(settings, max_steps=settings.top_k)  # nothing is read, so reading sets no limit
        index = self.bank.index(namespace, self._among(namespace, document_ids))
        scan = Scan(index, self.gate(settings), settings)
        opened = iter(lambda: scan.next_open(question, WorkingMemory()), None)
        ranked = sorted(opened, key=lambda pair: -pair[1])
        return [OpenedChunk(chunk, gate, self.bank.text(chunk.chunk_id)) for chunk, gate in ranked]

    def _among(self, namespace: str, document_ids: Collection[str] | None) -> Callable[[str, str], bool] | None:
        """Return whether a chunk is of the documents that are named, which the namespace must have."""
        if document_ids is None:
            return None
        if isinstance(document_ids, str):
            raise InputError(f"document_ids is one string, {document_ids!r}: put it in a list")
        among = frozenset(document_ids)
        if unknown := sorted(name for name in among if self.bank.document_hash(namespace, name) is None):
            self.bank.index(namespace)  # says so where there is no such namespace
            raise InputError(
                f"namespace {namespace!r} has no document {', '.join(map(repr, unknown))}: name documents by the ids "
                "that sources and bank.documents(namespace) give"
            )
        return lambda _, document_id: document_id in among

    def form(self, settings: RecallSettings) -> Form:
        """Return the form of recall that ``settings`` lead to with this model and this bank.

        Raises:
            InputError: the compressed form is asked of a bank that keeps text only.
        """
        if not self.bank.fingerprint.encode:
            if settings.form == "compressed":
                raise InputError(
                    f"form='compressed' reads slots, and bank {self.bank.path or 'in memory'} keeps text only: ask for "
                    "form='raw', or ingest into another directory with encode=True"
                )
            return "raw"
        if settings.form:
            return settings.form
        if {"compressor", "reasoner"} <= set(self.backbone.adapters):
            return "compressed"
        if "reasoner" in self.backbone.adapters:
            return "raw"  # trained for source text
        if self.backbone.name not in _told:
            _told.add(self.backbone.name)
            _log.warning(
                "%s has no trained adapters: the raw form is used, which reads source text. Ask for "
                "form='compressed' to read slots all the same.",
                self.backbone.name,
            )
        return "raw"

    def gate(self, settings: RecallSettings) -> Gate:
        """Return the gate that ``settings`` lead to with these adapters and this bank.

        Raises:
            InputError: see :meth:`gate_choice`.
        """
        gate = self._chosen_gate(settings)
        return NamingGate(gate, self.embedder, self.bank.text, exact=settings.exact) if settings.follow_names else gate

    def gate_choice(self, settings: RecallSettings) -> GateChoice:
        """Return what decides which chunks open: slots or embeddings.

        Raises:
            InputError: a gate over slots is asked for and there is none, or the bank keeps text only.
        """
        encoded = self.bank.fingerprint.encode
        if settings.gate == "slots" and (self._slot_gate is None or not encoded):
            lacking = "no gate among the adapters" if encoded else "a bank that keeps text only"
            raise InputError(f"gate='slots' reads slots with a trained gate, and here is {lacking}: use 'similarity'")
        return "similarity" if settings.gate == "similarity" or self._slot_gate is None or not encoded else "slots"

    def _chosen_gate(self, settings: RecallSettings) -> Gate:
        if self.gate_choice(settings) == "similarity" or self._slot_gate is None:
            return SimilarityGate(self.embedder, settings.candidates, exact=settings.exact)
        return BankGate(
            self._slot_gate,
            self.embedder,
            self.bank,
            candidates=settings.gate_candidates,
            passages=settings.candidates,
            exact=settings.exact,
        )


def stored_fingerprint(bank: Path | None) -> Fingerprint | None:
    """Return what the bank in directory ``bank`` was made with, or ``None`` where there is no bank yet."""
    if bank is None or not (bank / CATALOGUE).is_file():
        return None
    opened = MemoryBank(path=bank)
    opened.close()
    return opened.fingerprint


def stored_compression(bank: Path | None) -> CompressionSettings | None:
    """Return the settings that the bank in directory ``bank`` was made with, or ``None`` where there is no bank yet."""
    made = stored_fingerprint(bank)
    if made is None:
        return None
    return CompressionSettings(**{name: getattr(made, name) for name in CompressionSettings.model_fields})
