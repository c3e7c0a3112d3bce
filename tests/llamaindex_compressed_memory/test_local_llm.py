"""The bank's own model in LlamaIndex's places for a model, with the real default model."""

import asyncio

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from core import CompressionSettings, Engine
from llamaindex_compressed_memory import CompressedMemoryLLM

ASKED = "Name the capital of France in one word."


@pytest.fixture(scope="module")
def local(default_backbone, default_embedder):
    engine = Engine(default_backbone, default_embedder, CompressionSettings(encode=False))
    return CompressedMemoryLLM(engine=engine, max_tokens=24)


def test_it_completes_streams_and_chats_alike(local):
    said = local.complete(ASKED).text
    assert "Paris" in said
    parts = list(local.stream_complete(ASKED))
    assert parts[-1].text.strip() == said
    assert len(parts) > 1
    assert local.chat([ChatMessage(role="user", content=ASKED)]).message.content == said
    assert local.predict(PromptTemplate("Name the capital of {country} in one word."), country="France") == said


async def test_the_event_loop_keeps_turning(local):
    asked = asyncio.create_task(local.acomplete(ASKED))
    ticks = 0
    while not asked.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert "Paris" in (await asked).text
    assert ticks >= 3
    chatted = await local.achat([ChatMessage(role="user", content=ASKED)])
    assert "Paris" in chatted.message.content


def test_what_it_says_of_itself(local, default_backbone):
    metadata = local.metadata
    assert (metadata.context_window, metadata.num_output) == (default_backbone.context_tokens, 24)
    assert metadata.model_name == default_backbone.name
    assert "engine" not in local.to_dict()


def test_the_frameworks_synthesizers_write_with_it(local):
    nodes = [NodeWithScore(node=TextNode(text="The lighthouse of Ardmore was lit in 1857."))]
    synthesizer = get_response_synthesizer(llm=local)
    assert "1857" in str(synthesizer.synthesize("When was the lighthouse of Ardmore lit?", nodes))
