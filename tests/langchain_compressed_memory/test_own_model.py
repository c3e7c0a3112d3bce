"""A chat model in the reasoner's place."""

import asyncio

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler

from core import CompressionSettings, RecallSettings
from core.errors import InputError
from langchain_compressed_memory import CompressedMemory

from .chat_models import LocalChatModel, QuotingChatModel, StructuredChatModel

TEXTS = {
    "ardmore": "The lighthouse of Ardmore was lit in 1857.\nIts keeper was Ruth Calder.",
    "crail": "Crail is a fishing village.\nRuth Calder was born in Crail and kept bees.",
    "power": "The power operator binds more tightly than unary operators on its left.",
}
QUESTION = "Where was Ruth Calder, the keeper of the Ardmore lighthouse, born?"


def memory_with(llm, **settings):
    return CompressedMemory.from_texts(
        TEXTS.values(),
        ids=list(TEXTS),
        llm=llm,
        compression=CompressionSettings(encode=False),
        settings=RecallSettings(raw_passages=None, **settings) if settings else None,
    )


@pytest.mark.parametrize("kind", [QuotingChatModel, StructuredChatModel])
def test_it_reads_what_the_gate_opens_and_its_notes_have_sources(kind):
    counted = UsageMetadataCallbackHandler()
    found = memory_with(kind()).invoke(QUESTION, {"callbacks": [counted]})
    assert found["answer"] in found["working_memory"]
    cited = {document.metadata["document_id"]: document.page_content for document in found["sources"]}
    assert cited["crail"] == "Ruth Calder was born in Crail and kept bees."
    assert cited["ardmore"] == "The lighthouse of Ardmore was lit in 1857."
    for document in found["sources"]:
        place = document.metadata
        assert TEXTS[place["document_id"]][place["start"] : place["end"]] == document.page_content
    calls = found["usage"]["model_calls"]
    assert found["usage_metadata"]["input_tokens"] == 100 * calls
    assert found["usage_metadata"]["output_tokens"] == 10 * calls


async def test_its_calls_are_runs_of_the_question_and_only_the_answer_is_for_the_user():
    memory = memory_with(QuotingChatModel())
    events = [event async for event in memory.astream_events(QUESTION, version="v2")]
    started = [event for event in events if event["event"] == "on_chat_model_start"]
    assert [event["name"] for event in started][-1] == "answer"
    assert {event["name"] for event in started[:-1]} == {"update"}
    assert all(event["parent_ids"] for event in started)
    assert all("nostream" in event["tags"] for event in started[:-1])
    assert "nostream" not in started[-1]["tags"]


def test_its_answer_is_streamed_without_tags():
    memory = memory_with(QuotingChatModel())
    pieces = [piece["answer"] for piece in memory.stream(QUESTION)]
    assert "".join(pieces) == memory.invoke(QUESTION)["answer"]
    assert len(pieces) > 3
    assert "<" not in "".join(pieces)


def test_a_real_model_without_tools_answers(default_backbone):
    found = memory_with(LocalChatModel(backbone=default_backbone), top_k=1).invoke(QUESTION)
    assert found["usage"]["model_calls"] in (1, 2)
    assert found["usage_metadata"]["input_tokens"] > 50
    for document in found["sources"]:
        assert document.page_content in TEXTS[document.metadata["document_id"]]


def test_slots_are_not_for_it():
    with pytest.raises(InputError, match="form='compressed'"):
        memory_with(QuotingChatModel(), form="compressed").invoke(QUESTION)


def test_hundreds_of_interleaved_calls_of_two_users_see_their_own_memory():
    memory = CompressedMemory(llm=QuotingChatModel(), compression=CompressionSettings(encode=False))
    secrets = {"ada": "The secret word is magnolia.", "bob": "The secret word is quartz."}
    from langchain_core.documents import Document

    for user, text in secrets.items():
        memory.add_documents([Document(text, id="secret")], namespace=user)
    asked = [("ada", "bob")[i % 2] for i in range(200)]
    configs = [{"configurable": {"namespace": user}, "max_concurrency": 8} for user in asked]
    found = memory.batch(["What is the secret word?"] * len(asked), configs)
    assert [f["answer"] for f in found] == [secrets[user] for user in asked]

    async def together():
        calls = (memory.ainvoke("What is the secret word?", config) for config in configs)
        return await asyncio.gather(*calls)

    assert [f["answer"] for f in asyncio.run(together())] == [secrets[user] for user in asked]
