"""The gate as a LangChain retriever: the chunks that it opens for a question, unread by any model."""

from collections.abc import Collection
from pathlib import Path

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field

import core
from core.settings import replaced

from .documents import opened
from .engines import EngineHandle
from .namespaces import check_namespace


class CompressedMemoryRetriever(BaseRetriever):
    """Finds whole chunks in one namespace of a bank, likeliest first.

    Metadata: what was stored with the document, and ``document_id``, ``start``, ``end`` (characters of the document)
    and ``gate``, P(open). A retriever that is called directly does not see a config's ``configurable``, so the
    namespace is a field, and may be given to ``invoke`` as an argument.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    bank: Path | None = None
    namespace: str
    k: int | None = None
    """Most documents; ``None``: as the settings' ``top_k`` says."""
    score_threshold: float | None = None
    """P(open) that a document must be above, from 0 to 1; ``None``: the settings' ``threshold``."""
    document_ids: Collection[str] | None = None
    """Documents whose chunks there are to find; ``None``: all of the namespace."""
    model: str | None = None
    adapters: str | None = None
    embedder: str | None = None
    settings: core.RecallSettings | None = None
    handle: EngineHandle = Field(default_factory=EngineHandle, exclude=True, repr=False)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain hands it over
        k: int | None = None,
        score_threshold: float | None = None,
        namespace: str | None = None,
        document_ids: Collection[str] | None = None,
    ) -> list[Document]:
        whose = check_namespace(self.namespace if namespace is None else namespace)
        engine = self._opened()
        among = self.document_ids if document_ids is None else document_ids
        found = engine.retrieve(query, whose, self._chosen(k, score_threshold), among)
        return [opened(engine, whose, chunk) for chunk in found]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        score_threshold: float | None = None,
        namespace: str | None = None,
        document_ids: Collection[str] | None = None,
    ) -> list[Document]:
        def work() -> list[Document]:
            return self._get_relevant_documents(
                query,
                run_manager=run_manager.get_sync(),
                k=k,
                score_threshold=score_threshold,
                namespace=namespace,
                document_ids=document_ids,
            )

        return await run_in_executor(None, work)

    def _chosen(self, k: int | None, score_threshold: float | None) -> core.RecallSettings:
        top_k = self.k if k is None else k
        threshold = self.score_threshold if score_threshold is None else score_threshold
        changes = {name: value for name, value in (("top_k", top_k), ("threshold", threshold)) if value is not None}
        return replaced(self.settings or core.RecallSettings(), **changes)

    def _opened(self) -> "core.Engine":
        return self.handle.opened(
            self.bank,
            model=self.model,
            adapters=self.adapters,
            embedder=self.embedder,
            compression=None,
            create=False,
        )
