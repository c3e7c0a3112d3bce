"""The answer's words as they are written, to both colours of caller."""

import asyncio

import pytest
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from core import RecallSettings
from core.errors import InputError
from llamaindex_compressed_memory import CompressedMemoryQueryEngine

from .stored_texts import SETTINGS

QUESTION = "What does deletion of a name do?"


@pytest.fixture(scope="module")
def streaming(bank):
    return CompressedMemoryQueryEngine.from_persist_dir(bank, settings=SETTINGS, streaming=True)


@pytest.fixture(scope="module")
def whole(engine):
    return engine.query(QUESTION)


def check(response, words, whole):
    assert "".join(words) == str(whole)
    assert len(words) > 1
    assert [found.node.node_id for found in response.source_nodes] == [n.node.node_id for n in whole.source_nodes]
    assert response.metadata["working_memory"] == whole.metadata["working_memory"]
    assert response.metadata["usage"]["tokens_written"] == whole.metadata["usage"]["tokens_written"]


def test_words_come_one_after_the_other_and_sources_when_they_are_done(streaming, whole):
    response = streaming.query(QUESTION)
    assert isinstance(response, StreamingResponse)
    assert response.source_nodes == []
    check(response, list(response.response_gen), whole)


async def test_words_come_to_an_event_loop_that_keeps_turning(streaming, whole):
    response = await streaming.aquery(QUESTION)
    assert isinstance(response, AsyncStreamingResponse)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    words = [word async for word in response.async_response_gen()]
    ticking.cancel()
    check(response, words, whole)
    assert ticks >= 5


def test_that_nothing_was_found_is_said(bank):
    closed = CompressedMemoryQueryEngine.from_persist_dir(bank, settings=RecallSettings(threshold=1.0), streaming=True)
    assert str(closed.query(QUESTION)).startswith("I found nothing")


def test_errors_come_out(streaming):
    with pytest.raises(InputError, match="ask something"):
        str(streaming.query("?"))
