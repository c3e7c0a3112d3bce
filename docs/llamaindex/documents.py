"""From documents to answers with sources; then kept on disk and opened again."""

import tempfile
from pathlib import Path
from pydoc_data.topics import topics

from llama_index.core import Document
from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llamaindex_compressed_memory import CompressedMemoryQueryEngine

names = ("assert", "break", "del")
engine = CompressedMemoryQueryEngine.from_documents(
    [Document(doc_id=name, text=topics[name], metadata={"length": len(topics[name])}) for name in names]
)
response = engine.query("What does the break statement terminate?")
print(response)
for source in response.source_nodes:
    print(source.node.metadata["document_id"], source.node.metadata["start"], source.node.get_content())
print(response.metadata["usage"])

short = MetadataFilters(filters=[MetadataFilter(key="length", value=1500, operator="<")])
for found in engine.as_retriever(similarity_top_k=2, filters=short).retrieve("What does break do?"):
    print(found.score, found.node.metadata["document_id"])

with tempfile.TemporaryDirectory() as folder:
    engine.persist(Path(folder) / "bank")
    reopened = CompressedMemoryQueryEngine.from_persist_dir(Path(folder) / "bank", streaming=True)
    for words in reopened.query("What does the break statement terminate?").response_gen:
        print(words, end="", flush=True)
    print()
    question = QueryBundle("What does the break statement terminate?")
    print(reopened.synthesize(question, reopened.retrieve(question)[:1]))
