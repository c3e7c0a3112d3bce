"""The whole way from question to answer with sources, as a LlamaIndex query engine."""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import Document, NodeWithScore, QueryBundle
from llama_index.core.types import TokenAsyncGen, TokenGen

import core
from core.errors import InputError
from core.streaming import Listening, astreamed, in_thread, streamed

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

    With ``streaming=True`` the response's words come as they are written; its source nodes and metadata are there
    when the last has come.
    """

    def __init__(
        self,
        engine: "core.Engine",
        *,
        namespace: str = "default",
        settings: core.RecallSettings | None = None,
        llm: LLM | None = None,
        streaming: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self._engine, self._namespace, self._settings = engine, namespace, settings
        self._llm, self._streaming = llm, streaming

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
        streaming: bool = False,
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
            streaming=streaming,
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
        return cls(
            engine,
            namespace=namespace,
            settings=settings,
            llm=llm,
            streaming=streaming,
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

    def _query(self, query_bundle: QueryBundle) -> Response | StreamingResponse:
        if not self._streaming:
            answer = self._ask(query_bundle)
            return Response(answer.text, self._evidence(answer), _metadata(answer))
        found = _Found()
        return StreamingResponse(self._words(query_bundle, found), found.nodes, found.metadata)

    async def _aquery(self, query_bundle: QueryBundle) -> Response | AsyncStreamingResponse:
        if not self._streaming:
            answer = await in_thread(partial(self._ask, query_bundle))
            return Response(answer.text, self._evidence(answer), _metadata(answer))
        found = _Found()
        return AsyncStreamingResponse(self._awords(query_bundle, found), found.nodes, found.metadata)

    def _words(self, query_bundle: QueryBundle, found: "_Found") -> TokenGen:
        said = ""
        for piece in streamed(partial(self._ask, query_bundle)):
            text = piece if isinstance(piece, str) else self._rest(piece.result, said, found)
            said += text
            if text:
                yield text

    async def _awords(self, query_bundle: QueryBundle, found: "_Found") -> TokenAsyncGen:
        said = ""
        async with aclosing(astreamed(partial(self._ask, query_bundle))) as pieces:
            async for piece in pieces:
                text = piece if isinstance(piece, str) else self._rest(piece.result, said, found)
                said += text
                if text:
                    yield text

    def _rest(self, answer: "core.Answer", said: str, found: "_Found") -> str:
        """Fill in what was ``found`` and return what of the answer no model wrote: that it was nothing."""
        found.nodes.extend(self._evidence(answer))
        found.metadata.update(_metadata(answer))
        return answer.text.removeprefix(said)

    def _ask(self, query_bundle: QueryBundle, listening: Listening | None = None) -> "core.Answer":
        def listen(event: "core.Opened | core.Step | core.Written") -> None:
            if listening is not None:
                listening.check()
                if isinstance(event, core.Written):
                    listening.say(event.text)

        writer = LLMWriter(self._llm, lambda text: len(self._engine.backbone.encode(text))) if self._llm else None
        return self._engine.ask(query_bundle.query_str, self._namespace, self._settings, listen, writer)

    def _get_prompt_modules(self) -> PromptMixinType:
        # The model was trained on its prompts: there are none to change.
        return {}

    def _evidence(self, answer: "core.Answer") -> list[NodeWithScore]:
        return [
            source_node(
                self._engine,
                self._namespace,
                f"{note.document_id}:{note.span.start}-{note.span.end}",
                note.document_id,
                note.span.start,
                note.quote,
                note.gate,
            )
            for note in answer.sources
        ]


@dataclass(frozen=True)
class _Found:
    """What a streaming response holds from the start and is filled when the last word has come."""

    nodes: list[NodeWithScore] = field(default_factory=list)
    metadata: dict[str, object] = field(default_factory=dict)


def _metadata(answer: "core.Answer") -> dict[str, object]:
    return {"working_memory": answer.memory.text, "usage": asdict(answer.usage)}
