"""The bank's own model in LlamaIndex's places for a model, with the real default model."""

import asyncio

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.query_engine import SubQuestionQueryEngine
from llama_index.core.question_gen.types import SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.tools import QueryEngineTool

from core import CompressionSettings, Engine
from llamaindex_compressed_memory import CompressedMemoryLLM, CompressedMemoryQueryEngine

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


def test_a_query_engine_is_a_tool_and_a_part_of_a_larger_one(local, engine):
    tool = QueryEngineTool.from_defaults(engine, name="reference", description="The Python reference.")
    assert "assert" in tool.call(input="What is an assert statement?").raw_output.source_nodes[0].node.node_id

    class Fixed:
        """Asks the tool what it was asked itself."""

        def generate(self, tools, query):
            return [SubQuestion(sub_question=query.query_str, tool_name=tools[0].name)]

        async def agenerate(self, tools, query):
            return self.generate(tools, query)

        def get_prompts(self):
            return {}

    whole = SubQuestionQueryEngine(
        question_gen=Fixed(),
        response_synthesizer=get_response_synthesizer(llm=local, use_async=False),
        query_engine_tools=[tool],
        use_async=False,
    )
    response = whole.query("What does an assert statement insert into a program?")
    assert str(response)
    assert isinstance(engine, CompressedMemoryQueryEngine)
