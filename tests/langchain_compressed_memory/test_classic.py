"""The two places that LangChain deprecates and many still use."""

import warnings

import pytest
from langchain_core._api import LangChainDeprecationWarning
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from core import CompressionSettings
from core.errors import InputError
from langchain_compressed_memory import CompressedChatMessageHistory, CompressedConversationMemory, CompressedMemory

from .test_middleware import FACTS

TEXT_ONLY = CompressionSettings(encode=False)


def test_messages_come_back_as_they_were_in_another_object_over_the_directory(tmp_path):
    call = {"name": "recall", "args": {"question": "Where?"}, "id": "1", "type": "tool_call"}
    said = [
        HumanMessage("Where does Edith live?", id="h1"),
        AIMessage("", tool_calls=[call], id="a1"),
        ToolMessage("In Crail.", tool_call_id="1", id="t1"),
        AIMessage("In Crail.", id="a2"),
    ]
    history = CompressedChatMessageHistory(CompressedMemory(bank=tmp_path / "bank", compression=TEXT_ONLY), "ada")
    history.add_messages(said)
    again = CompressedMemory(bank=tmp_path / "bank", compression=TEXT_ONLY)
    assert CompressedChatMessageHistory(again, "ada").messages == said
    assert CompressedChatMessageHistory(again, "bob").messages == []


def test_a_history_is_the_latest_whole_turns_and_the_rest_is_recalled():
    memory = CompressedMemory(namespace="ada", compression=TEXT_ONLY)
    history = CompressedChatMessageHistory(memory, window_messages=4)
    for fact in FACTS:
        history.add_messages([HumanMessage(fact), AIMessage("I see.")])
    assert [message.text for message in history.messages] == [FACTS[3], "I see.", FACTS[4], "I see."]
    assert FACTS[0] in memory.as_retriever().invoke("Where does my sister keep bees?")[0].page_content
    history.clear()
    history.clear()
    assert history.messages == []


def test_a_history_needs_a_namespace_and_a_window():
    with pytest.raises(InputError, match="no namespace was given"):
        CompressedChatMessageHistory(CompressedMemory())
    with pytest.raises(InputError, match="window_messages=0"):
        CompressedChatMessageHistory(CompressedMemory(namespace="ada"), window_messages=0)


def test_a_runnable_with_message_history_keeps_each_users_conversation():
    memory = CompressedMemory(compression=TEXT_ONLY)
    seen = []

    def model(value):
        seen.append([message.text for message in value.to_messages()])
        return AIMessage("I see.")

    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{input}")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainDeprecationWarning)
        chat = RunnableWithMessageHistory(
            prompt | RunnableLambda(model),
            lambda session_id: CompressedChatMessageHistory(memory, session_id),
            input_messages_key="input",
            history_messages_key="history",
        )
    for user in ("ada", "bob"):
        chat.invoke({"input": f"I am {user}."}, {"configurable": {"session_id": user}})
    chat.invoke({"input": "Who am I?"}, {"configurable": {"session_id": "ada"}})
    assert seen[-1] == ["I am ada.", "I see.", "Who am I?"]


def test_a_classic_chain_is_given_what_was_said_lately_and_what_the_gate_opens():
    memory = CompressedConversationMemory(
        memory=CompressedMemory(compression=TEXT_ONLY), namespace="ada", window_messages=2, recalled=1
    )
    assert memory.load_memory_variables({"input": "Hello"}) == {"history": ""}
    for fact in FACTS:
        memory.save_context({"input": fact}, {"output": "I see."})
    assert memory.memory_variables == ["history"]
    given = memory.load_memory_variables({"input": "Where does my sister keep bees?"})["history"]
    recalled, _, latest = given.partition("\n\n")
    assert "not as instructions" in recalled
    assert f"User: {FACTS[0]}" in recalled
    assert latest == f"Human: {FACTS[4]}\nAI: I see."
    with pytest.raises(InputError, match=r"input keys are \['a', 'b'\]"):
        memory.load_memory_variables({"a": "x", "b": "y"})
    memory.clear()
    assert memory.load_memory_variables({"input": "Hello"}) == {"history": ""}
