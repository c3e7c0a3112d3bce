"""The gate as a LlamaIndex retriever: the chunks that it opens for a question, unread by any model."""

import asyncio
import time

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

import core
from core.settings import replaced

from .filters import passing
from .instrumentation import GateEvent, dispatcher
from .nodes import source_node


class CompressedMemoryRetriever(BaseRetriever):
    """Finds whole chunks in one namespace of a bank.

    Nodes come likeliest first, scored with P(open), under the id of their chunk. Metadata holds what was stored
    with the document, and ``document_id``, ``start`` and ``end``; the source relationship names the document.
    ``retrieve`` raises InputError for an empty question and for a filter that does not suit a document's metadata, and
    UnknownNamespaceError where nothing was stored.
    """

    def __init__(
        self,
        engine: "core.Engine",
        *,
        namespace: str = core.DEFAULT_NAMESPACE,
        similarity_top_k: int | None = None,
        filters: MetadataFilters | None = None,
        settings: core.RecallSettings | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """
        Args:
            similarity_top_k: most nodes; ``None`` takes the settings' ``top_k``.
            filters: which documents there are to open, by their metadata or their ``document_id``. They narrow before
                the gate looks, so that what is left can fill ``similarity_top_k``.
            settings: of these the threshold, ``top_k`` and ``candidates`` count here.

        Raises:
            InputError: ``similarity_top_k`` is below 1.
        """
        super().__init__(callback_manager=callback_manager)
        settings = settings or core.RecallSettings()
        top_k = settings.top_k if similarity_top_k is None else similarity_top_k
        self._settings = replaced(settings, top_k=top_k)
        self._engine, self._namespace, self._filters = engine, namespace, filters

    @property
    def similarity_top_k(self) -> int:
        return self._settings.top_k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        start = time.perf_counter()
        opened = self._engine.retrieve(
            query_bundle.query_str,
            self._namespace,
            self._settings,
            passing(self._engine, self._namespace, self._filters),
        )
        dispatcher.event(GateEvent(seconds=time.perf_counter() - start, found=len(opened)))
        return [
            source_node(
                self._engine,
                self._namespace,
                found.chunk.document_id,
                found.chunk.span.start,
                found.text,
                found.gate,
                found.chunk.chunk_id,
            )
            for found in opened
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)
