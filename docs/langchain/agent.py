"""An agent that remembers a user across conversations: recalled before each call of its model, stored afterwards."""

import tempfile
from pathlib import Path

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from own_chat_model import LocalChatModel

from langchain_compressed_memory import CompressedMemory, CompressedMemoryMiddleware

with tempfile.TemporaryDirectory() as folder:
    memory = CompressedMemory(bank=Path(folder) / "bank")
    agent = create_agent(
        LocalChatModel(),
        # A model that calls tools gets a recall tool too: leave tool=False out.
        middleware=[CompressedMemoryMiddleware(memory, window_messages=4, tool=False)],
        checkpointer=InMemorySaver(),
    )

    def say(text: str, user: str, conversation: str) -> str:
        config = {"configurable": {"thread_id": conversation, "namespace": user}}
        return agent.invoke({"messages": [("user", text)]}, config)["messages"][-1].text

    # The model here is a very small one. What counts is what it is shown: see what the gate finds for it.
    print(say("My sister Edith keeps bees in Crail.", "ada", "monday"))
    print(say("Where does my sister keep bees?", "ada", "tuesday"))
    for found in memory.as_retriever(namespace="ada").invoke("Where does my sister keep bees?"):
        print(found.metadata["gate"], found.page_content)
    # Another user's memory is another namespace.
    print(say("Where does my sister keep bees?", "bob", "friday"))
