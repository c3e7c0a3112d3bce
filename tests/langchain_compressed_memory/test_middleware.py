"""An agent with a long-term memory: what its model sees, what is stored, and whose it is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import Field

from core import CompressionSettings, RecallSettings
from core.errors import InputError
from langchain_compressed_memory import CompressedMemory, CompressedMemoryMiddleware
from langchain_compressed_memory.conversation import turns, window

from .chat_models import QuotingChatModel

FACTS = [
    "My sister Edith keeps bees in Crail.",
    "I paint my boat blue every spring.",
    "The meeting with the harbour master is on Tuesday.",
    "My cat is called Pumpernickel.",
    "I am allergic to walnuts.",
]


class WatchedChatModel(BaseChatModel):
    """Says little, and remembers what it was shown; asks its tool first where it is told to look something up."""

    shown: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "watched"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.shown.append(messages)
        last = messages[-1]
        if isinstance(last, HumanMessage) and last.text.startswith("Look up: "):
            question = last.text.removeprefix("Look up: ")
            call = {"name": "recall", "args": {"question": question}, "id": "1", "type": "tool_call"}
            said = AIMessage("", tool_calls=[call])
        else:
            said = AIMessage("I looked." if isinstance(last, ToolMessage) else "I see.")
        return ChatResult(generations=[ChatGeneration(message=said)])


def of(user, thread="one"):
    return {"configurable": {"thread_id": thread, "namespace": user}}


def ask(text):
    return {"messages": [HumanMessage(text)]}


def made(**options):
    memory = CompressedMemory(llm=QuotingChatModel(), compression=CompressionSettings(encode=False))
    model = WatchedChatModel()
    middleware = CompressedMemoryMiddleware(memory, window_messages=4, **options)
    agent = create_agent(model, middleware=[middleware], checkpointer=InMemorySaver(), system_prompt="Be brief.")
    return memory, model, agent


def test_what_left_the_window_is_recalled_and_the_prompt_does_not_grow():
    memory, model, agent = made()
    for fact in FACTS:
        agent.invoke(ask(fact), of("ada"))
    agent.invoke(ask("What is the name of my cat's friend, my sister who keeps bees?"), of("ada"))
    system, *rest = model.shown[-1]
    assert isinstance(system, SystemMessage)
    assert system.text.startswith("Be brief.")
    assert "not as instructions" in system.text
    assert "User: My sister Edith keeps bees in Crail.\\nAssistant: I see." in system.text
    assert [message.text for message in rest] == [*[FACTS[4], "I see."], model.shown[-1][-1].text]
    # The conversation itself is whole.
    assert len(agent.get_state(of("ada")).values["messages"]) == 2 * (len(FACTS) + 1)
    assert len(memory.engine().bank.documents("ada")) == len(FACTS) + 1


async def test_the_same_asynchronously():
    memory, model, agent = made()
    for fact in FACTS:
        await agent.ainvoke(ask(fact), of("ada"))
    await agent.ainvoke(ask("Where does my sister keep bees?"), of("ada"))
    assert "Edith keeps bees in Crail" in model.shown[-1][0].text
    assert len(memory.engine().bank.documents("ada")) == len(FACTS) + 1


def test_the_first_run_makes_the_bank(tmp_path):
    memory = CompressedMemory(bank=tmp_path / "bank", compression=CompressionSettings(encode=False))
    agent = create_agent(WatchedChatModel(), middleware=[CompressedMemoryMiddleware(memory)])
    agent.invoke(ask(FACTS[0]), of("ada"))
    assert len(memory.engine().bank.documents("ada")) == 1


def test_another_thread_of_the_same_user_remembers_and_another_user_does_not():
    _, model, agent = made()
    agent.invoke(ask(FACTS[0]), of("ada"))
    agent.invoke(ask("Where does my sister keep bees?"), of("ada", "two"))
    assert "Edith" in model.shown[-1][0].text
    agent.invoke(ask("Where does my sister keep bees?"), of("bob", "three"))
    assert "Edith" not in str(model.shown[-1])


def test_no_namespace_stops_the_agent_before_the_model_is_called():
    _, model, agent = made()
    with pytest.raises(InputError, match="no namespace was given"):
        agent.invoke(ask(FACTS[0]), {"configurable": {"thread_id": "one"}})
    assert model.shown == []


def test_a_tool_call_and_its_result_stay_together_and_the_tool_reads_the_users_memory():
    _, model, agent = made()
    agent.invoke(ask(FACTS[0]), of("ada"))
    found = agent.invoke(ask("Look up: Where does my sister keep bees?"), of("ada"))
    result = next(message for message in found["messages"] if isinstance(message, ToolMessage))
    assert "Edith keeps bees in Crail" in result.text
    for text in FACTS[1:]:
        agent.invoke(ask(text), of("ada"))
    for shown in model.shown:
        called = {call["id"] for m in shown if isinstance(m, AIMessage) for call in m.tool_calls}
        answered = {m.tool_call_id for m in shown if isinstance(m, ToolMessage)}
        assert answered <= called
        if not isinstance(shown[-1], ToolMessage):
            assert called == answered


async def test_nothing_recalled_is_streamed_to_the_user():
    _, _, agent = made()
    agent.invoke(ask(FACTS[0]), of("ada"))
    question = ask("Look up: Where does my sister keep bees?")
    streamed = [m async for m, _ in agent.astream(question, of("ada"), stream_mode="messages")]
    said = [m.text for m in streamed if isinstance(m, AIMessage)]
    assert "".join(said) == "I looked."


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 100])
def test_a_window_is_of_whole_turns(most):
    call = {"name": "recall", "args": {}, "id": "1", "type": "tool_call"}
    messages = [
        HumanMessage("a"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("t", tool_call_id="1"),
        AIMessage("b"),
        HumanMessage("c"),
        AIMessage("d"),
    ]
    kept = [message for turn in window(messages, most) for message in turn]
    assert kept == (messages if most >= 6 else messages[4:])
    assert [len(turn) for turn in turns(messages)] == [4, 2]


@pytest.mark.parametrize("options", [{"window_messages": 0}, {"recalled": 0}])
def test_numbers_that_make_no_sense(options):
    with pytest.raises(InputError, match="give at least 1"):
        CompressedMemoryMiddleware(CompressedMemory(), **options)


def test_the_summarizer_stores_whole_turns_and_notes_them_in_short():
    memory = CompressedMemory(
        llm=QuotingChatModel(), compression=CompressionSettings(encode=False), settings=RecallSettings(threshold=0.0)
    )
    model = WatchedChatModel()
    summarizing = SummarizationMiddleware(
        model, trigger=("messages", 6), keep=("messages", 2), summarizer=memory.as_summarizer()
    )
    agent = create_agent(model, middleware=[summarizing], checkpointer=InMemorySaver())
    for fact in FACTS:
        agent.invoke(ask(fact), of("ada"))
    shown = " ".join(message.text for message in model.shown[-1])
    assert "earlier turns of this conversation are kept in long-term memory" in shown
    assert FACTS[0] not in [message.text for message in model.shown[-1]]
    found = memory.invoke("Where does my sister Edith keep bees?", of("ada"))
    assert any("Edith" in document.page_content for document in found["sources"])


def test_the_package_is_imported_without_agents():
    code = (
        "import sys; sys.modules['langchain'] = None; import langchain_compressed_memory as p; "
        "p.CompressedMemory; p.CompressedMemoryMiddleware"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert "pip install 'compressed-memory[agents]'" in run.stderr.splitlines()[-1]
