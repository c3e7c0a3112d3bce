"""An agent that remembers what left its context, each session for itself."""

import asyncio

from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import Memory

import core
from llamaindex_compressed_memory import CompressedMemoryBlock, CompressedMemoryLLM

engine = core.Engine.open(compression=core.CompressionSettings(encode=False))
block = CompressedMemoryBlock(engine=engine)
# A larger model takes tools too, such as QueryEngineTool.from_defaults(CompressedMemoryQueryEngine(engine, …)).
agent = ReActAgent(tools=[], llm=CompressedMemoryLLM(engine=engine, max_tokens=24), streaming=False)


def memory(session: str) -> Memory:
    # Far too short, so that what is said leaves it soon. ReActAgent leaves out a system message, hence "user".
    return Memory.from_defaults(
        session_id=session,
        token_limit=60,
        chat_history_token_ratio=0.5,
        token_flush_size=10,
        memory_blocks=[block],
        insert_method="user",
    )


async def main() -> None:
    ada, bob = memory("ada"), memory("bob")
    for session, fact in ((ada, "My sister Edith keeps bees in Crail."), (bob, "I paint my boat blue every spring.")):
        for said in (fact, "The harbour master comes on Tuesday, and on Friday there is the meeting of the pilots."):
            answered = ChatMessage(role="assistant", content="Noted.")
            await session.aput_messages([ChatMessage(role="user", content=said), answered])

    question = "Where does my sister keep bees?"
    for name, session in (("ada", ada), ("bob", bob)):
        # The model here is a very small one. What counts is what it is shown: see what the memory gives it.
        print(name, await agent.run(question, memory=session))
        print(name, [message.content for message in await session.aget(input=question)])

    await block.adelete("ada")  # Memory.reset() leaves blocks as they are
    print("left:", [summary.namespace for summary in engine.bank.summaries()])
    for session in (ada, bob):
        await session.sql_store._async_engine.dispose()


asyncio.run(main())
