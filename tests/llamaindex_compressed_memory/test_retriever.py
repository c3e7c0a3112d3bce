import asyncio

import pytest
from llama_index.core.schema import QueryBundle

from core import RecallSettings
from core.errors import InputError, UnknownNamespaceError
from llamaindex_compressed_memory import CompressedMemoryQueryEngine, CompressedMemoryRetriever

from .stored_texts import QUESTION, SETTINGS, check_node


def test_retriever_gives_whole_chunks_likeliest_first(bank):
    every = RecallSettings(threshold=0.0, top_k=1)
    retriever = CompressedMemoryQueryEngine.from_persist_dir(bank, settings=every).as_retriever(similarity_top_k=10)
    nodes = retriever.retrieve(QUESTION)
    assert isinstance(retriever, CompressedMemoryRetriever)
    assert retriever.similarity_top_k == 10
    # More than the settings would have a model read, and not only the chunks that open a document.
    assert 8 < len(nodes) <= 10
    assert any(found.node.metadata["start"] > 0 for found in nodes)
    for found in nodes:
        check_node(found)
    assert [found.score for found in nodes] == sorted((found.score for found in nodes), reverse=True)
    assert nodes[0].node.metadata["document_id"] == "assert"
    assert "start" not in nodes[0].node.get_metadata_str(mode="llm")


def test_engine_and_retriever_agree_and_so_do_their_async_twins(engine):
    retriever = engine.as_retriever()
    nodes = retriever.retrieve(QUESTION)
    assert retriever.similarity_top_k == SETTINGS.top_k
    assert 1 <= len(nodes) <= SETTINGS.top_k
    assert engine.retrieve(QueryBundle(QUESTION)) == nodes
    assert asyncio.run(retriever.aretrieve(QUESTION)) == nodes


def test_namespace_that_holds_nothing(bank):
    with pytest.raises(UnknownNamespaceError, match="'nobody'"):
        CompressedMemoryQueryEngine.from_persist_dir(bank, namespace="nobody").as_retriever().retrieve(QUESTION)


def test_inputs_that_cannot_be_used(engine):
    with pytest.raises(InputError):
        engine.as_retriever().retrieve("  ")
    with pytest.raises(InputError, match="top_k=0"):
        engine.as_retriever(similarity_top_k=0)
