"""LlamaIndex's documents and nodes into a bank, on their own or at the end of an ``IngestionPipeline``."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.schema import BaseNode, Document, MetadataMode, TransformComponent
from pydantic import Field

import core

from .instrumentation import CompressEvent, dispatcher
from .nodes import ORIGIN, filterable


@dispatcher.span
def compress(engine: "core.Engine", documents: "Iterable[core.Document]", namespace: str) -> None:
    """Take ``documents`` in, see :meth:`core.engine.Engine.add`, and tell the dispatcher."""
    report = engine.add(documents, namespace)
    dispatcher.event(
        CompressEvent(
            documents=report.documents,
            unchanged=report.unchanged,
            chunks=report.chunks_encoded,
            tokens=report.tokens_encoded,
            seconds=sum(report.seconds.values()),
        )
    )


def compress_documents(engine: "core.Engine", documents: Iterable[Document], namespace: str) -> None:
    """Take whole documents in, each under its ``doc_id``."""
    compress(engine, (core.Document(d.doc_id, d.text, d.metadata) for d in documents), namespace)


def compress_nodes(engine: "core.Engine", nodes: Sequence[BaseNode], namespace: str) -> None:
    """Take nodes in; the nodes of a document that come together replace those that the bank has of it."""
    documents, parts = [], Counter[str]()
    for node in nodes:
        name, metadata = node.node_id, dict(node.metadata)
        if (source := node.ref_doc_id) is not None:
            # Splitters give new ids in every run; by place, what did not change is known again.
            name = f"{source}#{parts[source]}"
            parts[source] += 1
            metadata[ORIGIN] = {"ref_doc_id": source, "start": getattr(node, "start_char_idx", None)}
        documents.append(core.Document(name, node.get_content(MetadataMode.NONE), metadata))
    compress(engine, documents, namespace)
    kept = {document.document_id for document in documents}
    if stale := [name for source in parts for name in document_ids(engine, namespace, source) if name not in kept]:
        engine.delete(namespace, stale)


def document_ids(engine: "core.Engine", namespace: str, ref_doc_id: str) -> list[str]:
    """Return the ids under which the bank keeps a document, or its nodes."""
    return [
        record.document_id
        for record in engine.bank.records(namespace)
        if ref_doc_id in (record.document_id, filterable(record)["ref_doc_id"])
    ]


class CompressedMemoryIngestion(TransformComponent):
    """The last step of an ``IngestionPipeline``: stores the nodes in a bank, and hands them on as they are.

    The nodes of a document are found under its id: ``delete_ref_doc`` removes them, sources name it, with true spans
    where the splitter tells where its nodes stand. A document that comes again replaces what the bank has of it; text
    that did not change is not compressed again. The pipeline's cache spares the steps before this one and never this
    one, because a bank is made by it. One process writes to a bank at a time, so leave ``num_workers`` out.
    """

    engine: Any = Field(exclude=True)
    """A :class:`core.engine.Engine`."""
    namespace: str = core.DEFAULT_NAMESPACE

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ANN401, ARG002
        """Store ``nodes``.

        Raises:
            InputError: a node is empty, or an id comes twice.
            BankError: another process is writing to the bank.
        """
        compress_nodes(self.engine, nodes, self.namespace)
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ANN401
        """See :meth:`__call__`. The work is done in a thread."""
        return await asyncio.shield(asyncio.to_thread(self.__call__, nodes, **kwargs))

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Describe this step, each time anew: the pipeline's cache finds a step by this and then leaves it out."""
        return {**super().to_dict(**kwargs), "run": uuid4().hex}
