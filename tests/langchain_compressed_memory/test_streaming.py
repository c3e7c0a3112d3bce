"""What is seen while a question is answered: the answer's words, each chunk that is read, and nothing internal."""

import asyncio
import threading
from functools import reduce
from operator import add
from pydoc_data.topics import topics

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from core import CompressionSettings, RecallSettings
from core.errors import InputError
from langchain_compressed_memory import CompressedMemory

from .chat_models import QuotingChatModel

QUESTION = "What does deletion of a name do?"
SETTINGS = RecallSettings(top_k=2, max_steps=2, callback=False, raw_passages=1, update_tokens=32, answer_tokens=24)


@pytest.fixture(scope="module")
def memory():
    return CompressedMemory.from_texts(
        [topics[name][:700] for name in ("assert", "del", "power")],
        ids=["assert", "del", "power"],
        compression=CompressionSettings(chunk_tokens=64),
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def result(memory):
    return memory.invoke(QUESTION)


def timeless(found):
    return {**found, "usage": {**found["usage"], "seconds": sorted(found["usage"]["seconds"])}}


def test_the_sum_of_what_is_streamed_is_what_invoke_returns(memory, result):
    pieces = list(memory.stream(QUESTION))
    assert timeless(reduce(add, pieces)) == timeless(result)
    assert [set(piece) for piece in pieces[:-1]] == [{"answer"}] * (len(pieces) - 1)
    assert len(pieces) > 2
    assert "<" not in "".join(piece["answer"] for piece in pieces)


async def test_the_same_is_streamed_to_an_event_loop_that_keeps_turning(memory, result):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    pieces = [piece async for piece in memory.astream(QUESTION)]
    ticking.cancel()
    assert timeless(reduce(add, pieces)) == timeless(result)
    assert len(pieces) > 2
    assert ticks >= 5


def test_an_answer_that_nothing_was_found_is_streamed_too(memory):
    closed = CompressedMemory(**{**dict(memory), "settings": RecallSettings(threshold=1.0)})
    found = reduce(add, closed.stream(QUESTION))
    assert found["answer"] == closed.invoke(QUESTION)["answer"] != ""


def test_words_come_through_a_chain(memory, result):
    chain = RunnablePassthrough.assign(user=lambda _: "ada") | memory.pick("answer")
    pieces = list(chain.stream({"question": QUESTION}))
    assert "".join(pieces) == result["answer"]
    assert len(pieces) > 2
    upper = RunnableLambda(lambda asked: {"question": asked}) | memory | (lambda found: found["answer"].upper())
    assert list(upper.stream(QUESTION)) == [result["answer"].upper()]


def test_a_reader_that_leaves_ends_the_question(memory):
    before = set(threading.enumerate())
    pieces = memory.stream(QUESTION)
    next(pieces)
    pieces.close()
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert not left


async def test_a_cancelled_question_ends(memory):
    asked = asyncio.create_task(memory.ainvoke(QUESTION))
    await asyncio.sleep(0.2)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    # The lock on the model is free again: another question is answered.
    assert (await asyncio.wait_for(memory.ainvoke(QUESTION), 60))["answer"]


def test_errors_come_out_of_streams(memory):
    with pytest.raises(InputError, match="ask something"):
        list(memory.stream("?"))


async def test_errors_come_out_of_asynchronous_streams(memory):
    with pytest.raises(InputError, match="ask something"):
        [piece async for piece in memory.astream("?")]


async def test_each_chunk_that_is_read_is_an_event(memory):
    asked = "What does an assert statement insert into a program?"
    result = memory.invoke(asked)
    events = [event async for event in memory.astream_events(asked, version="v2")]
    read = [event for event in events if event["name"] == "read"]
    assert [event["event"] for event in read] == ["on_chain_start", "on_chain_end"] * 2
    begun = read[0]["data"]["input"]
    assert set(begun) == {"document_id", "start", "end", "gate", "called_back"}
    assert begun["gate"] > SETTINGS.threshold
    notes = [note for event in read[1::2] for note in event["data"]["output"]["notes"]]
    assert sorted(notes) == sorted({document.page_content for document in result["sources"]})
    assert all(event["parent_ids"] for event in read)
    streamed = [event["data"]["chunk"].get("answer", "") for event in events if event["event"] == "on_chain_stream"]
    assert "".join(streamed) == result["answer"]


def test_a_run_that_fails_in_the_middle_ends_its_reading(memory):
    class Fails(QuotingChatModel):
        def _said(self, asked):
            raise RuntimeError("no quota left")

    failing = CompressedMemory(**{**dict(memory), "llm": Fails()})
    runs = Runs()
    with pytest.raises(RuntimeError, match="no quota left"):
        failing.invoke(QUESTION, {"callbacks": [runs]})
    assert runs.open == []
    assert runs.failed.count("no quota left") >= 2


class Runs(BaseCallbackHandler):
    """Remembers chain runs that have not ended, and with what others failed."""

    def __init__(self):
        self.open, self.failed = [], []

    def on_chain_start(self, serialized, inputs, *, run_id, **kwargs):
        self.open.append(run_id)

    def on_chain_end(self, outputs, *, run_id, **kwargs):
        self.open.remove(run_id)

    def on_chain_error(self, error, *, run_id, **kwargs):
        self.open.remove(run_id)
        self.failed.append(str(error))
