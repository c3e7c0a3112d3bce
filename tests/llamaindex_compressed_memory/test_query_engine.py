import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import Document, NodeWithScore, QueryBundle, TextNode

import llamaindex_compressed_memory
from core import RecallSettings
from core.errors import InputError, UnknownNamespaceError
from llamaindex_compressed_memory import CompressedMemoryQueryEngine

from .stored_texts import QUESTION, SETTINGS, TEXTS, check_node


@pytest.fixture(scope="module")
def response(engine):
    return engine.query(QUESTION)


def test_exported_names():
    assert llamaindex_compressed_memory.__all__ == [
        "CompressedMemoryBlock",
        "CompressedMemoryIngestion",
        "CompressedMemoryLLM",
        "CompressedMemoryQueryEngine",
        "CompressedMemoryRetriever",
    ]


def test_import_brings_no_torch():
    code = "import sys, llamaindex_compressed_memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_bank_of_the_other_package_is_answered_from(response):
    assert isinstance(response, Response)
    assert str(response)
    assert response.metadata["working_memory"]
    assert response.metadata["usage"]["model_calls"] >= 1


def test_source_nodes_are_cut_from_the_text(response):
    assert response.source_nodes
    for found in response.source_nodes:
        check_node(found)
        assert found.score > SETTINGS.threshold
        assert " ".join(found.node.get_content().split()) in response.metadata["working_memory"]
    assert len({found.node.node_id for found in response.source_nodes}) == len(response.source_nodes)


def test_loop_keeps_ticking_during_aquery(engine, response):
    async def ticks_while_asked():
        asked = asyncio.create_task(engine.aquery(QUESTION))
        ticks = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await asked

    ticks, found = asyncio.run(ticks_while_asked())
    assert ticks >= 5
    assert str(found) == str(response)


def test_nothing_opens(bank):
    response = CompressedMemoryQueryEngine.from_persist_dir(bank, settings=RecallSettings(threshold=1.0)).query(
        QUESTION
    )
    assert str(response)
    assert response.source_nodes == []
    assert response.metadata["working_memory"] == ""


def test_documents_keep_their_ids_and_the_bank_its_encodings(engine, bank):
    again = [Document(text=text, doc_id=name, metadata={"kind": "statement"}) for name, text in TEXTS.items()]
    reopened = CompressedMemoryQueryEngine.from_documents(again, bank=bank, settings=SETTINGS)
    assert [name for name, *_ in reopened._engine.bank.documents("default")] == list(TEXTS)
    assert reopened.retrieve(QueryBundle(QUESTION)) == engine.retrieve(QueryBundle(QUESTION))


def test_documents_in_memory():
    engine = CompressedMemoryQueryEngine.from_documents(
        [Document(text="Ruth Calder kept bees.", doc_id="keeper", metadata={"page": 7})], namespace="keepers"
    )
    (found,) = engine.retrieve(QueryBundle("Who kept bees?"))
    assert found.node.metadata == {"page": 7, "document_id": "keeper", "start": 0, "end": 22}


def test_synthesis_from_what_was_retrieved_is_the_answer(engine, response):
    bundle = QueryBundle(QUESTION)
    nodes = engine.retrieve(bundle)
    more = NodeWithScore(node=TextNode(text="more", id_="more"))
    made = engine.synthesize(bundle, nodes, additional_source_nodes=[more])
    assert str(made) == str(response)
    assert [found.node.node_id for found in made.source_nodes] == [
        *(found.node.node_id for found in response.source_nodes),
        "more",
    ]


async def test_synthesis_reads_all_the_nodes_that_it_is_given_and_no_others(engine):
    bundle = QueryBundle(QUESTION)
    every = CompressedMemoryQueryEngine(engine._engine, settings=RecallSettings(threshold=0)).as_retriever(
        similarity_top_k=20
    )
    unlikely = [found for found in await every.aretrieve(bundle) if found.node.metadata["document_id"] != "assert"]
    # Without the tagger, which rules out texts that do not help before they are read.
    settings = RecallSettings(threshold=1.0, max_steps=1, likely_notes=False)
    closed = CompressedMemoryQueryEngine(engine._engine, settings=settings)
    made = await closed.asynthesize(bundle, unlikely[:2])
    assert made.metadata["usage"]["model_calls"] >= 2
    assert all(found.node.metadata["document_id"] != "assert" for found in made.source_nodes)
    assert str(closed.synthesize(bundle, [])).startswith("I found nothing")
    with pytest.raises(InputError, match="'elsewhere'"):
        closed.synthesize(bundle, [NodeWithScore(node=TextNode(text="No chunk.", id_="elsewhere"))])


def test_namespaces_that_hold_nothing(bank):
    with pytest.raises(UnknownNamespaceError, match="'nobody'"):
        CompressedMemoryQueryEngine.from_persist_dir(bank, namespace="nobody").query(QUESTION)


def test_inputs_that_cannot_be_used(engine, tmp_path):
    with pytest.raises(InputError):
        CompressedMemoryQueryEngine.from_documents([], bank=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError):
        CompressedMemoryQueryEngine.from_documents([Document(text=" ")])
    with pytest.raises(InputError):
        engine.query("  ")
