import asyncio

import pytest
from llama_index.core.schema import Document, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from core import RecallSettings
from core.errors import InputError, UnknownNamespaceError
from llamaindex_compressed_memory import CompressedMemoryQueryEngine, CompressedMemoryRetriever

from .stored_texts import QUESTION, SETTINGS, TEXTS, check_node


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


def only(*filters, condition="and"):
    return MetadataFilters(
        filters=[MetadataFilter(**f) if isinstance(f, dict) else f for f in filters], condition=condition
    )


def documents(engine, filters, k=2):
    return {
        f.node.metadata["document_id"]
        for f in engine.as_retriever(similarity_top_k=k, filters=filters).retrieve(QUESTION)
    }


@pytest.fixture(scope="module")
def tagged(engine):
    """The same bank, in which each document has a length and a list of tags beside its kind."""
    every = CompressedMemoryQueryEngine(engine._engine, namespace="tagged", settings=RecallSettings(threshold=0))
    tags = {"assert": ["debug"], "del": ["names", "unbind"], "power": ["operator"]}
    every.refresh_ref_docs(
        [
            Document(doc_id=name, text=text, metadata={"kind": "statement", "lines": i, "tags": tags[name]})
            for i, (name, text) in enumerate(TEXTS.items())
        ]
    )
    yield every
    every.delete_namespace()


def test_filters_narrow_before_the_gate_looks(tagged):
    (found, *others) = tagged.as_retriever(
        similarity_top_k=20, filters=only({"key": "document_id", "value": "power"})
    ).retrieve(QUESTION)
    assert len(others) >= 2
    assert {one.node.metadata["document_id"] for one in (found, *others)} == {"power"}
    # The likeliest chunks of all are of another document, and do not use up the places.
    assert documents(tagged, None, k=1) == {"assert"}
    assert documents(tagged, only({"key": "lines", "value": 1, "operator": ">="}), k=1) <= {"del", "power"}


def test_an_engine_with_filters_answers_from_what_passes_them(tagged):
    settings = RecallSettings(threshold=0, top_k=3, max_steps=2, raw_passages=1, update_tokens=32, answer_tokens=8)
    wanted = only({"key": "lines", "value": 1, "operator": ">="})
    narrow = CompressedMemoryQueryEngine(tagged._engine, namespace="tagged", settings=settings, filters=wanted)
    seen = []
    ask = narrow._engine.ask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrow._engine, "ask", lambda *a, **k: seen.append(ask(*a, **k)) or seen[-1])
        response = narrow.query(QUESTION)
    assert {step.chunk.document_id for step in seen[0].steps} <= {"del", "power"}
    assert seen[0].steps
    assert {n.node.metadata["document_id"] for n in response.source_nodes} <= {"del", "power"}
    assert documents(narrow, None) <= {"del", "power"}
    assert documents(narrow, only({"key": "document_id", "value": "assert"})) == {"assert"}
    # Nodes that are handed over are read, whatever the engine's own filters say.
    nodes = tagged.as_retriever(similarity_top_k=1).retrieve(QUESTION)
    assert nodes[0].node.metadata["document_id"] == "assert"
    response = narrow.synthesize(QueryBundle(QUESTION), nodes)
    assert {n.node.metadata["document_id"] for n in response.source_nodes} <= {"assert"}


def test_filters_are_the_frameworks_own(tagged):
    tag = {"key": "tags", "value": "names", "operator": "contains"}
    is_assert = {"key": "ref_doc_id", "value": "assert"}
    assert documents(tagged, only(tag), 20) == {"del"}
    assert documents(tagged, only(tag, is_assert, condition="or"), 20) == {"del", "assert"}
    assert documents(tagged, only(tag, is_assert, condition="not"), 20) == {"power"}
    nested = only({"key": "kind", "value": "statement"}, only(tag, is_assert, condition="or"))
    assert documents(tagged, nested, 20) == {"del", "assert"}
    assert documents(tagged, only({"key": "kind", "value": "poem"}), 20) == set()
    with pytest.raises(InputError, match="'lines' > 'ten'"):
        documents(tagged, only({"key": "lines", "value": "ten", "operator": ">"}))


async def test_the_event_loop_keeps_turning(tagged):
    asked = asyncio.create_task(tagged.as_retriever(similarity_top_k=20).aretrieve("Which names does del remove?"))
    ticks = 0
    while not asked.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks >= 2
    assert await asked


def test_text_that_a_filtered_document_shares_is_found(tagged):
    tagged.insert(Document(doc_id="copy", text=TEXTS["assert"], metadata={"kind": "copy"}))
    assert documents(tagged, only({"key": "kind", "value": "copy"}), 20) == {"copy"}
    tagged.delete_ref_doc("copy")


def test_namespace_that_holds_nothing(bank):
    with pytest.raises(UnknownNamespaceError, match="'nobody'"):
        CompressedMemoryQueryEngine.from_persist_dir(bank, namespace="nobody").as_retriever().retrieve(QUESTION)


def test_inputs_that_cannot_be_used(engine):
    with pytest.raises(InputError):
        engine.as_retriever().retrieve("  ")
    with pytest.raises(InputError, match="top_k=0"):
        engine.as_retriever(similarity_top_k=0)
