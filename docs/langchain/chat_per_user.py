"""One memory, many users: whose it is comes with each call, and a call that does not say is refused."""

from langchain_core.documents import Document

from langchain_compressed_memory import CompressedMemory

memory = CompressedMemory()
memory.add_documents([Document("Ada prefers the window seat and flies from Leuchars.", id="travel")], namespace="ada")
memory.add_documents([Document("Bob prefers the aisle and flies from Dyce.", id="travel")], namespace="bob")

for user in ("ada", "bob"):
    result = memory.invoke("Which seat is preferred?", {"configurable": {"namespace": user}})
    print(user, result["answer"], [source.page_content for source in result["sources"]])

try:
    memory.invoke("Which seat is preferred?")
except ValueError as error:
    print(error)

memory.delete(namespace="bob")  # text, slots, embeddings, index: gone
