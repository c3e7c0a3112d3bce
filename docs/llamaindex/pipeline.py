"""The framework's own reader, splitter and cache, and a bank at the end. Run again, what did not change is known."""

import asyncio
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter

import core
from llamaindex_compressed_memory import CompressedMemoryIngestion, CompressedMemoryQueryEngine

with tempfile.TemporaryDirectory() as folder:
    texts = Path(folder) / "texts"
    texts.mkdir()
    for name in ("assert", "break", "del"):
        (texts / f"{name}.txt").write_text(topics[name])

    engine = core.Engine.open(Path(folder) / "bank")
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=256), CompressedMemoryIngestion(engine=engine)]
    )
    for _ in range(2):
        # Ids that stay the same are how a file that changed replaces what the bank has of it.
        files = SimpleDirectoryReader(texts, filename_as_id=True).load_data()
        nodes = asyncio.run(pipeline.arun(documents=files))
        print(len(nodes), "nodes from", len(files), "files")

    memory = CompressedMemoryQueryEngine(engine)
    response = memory.query("What does the break statement terminate?")
    print(response)
    for source in response.source_nodes:
        print(source.node.metadata["file_name"], source.node.metadata["start"], source.node.get_content())
    memory.delete_ref_doc(response.source_nodes[0].node.ref_doc_id)
    print(sorted({record.metadata["file_name"] for record in engine.bank.records("default")}))
    engine.close()
