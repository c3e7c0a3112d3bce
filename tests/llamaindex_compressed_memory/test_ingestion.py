"""The last step of the framework's own pipelines: readers, splitters and caches before it, a bank behind it."""

import asyncio

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, NodeRelationship, QueryBundle, TextNode, TransformComponent
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from core import CompressionSettings, Engine, RecallSettings
from core.errors import InputError
from llamaindex_compressed_memory import CompressedMemoryIngestion, CompressedMemoryQueryEngine

from .stored_texts import QUESTION, TEXTS

EVERYTHING = RecallSettings(threshold=0, top_k=50)


@pytest.fixture
def engine(default_backbone, default_embedder):
    return Engine(default_backbone, default_embedder, CompressionSettings(encode=False))


@pytest.fixture
def documents():
    return [Document(doc_id=name, text=text, metadata={"kind": "statement"}) for name, text in TEXTS.items()]


def pipeline(engine, **options):
    splitter = SentenceSplitter(chunk_size=64, chunk_overlap=16)
    return IngestionPipeline(transformations=[splitter, CompressedMemoryIngestion(engine=engine)], **options)


def found(engine, filters=None):
    memory = CompressedMemoryQueryEngine(engine, settings=EVERYTHING)
    return memory.as_retriever(filters=filters).retrieve(QueryBundle(QUESTION))


def test_nodes_of_a_splitter_are_found_under_their_document_with_true_spans(engine, documents):
    nodes = pipeline(engine).run(documents=documents)
    assert len(nodes) > len(documents)
    stored = found(engine)
    assert len({one.node.node_id for one in stored}) == len(stored) == len(nodes)
    for one in stored:
        metadata = one.node.metadata
        text = TEXTS[metadata["document_id"]]
        assert one.node.get_content() == text[metadata["start"] : metadata["end"]]
        assert one.node.ref_doc_id == metadata["document_id"]
        assert set(metadata) == {"kind", "document_id", "start", "end"}
    assert any(one.node.metadata["start"] for one in stored)
    wanted = MetadataFilters(filters=[MetadataFilter(key="ref_doc_id", value="del")])
    assert {one.node.ref_doc_id for one in found(engine, wanted)} == {"del"}


async def test_the_event_loop_keeps_turning(engine, documents):
    running = asyncio.create_task(pipeline(engine).arun(documents=documents))
    ticks = 0
    while not running.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert len(found(engine)) == len(await running)
    assert ticks >= 5


def test_a_document_that_comes_again_replaces_its_nodes_and_what_did_not_change_is_known(engine, documents):
    pipeline(engine).run(documents=documents)
    before = {record.document_id: record.sha256 for record in engine.bank.records("default")}
    pipeline(engine).run(documents=documents)
    assert {record.document_id: record.sha256 for record in engine.bank.records("default")} == before
    pipeline(engine).run(documents=[Document(doc_id="del", text="It is short now.")])
    texts = [one.node.get_content() for one in found(engine) if one.node.ref_doc_id == "del"]
    assert texts == ["It is short now."]
    assert {one.node.ref_doc_id for one in found(engine)} == set(TEXTS)
    CompressedMemoryQueryEngine(engine).delete_ref_doc("assert")
    assert {one.node.ref_doc_id for one in found(engine)} == {"del", "power"}


class Counted(TransformComponent):
    """Counts how often it is run."""

    runs: int = 0

    def __call__(self, nodes, **kwargs):
        self.runs += 1
        return nodes


def test_the_cache_spares_what_comes_before_and_a_new_bank_is_filled_all_the_same(
    engine, documents, default_backbone, default_embedder
):
    cache = IngestionCache()

    def run(into):
        counted = Counted()
        IngestionPipeline(transformations=[counted, CompressedMemoryIngestion(engine=into)], cache=cache).run(
            documents=documents
        )
        return counted.runs

    assert run(engine) == 1
    other = Engine(default_backbone, default_embedder, CompressionSettings(encode=False))
    assert run(other) == 0
    assert [one.node.get_content() for one in found(other)] == [one.node.get_content() for one in found(engine)]


def test_a_reader_and_no_splitter(engine, tmp_path):
    (tmp_path / "bees.txt").write_text("Ruth Calder kept bees.")
    files = SimpleDirectoryReader(tmp_path, filename_as_id=True).load_data()
    nodes = IngestionPipeline(transformations=[CompressedMemoryIngestion(engine=engine)]).run(documents=files)
    (stored,) = found(engine)
    assert stored.node.metadata["file_name"] == "bees.txt"
    assert stored.node.relationships[NodeRelationship.SOURCE].node_id == nodes[0].node_id == files[0].doc_id


def test_nodes_that_do_not_tell_where_they_stand_keep_spans_of_their_own(engine):
    memory = CompressedMemoryQueryEngine(engine)
    source = Document(doc_id="keepers", text="unused")
    texts = ["Ruth Calder kept bees.", "Ruth Calder was born in Crail."]
    memory.insert_nodes(
        [TextNode(text=text, relationships={NodeRelationship.SOURCE: source.as_related_node_info()}) for text in texts]
    )
    stored = found(engine)
    assert {one.node.get_content() for one in stored} == set(texts)
    assert {one.node.ref_doc_id for one in stored} == {"keepers"}
    assert {one.node.metadata["document_id"] for one in stored} == {"keepers#0", "keepers#1"}
    with pytest.raises(InputError, match="empty"):
        memory.insert_nodes([TextNode(text=" ")])
