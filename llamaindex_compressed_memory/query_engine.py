"""The whole way from question to answer with sources, as a LlamaIndex query engine."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Self

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import Document, NodeWithScore, QueryBundle

import core
from core.errors import InputError

from .llm import LLMWriter
from .nodes import source_node
from .retriever import CompressedMemoryRetriever


class CompressedMemoryQueryEngine(BaseQueryEngine):
    """Answers questions from one namespace of a memory bank, with the bank's own model: no ``llm`` is needed.

    With ``llm=`` the application's own model reads the source text of the chunks that the gate opens; gate, callback
    and sources are the same. Documents can be inserted, refreshed and deleted as in an index.

    ``query`` returns a Response. Its source nodes are the spans that the answer rests on, best first, word for word,
    scored with P(open) of their chunk; there are none where nothing opened, and the text then says so. Its metadata
    has ``working_memory``, a string, and ``usage``: tokens read and written, model calls, seconds by stage.
    ``query`` raises InputError for a question that is empty or too long, and UnknownNamespaceError where nothing
    was stored.
    """

    def __init__(
        self,
        engine: "core.Engine",
        *,
        namespace: str = "default",
        settings: core.RecallSettings | None = None,
        llm: LLM | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self._engine, self._namespace, self._settings, self._llm = engine, namespace, settings, llm

    @classmethod
    def from_bank(
        cls,
        bank: str | Path,
        *,
        namespace: str = "default",
        model: str | None = None,
        adapters: str | None = None,
        settings: core.RecallSettings | None = None,
        llm: LLM | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> Self:
        """Return an engine over the bank in directory ``bank``, whichever package wrote it.

        Raises:
            BankMismatchError: the bank was made with another model.
        """
        return cls(
            core.Engine.open(Path(bank), model=model, adapters=adapters, create=False),
            namespace=namespace,
            settings=settings,
            llm=llm,
            callback_manager=callback_manager,
        )

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        bank: str | Path | None = None,
        namespace: str = "default",
        model: str | None = None,
        adapters: str | None = None,
        embedder: str | None = None,
        compression: core.CompressionSettings | None = None,
        settings: core.RecallSettings | None = None,
        llm: LLM | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> Self:
        """Return an engine that holds ``documents``, beside what the bank holds already.

        A document is stored under its ``doc_id``. One that the bank holds is replaced if its text changed and skipped
        if not; LlamaIndex makes up a new id for each document that is given none, so give ids to banks on disk.

        Args:
            bank: a directory, made if it is not there; ``None`` keeps the bank in memory.
            model: see :func:`core.weights.resolve`. ``None``, here and below: as the bank was made, else the default.
            adapters: ``"default"``, those that ship for the model; ``"none"``; or a folder that training wrote.

        Raises:
            InputError: there is no document, one is empty, or an id comes twice.
            BankMismatchError: the bank was made with another model or other settings.
            BankError: another process is writing to the bank.
        """
        rest = iter(documents)
        first = next(rest, None)
        if first is None:
            raise InputError("there are no documents: give at least one")
        engine = core.Engine.open(
            None if bank is None else Path(bank),
            model=model,
            adapters=adapters,
            embedder=embedder,
            compression=compression,
        )
        engine.add((core.Document(d.doc_id, d.text, d.metadata) for d in chain((first,), rest)), namespace)
        return cls(engine, namespace=namespace, settings=settings, llm=llm, callback_manager=callback_manager)

    def insert(self, document: Document) -> None:
        """Take a document in, beside what is there; one of the same ``doc_id`` is replaced if its text changed.

        Raises:
            InputError: it is empty.
            BankError: another process is writing to the bank.
        """
        self.refresh_ref_docs([document])

    def refresh_ref_docs(self, documents: Sequence[Document]) -> list[bool]:
        """Take in those that are new and replace those whose text changed; return which they were, one a document.

        Raises:
            InputError: a document is empty, or an id comes twice.
            BankError: another process is writing to the bank.
        """
        bank, space = self._engine.bank, self._namespace
        before = [bank.document_hash(space, document.doc_id) for document in documents]
        self._engine.add((core.Document(d.doc_id, d.text, d.metadata) for d in documents), space)
        return [bank.document_hash(space, d.doc_id) != held for d, held in zip(documents, before, strict=True)]

    def delete_ref_doc(self, ref_doc_id: str) -> None:
        """Remove a document: text, slots, embeddings and index, from every file of the bank.

        Raises:
            UnknownNamespaceError, BankError: there is no such document.
        """
        self._engine.delete(self._namespace, [ref_doc_id])

    def delete_namespace(self) -> None:
        """Remove everything that this engine answers from, from every file of the bank.

        Raises:
            UnknownNamespaceError: nothing was stored.
        """
        self._engine.delete(self._namespace)

    def as_retriever(self, *, similarity_top_k: int | None = None) -> CompressedMemoryRetriever:
        """Return the retriever over the same namespace; see :class:`CompressedMemoryRetriever`."""
        return CompressedMemoryRetriever(
            self._engine,
            namespace=self._namespace,
            similarity_top_k=similarity_top_k,
            settings=self._settings,
            callback_manager=self.callback_manager,
        )

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return the chunks that the gate opens for the question alone; no model reads them."""
        return self.as_retriever().retrieve(query_bundle)

    def _query(self, query_bundle: QueryBundle) -> Response:
        writer = LLMWriter(self._llm, lambda text: len(self._engine.backbone.encode(text))) if self._llm else None
        answer = self._engine.ask(query_bundle.query_str, self._namespace, self._settings, writer=writer)
        return Response(
            answer.text,
            [self._evidence(note) for note in answer.sources],
            {"working_memory": answer.memory.text, "usage": asdict(answer.usage)},
        )

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        return await asyncio.to_thread(self._query, query_bundle)

    def _get_prompt_modules(self) -> PromptMixinType:
        # The model was trained on its prompts: there are none to change.
        return {}

    def _evidence(self, note: "core.Note") -> NodeWithScore:
        node_id = f"{note.document_id}:{note.span.start}-{note.span.end}"
        return source_node(
            self._engine, self._namespace, node_id, note.document_id, note.span.start, note.quote, note.gate
        )
