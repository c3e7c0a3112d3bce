"""The memory as a LangChain runnable: documents go in once, questions come through ``invoke`` and its kin."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import partial, reduce
from itertools import chain
from operator import add
from pathlib import Path
from typing import Any, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import AddableDict, Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import ConfigurableFieldSpec
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic takes the one in typing only from Python 3.12 on

import core
from core.errors import InputError
from core.streaming import Finished, Listening, astreamed, in_thread, streamed

from .chat_model import ChatModelWriter
from .documents import named, source
from .engines import EngineHandle
from .namespaces import NAMESPACE_SPEC, check_namespace, chosen_namespace
from .retriever import CompressedMemoryRetriever
from .summarizer import SUMMARY_QUESTION, summarizer
from .tool import TOOL_DESCRIPTION, TOOL_NAME, RecallInput, recall_tool
from .tracing import TracedSteps


class Question(TypedDict):
    """What a chain may hand in; other keys are left alone."""

    question: str


class Recollection(TypedDict):
    """What comes out."""

    question: str
    answer: str
    sources: list[Document]
    """The spans that the answer rests on, best first, word for word. Metadata: what was stored with the
    document, and ``document_id``, ``start``, ``end`` (characters of the document) and ``gate``, P(open)."""
    working_memory: str
    usage: dict[str, object]
    """Tokens read and written, model calls, seconds by stage."""
    usage_metadata: UsageMetadata
    """The same tokens as chat models report them."""


class CompressedMemory(RunnableSerializable[str | Question, Recollection]):
    """Answers questions from one namespace of a memory bank.

    The model is loaded when it is first needed, once in a process. May be shared between threads, users
    and event loops. ``stream`` gives the answer piece by piece, then what it rests on; the sum of the pieces is
    what ``invoke`` returns. Each chunk that is read is a run of its own to tracing and ``astream_events``.
    """

    # A misspelt namespace must fail, not fall back to another one.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    bank: Path | None = None
    """A directory, made if it is not there; ``None`` keeps the bank in memory."""
    namespace: str | None = None
    """Whose memory this is; nothing is shared between two. ``None``: each call says so, with
    ``config={"configurable": {"namespace": …}}``, and fails if it does not."""
    model: str | None = None
    """See :func:`core.weights.resolve`. ``None``, here and below: as the bank was made, else the default."""
    adapters: str | None = None
    """``"default"``, those that ship for the model; ``"none"``; or a folder that training wrote."""
    embedder: str | None = None
    compression: core.CompressionSettings | None = None
    settings: core.RecallSettings | None = None
    document_ids: Collection[str] | None = None
    """Documents to answer from; ``None``: all of the namespace. A copy with others costs nothing:
    ``memory.model_copy(update={"document_ids": ["report.pdf"]})``."""
    llm: BaseChatModel | None = None
    """The application's own chat model as the reasoner: it reads the source text of the chunks that the gate
    opens. Gate, callback and sources are the same. ``None``: the bank's own model reads."""
    handle: EngineHandle = Field(default_factory=EngineHandle, exclude=True, repr=False)
    """What copies of this object share; not for users to set."""

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The namespace, where it is not fixed."""
        return [NAMESPACE_SPEC] if self.namespace is None else []

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        *,
        metadatas: Sequence[Mapping[str, object]] | None = None,
        ids: Sequence[str] | None = None,
        bank: str | Path | None = None,
        namespace: str = "default",
        model: str | None = None,
        adapters: str | None = None,
        embedder: str | None = None,
        compression: core.CompressionSettings | None = None,
        settings: core.RecallSettings | None = None,
        llm: BaseChatModel | None = None,
    ) -> Self:
        """Return a memory that holds ``texts``, each a document; see :meth:`from_documents`.

        Args:
            metadatas: values that JSON can hold, one mapping a text; given back with the sources.
            ids: one a text.

        Raises:
            InputError: besides what :meth:`from_documents` refuses, there are more or fewer ``metadatas``
                or ``ids`` than texts.
        """
        if isinstance(texts, str):
            raise InputError(f"texts is one string of {len(texts)} characters: put it in a list")
        texts = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise InputError(f"{len(texts)} texts came with {len(given)} {name}: give one a text")
        documents = [
            Document(page_content=text, metadata=dict(metadatas[i]) if metadatas else {}, id=ids[i] if ids else None)
            for i, text in enumerate(texts)
        ]
        return cls.from_documents(
            documents,
            bank=bank,
            namespace=namespace,
            model=model,
            adapters=adapters,
            embedder=embedder,
            compression=compression,
            settings=settings,
            llm=llm,
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
        llm: BaseChatModel | None = None,
    ) -> Self:
        """Return a memory that holds ``documents``, beside what the bank holds already.

        A document is stored under its ``id``, else its ``metadata["source"]``, else as ``document-1`` and so on;
        pages of one source become ``file.pdf``, ``file.pdf#2`` and so on. An id that the bank holds is
        replaced if its text changed and skipped if not, so that running a script again encodes nothing anew.

        Raises:
            InputError: there is no document, or one is empty.
            BankMismatchError: the bank was made with another model or other settings.
            BankError: another process is writing to the bank.
        """
        memory = cls(
            bank=None if bank is None else Path(bank),
            namespace=check_namespace(namespace),
            model=model,
            adapters=adapters,
            embedder=embedder,
            compression=compression,
            settings=settings,
            llm=llm,
        )
        memory._take(documents, (), memory.namespace_of())
        return memory

    # ---- what is stored ----

    def add_documents(self, documents: Iterable[Document], *, namespace: str | None = None) -> list[str]:
        """Take more documents in, as :meth:`from_documents` does, and return the ids they are stored under.

        Documents with neither id nor source get numbers that are still free, so that they replace nothing.

        Args:
            namespace: whose they are; needed where the memory has none of its own.

        Raises:
            InputError: there is no document, one is empty, or no namespace was given.
            BankError: another process is writing to the bank.
        """
        chosen = self.namespace_of(namespace)
        return self._take(documents, self._held(chosen), chosen)

    async def aadd_documents(self, documents: Iterable[Document], *, namespace: str | None = None) -> list[str]:
        """See :meth:`add_documents`. Cancelled, it stops at the next commit; what was committed stays, whole."""

        def work(listening: Listening) -> list[str]:
            chosen = self.namespace_of(namespace)
            return self._take(documents, self._held(chosen), chosen, listening)

        return await in_thread(work)

    def delete(self, document_ids: Collection[str] | None = None, *, namespace: str | None = None) -> None:
        """Remove documents, or with ``document_ids=None`` the whole namespace: text, slots, embeddings and index.

        On return their bytes are gone from the bank's directory too.

        Args:
            namespace: whose; needed where the memory has none of its own.

        Raises:
            InputError: no namespace was given, or ``document_ids`` is a single string.
            UnknownNamespaceError, BankError: there is no such namespace or document; nothing was removed.
        """
        if isinstance(document_ids, str):
            raise InputError(f"document_ids is one string, {document_ids!r}: put it in a list")
        self.engine(create=False).delete(self.namespace_of(namespace), document_ids)

    async def adelete(self, document_ids: Collection[str] | None = None, *, namespace: str | None = None) -> None:
        """See :meth:`delete`. Once begun it is brought to its end, even if it is cancelled."""
        await asyncio.shield(asyncio.to_thread(self.delete, document_ids, namespace=namespace))

    # ---- questions ----

    def invoke(
        self,
        input: str | Question,  # noqa: A002 - the name that LangChain gives it
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Recollection:
        """Answer a question. Where nothing opens, the answer says so and there are no sources.

        Raises:
            InputError: the question is missing, empty, or too long for the model; or no namespace was given.
            UnknownNamespaceError: nothing was stored in the namespace yet.
        """
        return self._call_with_config(self._invoked, input, config, **kwargs)

    async def ainvoke(
        self,
        input: str | Question,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Recollection:
        """See :meth:`invoke`. The work is done in a thread; cancelled, it stops at the next chunk or word."""
        return await self._acall_with_config(self._ainvoked, input, config, **kwargs)

    def stream(
        self,
        input: str | Question,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Iterator[Recollection]:
        """See :meth:`invoke`. Pieces are dictionaries with some of the keys, which can be added."""
        yield from self._transform_stream_with_config(iter([input]), self._streamed, config, **kwargs)

    async def astream(
        self,
        input: str | Question,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> AsyncIterator[Recollection]:
        """See :meth:`stream`."""

        async def once() -> AsyncIterator[str | Question]:
            yield input

        async for piece in self._atransform_stream_with_config(once(), self._astreamed, config, **kwargs):
            yield piece

    def as_retriever(
        self, *, k: int | None = None, score_threshold: float | None = None, namespace: str | None = None
    ) -> CompressedMemoryRetriever:
        """Return the gate alone as a retriever over the same bank; see :class:`CompressedMemoryRetriever`.

        Args:
            namespace: whose memory; needed where this memory has none of its own.
        """
        return CompressedMemoryRetriever(
            bank=self.bank,
            namespace=self.namespace_of(namespace),
            model=self.model,
            adapters=self.adapters,
            embedder=self.embedder,
            settings=self.settings,
            document_ids=self.document_ids,
            k=k,
            score_threshold=score_threshold,
            handle=self.handle,
        )

    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: dict[str, type] | None = None,
    ) -> BaseTool:
        """Return a tool for agents that asks this memory and returns the answer with its sources as text.

        The artifact is what :meth:`invoke` returns. The model never chooses the namespace: it is this memory's, or
        that of the run's config.

        Args:
            args_schema: must have a field ``question``; ``None``, here and below: one that suits.
            arg_types: not used: the tool takes a question.
        """
        del arg_types
        return recall_tool(self, args_schema or RecallInput, name or TOOL_NAME, description or TOOL_DESCRIPTION)

    def as_summarizer(self, question: str = SUMMARY_QUESTION) -> Runnable[list[AnyMessage], str]:
        """Return a ``summarizer=`` for LangChain's ``SummarizationMiddleware``.

        It stores the turns that leave the conversation, where this memory and its tool find them again, and puts in
        their place what the reasoner notes in them on ``question``. The namespace is this memory's, or that of the
        run's config.
        """
        return summarizer(self, question)

    # ---- how ----

    def _invoked(
        self, asked: str | Question, run_manager: CallbackManagerForChainRun, config: RunnableConfig
    ) -> Recollection:
        return self._ask(asked, run_manager, config)

    async def _ainvoked(
        self, asked: str | Question, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig
    ) -> Recollection:
        sync = run_manager.get_sync()
        return await in_thread(lambda listening: self._ask(asked, sync, config, listening))

    def _streamed(
        self, inputs: Iterator[str | Question], run_manager: CallbackManagerForChainRun, config: RunnableConfig
    ) -> Iterator[Recollection]:
        asked = reduce(add, list(inputs))  # a chain may hand its input on in chunks
        work = partial(self._ask, asked, run_manager, config, streaming=True)
        said = ""
        for piece in streamed(work):
            if isinstance(piece, str):
                said += piece
            yield _chunk(piece, said)

    async def _astreamed(
        self,
        inputs: AsyncIterator[str | Question],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> AsyncIterator[Recollection]:
        asked = reduce(add, [part async for part in inputs])
        work = partial(self._ask, asked, run_manager.get_sync(), config, streaming=True)
        said = ""
        async with aclosing(astreamed(work)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    said += piece
                yield _chunk(piece, said)

    def _ask(
        self,
        asked: str | Question,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        listening: Listening | None = None,
        *,
        streaming: bool = False,
    ) -> Recollection:
        question, namespace = _question(asked), chosen_namespace(self.namespace, config)
        engine, steps = self.engine(create=False), TracedSteps(run_manager)

        def listen(event: "core.Event") -> None:
            if listening is not None:
                listening.check()
            if isinstance(event, core.Opened | core.Step):
                steps.see(event)
            elif listening is not None and isinstance(event, core.Written):
                listening.say(event.text)

        writer = None
        if self.llm is not None:
            child = patch_config(config, callbacks=run_manager.get_child())
            writer = ChatModelWriter(
                self.llm, lambda text: len(engine.backbone.encode(text)), child, streaming=streaming
            )
        with steps:
            answer = engine.ask(question, namespace, self.settings, listen, writer, document_ids=self.document_ids)
        read, written = answer.usage.tokens_read + answer.usage.slots_read, answer.usage.tokens_written
        return Recollection(
            question=question,
            answer=answer.text,
            sources=[source(engine, namespace, note) for note in answer.sources],
            working_memory=answer.memory.text,
            usage=asdict(answer.usage),
            usage_metadata=UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written),
        )

    def _take(
        self,
        documents: Iterable[Document],
        held: Collection[str],
        namespace: str,
        listening: Listening | None = None,
    ) -> list[str]:
        rest = iter(documents)
        first = next(rest, None)
        if first is None:
            raise InputError("there are no texts or documents: give at least one")

        def progress(_: "core.Progress") -> None:
            if listening is not None:
                listening.check()

        ids: list[str] = []
        self.engine().add(named(chain((first,), rest), held, ids), namespace, progress)
        return ids

    def _held(self, namespace: str) -> set[str]:
        return {name for name, *_ in self.engine().bank.documents(namespace)}

    def namespace_of(self, given: str | None = None) -> str:
        """Return the namespace of this memory or, where it has none, the one ``given``.

        Raises:
            InputError: neither names one, or they name two.
        """
        return chosen_namespace(self.namespace, {"configurable": {"namespace": given}})

    def engine(self, *, create: bool = True) -> "core.Engine":
        """Return what does the work, for what LangChain has no place for: the bank, its model, its embedder.

        Raises:
            MissingBankError: there is no bank yet, and none may be made.
        """
        return self.handle.opened(
            self.bank,
            model=self.model,
            adapters=self.adapters,
            embedder=self.embedder,
            compression=self.compression,
            create=create,
        )


def _chunk(piece: str | Finished[Recollection], said: str) -> Recollection:
    """Return what ``piece`` adds to what was ``said``, so that the sum of all chunks is the result."""
    if isinstance(piece, str):
        return cast(Recollection, AddableDict(answer=piece))
    # An answer that nothing was found is not written by a model, so no piece of it came.
    rest = piece.result["answer"].removeprefix(said)
    return cast(Recollection, AddableDict({**piece.result, "answer": rest}))


def _question(asked: object) -> str:
    question = asked.get("question") if isinstance(asked, Mapping) else asked
    if not isinstance(question, str):
        raise InputError(f"the input is {asked!r}: give the question as a string or as {{'question': '…'}}")
    return question
