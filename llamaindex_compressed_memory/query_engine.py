"""The whole way from question to answer with sources, as a LlamaIndex query engine."""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.schema import BaseNode, Document, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

import core
from core.errors import InputError
from core.prompts import COPY
from core.streaming import Listening

from .filters import passing
from .ingestion import compress_documents, compress_nodes, document_ids
from .instrumentation import StageSpans, dispatcher
from .llm import LLMWriter
from .responses import Responder
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

    With ``streaming=True`` the response's words come as they are written; its source nodes and metadata are there
    when the last has come.

    ``get_prompts`` gives what the model is told: ``system``, ``update`` after each chunk, ``answer`` at the end. The
    bank's own model is trained on these words; ``update_prompts`` suits a model of one's own, or another language.
    """

    def __init__(
        self,
        engine: "core.Engine",
        *,
        namespace: str = "default",
        settings: core.RecallSettings | None = None,
        llm: LLM | None = None,
        streaming: bool = False,
        filters: MetadataFilters | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """
        Args:
            filters: which documents there are to answer from and to retrieve; see :class:`CompressedMemoryRetriever`.
        """
        super().__init__(callback_manager=callback_manager)
        self._engine, self._namespace, self._settings, self._filters = engine, namespace, settings, filters
        self._llm, self._streaming = llm, streaming
        self._told: dict[str, BasePromptTemplate] = {}

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str | Path,
        *,
        namespace: str = "default",
        model: str | None = None,
        adapters: str | None = None,
        settings: core.RecallSettings | None = None,
        llm: LLM | None = None,
        streaming: bool = False,
        filters: MetadataFilters | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> Self:
        """Return an engine over the bank in a directory, whichever package wrote it.

        Raises:
            MissingBankError: there is none.
            BankMismatchError: the bank was made with another model.
        """
        return cls(
            core.Engine.open(Path(persist_dir), model=model, adapters=adapters, create=False),
            namespace=namespace,
            settings=settings,
            llm=llm,
            streaming=streaming,
            filters=filters,
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
        streaming: bool = False,
        filters: MetadataFilters | None = None,
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
        compress_documents(engine, chain((first,), rest), namespace)
        return cls(
            engine,
            namespace=namespace,
            settings=settings,
            llm=llm,
            streaming=streaming,
            filters=filters,
            callback_manager=callback_manager,
        )

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
        compress_documents(self._engine, documents, space)
        return [bank.document_hash(space, d.doc_id) != held for d, held in zip(documents, before, strict=True)]

    def insert_nodes(self, nodes: Sequence[BaseNode]) -> None:
        """Take nodes in; see :class:`CompressedMemoryIngestion`.

        Raises:
            InputError: a node is empty, or an id comes twice.
            BankError: another process is writing to the bank.
        """
        compress_nodes(self._engine, nodes, self._namespace)

    def delete_ref_doc(self, ref_doc_id: str) -> None:
        """Remove a document, or its nodes: text, slots, embeddings and index, from every file of the bank.

        Raises:
            UnknownNamespaceError, BankError: there is no such document.
        """
        stored = document_ids(self._engine, self._namespace, ref_doc_id)
        self._engine.delete(self._namespace, stored or [ref_doc_id])

    def delete_namespace(self) -> None:
        """Remove everything that this engine answers from, from every file of the bank.

        Raises:
            UnknownNamespaceError: nothing was stored.
        """
        self._engine.delete(self._namespace)

    def persist(self, persist_dir: str | Path) -> None:
        """Write what the bank holds into a directory, new or persisted to before; compressed text is copied.

        An engine over a bank on disk is persistent as it is, and has nothing to do for its own directory.

        Raises:
            BankMismatchError: the directory has a bank that was made with something else.
            BankError, StorageError: the place is taken, another process is writing there, or the disk refused.
        """
        self._engine.persist(Path(persist_dir))

    def as_retriever(
        self, *, similarity_top_k: int | None = None, filters: MetadataFilters | None = None
    ) -> CompressedMemoryRetriever:
        """Return the retriever over the same namespace; see :class:`CompressedMemoryRetriever`.

        Args:
            filters: in the place of this engine's.
        """
        return CompressedMemoryRetriever(
            self._engine,
            namespace=self._namespace,
            similarity_top_k=similarity_top_k,
            filters=self._filters if filters is None else filters,
            settings=self._settings,
            callback_manager=self.callback_manager,
        )

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return the chunks that the gate opens for the question alone; no model reads them."""
        return self.as_retriever().retrieve(query_bundle)

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """See :meth:`retrieve`. The work is done in a thread."""
        return await self.as_retriever().aretrieve(query_bundle)

    @dispatcher.span
    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response | StreamingResponse:
        """Answer from the chunks of ``nodes``, all of them and no others, as :meth:`query` does from those that open.

        Args:
            nodes: of this engine's ``retrieve``, or some of them.
            additional_source_nodes: added to the response's own.

        Raises:
            InputError: a node is no chunk of this namespace; or as ``query`` does.
        """
        return self._respond(query_bundle, nodes, additional_source_nodes or ())

    @dispatcher.span
    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response | AsyncStreamingResponse:
        """See :meth:`synthesize`. The work is done in a thread."""
        return await self._arespond(query_bundle, nodes, additional_source_nodes or ())

    def _query(self, query_bundle: QueryBundle) -> Response | StreamingResponse:
        return self._respond(query_bundle)

    async def _aquery(self, query_bundle: QueryBundle) -> Response | AsyncStreamingResponse:
        return await self._arespond(query_bundle)

    def _respond(
        self, asked: QueryBundle, nodes: Sequence[NodeWithScore] | None = None, more: Sequence[NodeWithScore] = ()
    ) -> Response | StreamingResponse:
        responder = self._responder(asked, nodes, more)
        return responder.stream() if self._streaming else responder.respond()

    async def _arespond(
        self, asked: QueryBundle, nodes: Sequence[NodeWithScore] | None = None, more: Sequence[NodeWithScore] = ()
    ) -> Response | AsyncStreamingResponse:
        responder = self._responder(asked, nodes, more)
        return responder.astream() if self._streaming else await responder.arespond()

    def _responder(
        self, asked: QueryBundle, nodes: Sequence[NodeWithScore] | None, more: Sequence[NodeWithScore]
    ) -> Responder:
        chunk_ids = None if nodes is None else [one.node.node_id for one in nodes]
        # The spans are children of the caller's, which is closed when a stream's words are taken.
        ask = partial(self._ask, asked, chunk_ids, StageSpans(self))
        return Responder(self._engine, self._namespace, ask, more)

    def _ask(
        self,
        asked: QueryBundle,
        chunk_ids: Collection[str] | None,
        spans: StageSpans,
        listening: Listening | None = None,
    ) -> "core.Answer":
        def listen(event: "core.Event") -> None:
            if listening is not None:
                listening.check()
                if isinstance(event, core.Written):
                    listening.say(event.text)
            spans.see(event)

        writer = LLMWriter(self._llm, lambda text: len(self._engine.backbone.encode(text))) if self._llm else None
        told = core.Instructions(**{name: prompt.format() for name, prompt in self._told.items()})
        # Chunks that are named were found under these filters, or are wanted in spite of them.
        among = passing(self._engine, self._namespace, self._filters) if chunk_ids is None else None
        with spans:
            return self._engine.ask(
                asked.query_str,
                self._namespace,
                self._settings,
                listen,
                writer,
                chunk_ids=chunk_ids,
                document_ids=among,
                instructions=told,
            )

    def _get_prompts(self) -> PromptDictType:
        told = core.Instructions()
        words = {"system": told.system, "update": COPY, "answer": told.answer}
        return {**{name: PromptTemplate(text) for name, text in words.items()}, **self._told}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        for name, prompt in prompts.items():
            if name not in (known := self._get_prompts()):
                raise InputError(f"there is no prompt {name!r} to update: name one of {', '.join(known)}")
            if prompt.template_vars:
                raise InputError(
                    f"prompt {name!r} has variables {', '.join(prompt.template_vars)}: write it without; the question "
                    "and the text are shown before it"
                )
        self._told.update(prompts)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}
