"""The memory as a LangChain runnable: documents go in once, questions come through ``invoke`` and its kin."""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, PrivateAttr
from typing_extensions import TypedDict  # pydantic takes the one in typing only from Python 3.12 on

import core
from core.errors import InputError

from .documents import named, source

if TYPE_CHECKING:
    from core import Engine


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


class CompressedMemory(RunnableSerializable[str | Question, Recollection]):
    """Answers questions from one namespace of a memory bank.

    The model is loaded when it is first needed, once in a process. May be shared between threads.
    """

    # A misspelt namespace must fail, not fall back to the namespace that everyone shares.
    model_config = ConfigDict(extra="forbid")

    bank: Path | None = None
    """A directory, made if it is not there; ``None`` keeps the bank in memory."""
    namespace: str = "default"
    """Nothing is shared between two namespaces."""
    model: str | None = None
    """See :func:`core.weights.resolve`. ``None``, here and below: as the bank was made, else the default."""
    adapters: str | None = None
    """``"default"``, those that ship for the model; ``"none"``; or a folder that training wrote."""
    embedder: str | None = None
    compression: core.CompressionSettings | None = None
    settings: core.RecallSettings | None = None

    # pydantic evaluates this annotation if it can, and core.Engine brings torch.
    _engine: "Engine | None" = PrivateAttr(default=None)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)

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
            namespace=namespace,
            model=model,
            adapters=adapters,
            embedder=embedder,
            compression=compression,
            settings=settings,
        )
        memory._take(documents, ())
        return memory

    def add_documents(self, documents: Iterable[Document]) -> list[str]:
        """Take more documents in, as :meth:`from_documents` does, and return the ids they are stored under.

        Documents with neither id nor source get numbers that are still free, so that they replace nothing.

        Raises:
            InputError: there is no document, or one is empty.
            BankError: another process is writing to the bank.
        """
        return self._take(documents, {name for name, *_ in self._opened().bank.documents(self.namespace)})

    def invoke(
        self,
        input: str | Question,  # noqa: A002 - the name that LangChain gives it
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Recollection:
        """Answer a question. Where nothing opens, the answer says so and there are no sources.

        Raises:
            InputError: the question is missing, empty, or too long for the model.
            UnknownNamespaceError: nothing was stored in the namespace yet.
        """
        return self._call_with_config(self._ask, input, config, **kwargs)

    async def ainvoke(
        self,
        input: str | Question,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Recollection:
        """See :meth:`invoke`. The work is done in a thread."""
        return await self._acall_with_config(self._ask_in_thread, input, config, **kwargs)

    async def _ask_in_thread(self, asked: str | Question) -> Recollection:
        return await run_in_executor(None, self._ask, asked)

    def _ask(self, asked: str | Question) -> Recollection:
        question = _question(asked)
        engine = self._opened(create=False)
        answer = engine.ask(question, self.namespace, self.settings)
        return Recollection(
            question=question,
            answer=answer.text,
            sources=[source(engine, self.namespace, note) for note in answer.sources],
            working_memory=answer.memory.text,
            usage=asdict(answer.usage),
        )

    def _take(self, documents: Iterable[Document], held: Collection[str]) -> list[str]:
        rest = iter(documents)
        first = next(rest, None)
        if first is None:
            raise InputError("there are no texts or documents: give at least one")
        ids: list[str] = []
        self._opened().add(named(chain((first,), rest), held, ids), self.namespace)
        return ids

    def _opened(self, *, create: bool = True) -> "core.Engine":
        with self._opening:
            if self._engine is None:
                self._engine = core.Engine.open(
                    self.bank,
                    model=self.model,
                    adapters=self.adapters,
                    embedder=self.embedder,
                    compression=self.compression,
                    create=create,
                )
            return self._engine


def _question(asked: object) -> str:
    question = asked.get("question") if isinstance(asked, Mapping) else asked
    if not isinstance(question, str):
        raise InputError(f"the input is {asked!r}: give the question as a string or as {{'question': '…'}}")
    return question
