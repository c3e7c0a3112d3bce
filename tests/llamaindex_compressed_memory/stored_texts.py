"""Texts in a bank, a question about them, and what a node cut from one of them must hold."""

from pydoc_data.topics import topics

from llama_index.core.schema import NodeRelationship

from core import RecallSettings

TEXTS = {name: topics[name][:700] for name in ("assert", "del", "power")}
QUESTION = "What does an assert statement insert into a program?"
SETTINGS = RecallSettings(top_k=2, max_steps=2, callback=False, raw_passages=1, update_tokens=32, answer_tokens=8)


def check_node(found):
    metadata = found.node.metadata
    text = TEXTS[metadata["document_id"]]
    assert found.node.get_content() == text[metadata["start"] : metadata["end"]]
    assert (found.node.start_char_idx, found.node.end_char_idx) == (metadata["start"], metadata["end"])
    assert metadata["kind"] == "statement"
    assert found.node.relationships[NodeRelationship.SOURCE].node_id == metadata["document_id"]
    assert 0 < found.score <= 1
