"""How a piece of a stored document looks to LlamaIndex."""

from typing import Any

from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

import core

ORIGIN = "_llama_index_origin"
"""Metadata that a stored node has and a stored document has not: which document it is of, and where it stands there."""


def source_node(
    engine: "core.Engine", namespace: str, document_id: str, start: int, text: str, gate: float, node_id: str | None
) -> NodeWithScore:
    """Return ``text``, which stands in the stored document from character ``start`` on, scored with P(open) ``gate``.

    Metadata holds what was stored with the document, and ``document_id``, ``start`` and ``end``. What was stored as a
    node is given in its document's characters if the node told where it stands, else in its own. Without a
    ``node_id`` the node is named for its place.
    """
    metadata: dict[str, Any] = engine.bank.document_metadata(namespace, document_id)
    origin = metadata.pop(ORIGIN, {})
    source = origin.get("ref_doc_id", document_id)
    if (offset := origin.get("start")) is not None:
        document_id, start = source, offset + start
    end = start + len(text)
    node = TextNode(
        id_=node_id or f"{document_id}:{start}-{end}",
        text=text,
        start_char_idx=start,
        end_char_idx=end,
        metadata={**metadata, "document_id": document_id, "start": start, "end": end},
        # Numbers for people and programs; they would only distract a model that reads the node.
        excluded_llm_metadata_keys=["start", "end"],
        excluded_embed_metadata_keys=["start", "end"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)},
    )
    return NodeWithScore(node=node, score=gate)


def filterable(record: "core.DocumentRecord") -> dict[str, object]:
    """Return what filters see of a stored document: its metadata and, as in vector stores, the id of its source."""
    metadata: dict[str, Any] = dict(record.metadata)
    source = metadata.pop(ORIGIN, {}).get("ref_doc_id", record.document_id)
    return {**metadata, "document_id": source, "doc_id": source, "ref_doc_id": source}
