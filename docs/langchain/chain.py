"""A chain that answers from Python's own language reference, word by word, and then says where it read it."""

from pydoc_data.topics import topics

from langchain_core.documents import Document

from langchain_compressed_memory import CompressedMemory

documents = [Document(text, id=name) for name, text in topics.items() if name in ("assert", "break", "del", "with")]
memory = CompressedMemory.from_documents(documents)

answer = memory.pick("answer")
for words in answer.stream({"question": "What does an assert statement insert into a program?"}):
    print(words, end="", flush=True)
print()

result = memory.invoke("What does the break statement terminate?")
for source in result["sources"]:
    print(source.metadata["document_id"], source.metadata["start"], source.metadata["end"], source.page_content)
print(result["usage_metadata"])
