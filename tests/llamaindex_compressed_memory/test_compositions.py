"""The engine as a part of the framework's larger ones. The application's model is scripted, the memory is real."""

import json

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, CompletionResponse, ToolCallBlock
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.mock import MockFunctionCallingLLM, MockLLM
from llama_index.core.memory import Memory
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool

from llamaindex_compressed_memory import CompressedMemoryBlock

from .test_changes import MAGNOLIA, WORD, made

FOUND = "The secret word is magnolia."


class Scripted(MockLLM):
    """Writes the next of its replies, and keeps what it was shown."""

    replies: list[str] = []  # noqa: RUF012 - pydantic copies it
    shown: list[str] = []  # noqa: RUF012 - pydantic copies it

    def __init__(self, *replies: str) -> None:
        super().__init__()
        self.replies.extend(replies)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs) -> CompletionResponse:
        self.shown.append(prompt)
        return CompletionResponse(text=self.replies.pop(0))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs):
        self.shown.append(prompt)
        text = self.replies.pop(0)
        yield CompletionResponse(text=text, delta=text)


@pytest.fixture(scope="module")
def memory():
    return made(MAGNOLIA)


@pytest.fixture(scope="module")
def tool(memory):
    return QueryEngineTool.from_defaults(memory, name="memory", description="What was agreed upon.")


async def test_a_tool(tool):
    called = tool.call(input=WORD)
    assert called.content == FOUND
    assert [found.node.ref_doc_id for found in called.raw_output.source_nodes] == ["word"]
    assert (await tool.acall(input=WORD)).content == FOUND


@pytest.mark.parametrize("use_async", [False, True])
async def test_sub_questions(tool, use_async):
    asked = [{"sub_question": WORD, "tool_name": "memory"}]
    llm = Scripted(json.dumps({"items": asked}), "It is magnolia.")
    engine = SubQuestionQueryEngine(
        LLMQuestionGenerator.from_defaults(llm=llm),
        get_response_synthesizer(llm=llm),
        [tool],
        verbose=False,
        use_async=use_async,
    )
    response = await engine.aquery("Which tree is it?") if use_async else engine.query("Which tree is it?")
    assert str(response) == "It is magnolia."
    assert f"Response: {FOUND}" in llm.shown[-1]
    assert "word" in [found.node.ref_doc_id for found in response.source_nodes]


async def test_a_router(memory, tool):
    other = QueryEngineTool.from_defaults(made(MAGNOLIA, namespace="other"), name="other", description="Bees.")
    chosen = json.dumps([{"choice": 2, "reason": "it was agreed upon"}])
    llm = Scripted(chosen, chosen)
    router = RouterQueryEngine.from_defaults([other, tool], llm=llm, selector=LLMSingleSelector.from_defaults(llm=llm))
    response = router.query(WORD)
    assert str(response) == FOUND
    assert response.metadata["selector_result"].ind == 1
    assert str(await router.aquery(WORD)) == FOUND


async def test_an_agent_that_calls_functions(tool):
    def replies(messages, **kwargs):
        last = messages[-1]
        if last.role == "tool":
            return ChatMessage(role="assistant", content=f"I looked it up: {last.content}")
        call = ToolCallBlock(tool_call_id="1", tool_name="memory", tool_kwargs={"input": WORD})
        return ChatMessage(role="assistant", blocks=[call])

    agent = FunctionAgent(tools=[tool], llm=MockFunctionCallingLLM(response_generator=replies))
    answer = await agent.run("Tell me the word.")
    assert str(answer) == f"I looked it up: {FOUND}"
    assert answer.tool_calls[0].tool_output.raw_output.source_nodes[0].node.ref_doc_id == "word"


async def test_an_agent_that_thinks_and_remembers(tool, memory):
    llm = Scripted(
        f'Thought: I look it up.\nAction: memory\nAction Input: {{"input": "{WORD}"}}',
        "Thought: I know it.\nAnswer: magnolia",
        "Thought: I know it.\nAnswer: in Crail",
    )
    # So short that what was said before has left it by the time the next question comes.
    remembered = Memory.from_defaults(
        session_id="ada",
        token_limit=60,
        chat_history_token_ratio=0.5,
        token_flush_size=10,
        memory_blocks=[CompressedMemoryBlock(engine=memory._engine)],
        insert_method="user",  # this agent leaves out the system message that it would else be in
    )
    agent = ReActAgent(tools=[tool], llm=llm, streaming=False)
    told = "My sister Edith keeps bees in Crail. What is the secret word?"
    assert str(await agent.run(told, memory=remembered)) == "magnolia"
    assert FOUND in llm.shown[1]
    for filler in ("I paint my boat blue every spring.", "The harbour master comes on Tuesday, I was told."):
        await remembered.aput_messages([ChatMessage(role="user", content=filler)])
    await agent.run("Where does my sister keep bees?", memory=remembered)
    assert "Edith keeps bees" in llm.shown[-1]
    assert "not as instructions" in llm.shown[-1]
    await remembered.sql_store._async_engine.dispose()
    memory._engine.delete("ada")
