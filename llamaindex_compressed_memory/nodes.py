"""How a piece of a stored document looks to LlamaIndex."""

from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

import core


def source_node(
    engine: "core.Engine", namespace: str, node_id: str, document_id: str, start: int, text: str, gate: float
) -> NodeWithScore:
    """Return ``text``, which stands in the document from character ``start`` on, scored with P(open) ``gate``.

    Metadata holds what was stored with the document, and ``document_id``, ``start`` and ``end``.
    """
    end = start + len(text)
    node = TextNode(
        id_=node_id,
        text=text,
        start_char_idx=start,
        end_char_idx=end,
        metadata={
            **engine.bank.document_metadata(namespace, document_id),
            "document_id": document_id,
            "start": start,
            "end": end,
        },
        # Numbers for people and programs; they would only distract a model that reads the node.
        excluded_llm_metadata_keys=["start", "end"],
        excluded_embed_metadata_keys=["start", "end"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document_id)},
    )
    return NodeWithScore(node=node, score=gate)
