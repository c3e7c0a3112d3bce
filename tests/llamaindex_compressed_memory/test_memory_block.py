"""The block in the framework's own Memory: what leaves the short-term memory comes back, to its own session."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.memory import BaseMemoryBlock, Memory, VectorMemoryBlock
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import SimpleVectorStore

from core import CompressionSettings, Engine
from core.errors import InputError
from llamaindex_compressed_memory import CompressedMemoryBlock

FACTS = [
    "My sister Edith keeps bees in Crail.",
    "I paint my boat blue every spring.",
    "The meeting with the harbour master is on Tuesday.",
    "My cat is called Pumpernickel.",
    "I am allergic to walnuts.",
]
QUESTION = "Where does my sister keep bees?"


@pytest.fixture
def engine(default_backbone, default_embedder, tmp_path: Path) -> Engine:
    return Engine(default_backbone, default_embedder, CompressionSettings(encode=False), tmp_path / "bank")


@pytest.fixture
async def memory() -> AsyncIterator[Callable[[CompressedMemoryBlock, str], Memory]]:
    """Makes memories that are short enough for the first facts to leave them, and closes their stores."""
    made: list[Memory] = []

    def make(block: CompressedMemoryBlock, session: str) -> Memory:
        made.append(
            Memory.from_defaults(
                session_id=session,
                token_limit=60,
                chat_history_token_ratio=0.7,
                token_flush_size=20,
                memory_blocks=[block],
            )
        )
        return made[-1]

    yield make
    for one in made:
        await one.sql_store._async_engine.dispose()


async def tell(told: Memory, facts: list[str]) -> None:
    for fact in facts:
        await told.aput_messages(
            [ChatMessage(role="user", content=fact), ChatMessage(role="assistant", content="I see.")]
        )


def text_of(messages: list[ChatMessage]) -> str:
    return "\n".join(message.content or "" for message in messages)


async def test_what_left_the_short_term_memory_comes_back(engine, memory):
    told = memory(CompressedMemoryBlock(engine=engine, priority=0), "ada")
    await tell(told, FACTS)
    given = text_of(await told.aget(input=QUESTION))
    assert FACTS[0] in given
    assert "not as instructions" in given
    assert given.index(FACTS[0]) < given.index(FACTS[4])  # quoted before the messages that are still held


async def test_one_block_keeps_sessions_apart(engine, memory):
    block = CompressedMemoryBlock(engine=engine)
    ada, bob = memory(block, "ada"), memory(block, "bob")
    await tell(ada, FACTS)
    await tell(bob, ["I live in Dyce.", *FACTS[1:]])
    assert FACTS[0] in text_of(await ada.aget(input=QUESTION))
    assert "Edith" not in text_of(await bob.aget(input=QUESTION))
    assert {summary.namespace for summary in engine.bank.summaries()} == {"ada", "bob"}


class StoreWithText(SimpleVectorStore):
    """The framework's own store, which gives the nodes back as its memory block asks for."""

    stores_text: bool = True
    nodes: dict[str, BaseNode] = {}  # noqa: RUF012 - pydantic copies it

    async def async_add(self, nodes, **kwargs):
        self.nodes.update({node.node_id: node for node in nodes})
        return self.add(nodes)

    async def aquery(self, query, **kwargs):
        found = self.query(query)
        found.nodes = [self.nodes[name] for name in found.ids]
        return found


async def leaks(block: BaseMemoryBlock) -> bool:
    """Whether one session of a block gives another what it was told, once both have asked."""
    for session, fact in (("ada", FACTS[0]), ("bob", FACTS[3])):
        await block.aput([ChatMessage(role="user", content=fact)], from_short_term_memory=True, session_id=session)
    asked = [ChatMessage(role="user", content=QUESTION)]
    await block.aget(asked, session_id="ada")
    return "Edith" in await block.aget(asked, session_id="bob")


async def test_the_frameworks_own_block_leaks_between_sessions_and_this_one_does_not(engine):
    assert await leaks(VectorMemoryBlock(vector_store=StoreWithText(), embed_model=MockEmbedding(embed_dim=4)))
    assert not await leaks(CompressedMemoryBlock(engine=engine))


async def test_sessions_of_one_user_may_share(engine, memory):
    block = CompressedMemoryBlock(engine=engine, namespace="ada")
    await tell(memory(block, "monday"), FACTS)
    assert FACTS[0] in text_of(await memory(block, "tuesday").aget(input=QUESTION))


async def test_without_a_session_or_a_namespace_nothing_is_read_or_written(engine):
    block = CompressedMemoryBlock(engine=engine)
    message = ChatMessage(role="user", content=FACTS[0])
    with pytest.raises(InputError, match="session_id is None"):
        await block.aput([message])
    with pytest.raises(InputError, match="session_id is None"):
        await block.aget([message])
    assert engine.bank.summaries() == []


async def test_agents_may_ask_before_anything_was_said(engine):
    block = CompressedMemoryBlock(engine=engine)
    assert await block.aget([], session_id="ada") == ""
    assert await block.aget([ChatMessage(role="user", content=QUESTION)], session_id="ada") == ""


async def test_deletion_does_what_reset_does_not(engine, memory):
    block = CompressedMemoryBlock(engine=engine)
    told = memory(block, "ada")
    await tell(told, FACTS)
    await told.areset()
    assert FACTS[0] in text_of(await told.aget(input=QUESTION))
    await block.adelete("ada")
    await block.adelete("ada")
    assert "Edith" not in text_of(await told.aget(input=QUESTION))
    assert engine.bank.summaries() == []


async def test_truncation_leaves_out_whole_quotations_from_the_end(engine, memory):
    block = CompressedMemoryBlock(engine=engine)
    told = memory(block, "ada")
    await tell(told, FACTS)
    content = await block.aget([ChatMessage(role="user", content="my")], session_id="ada")
    while content:
        shorter = await block.atruncate(content, 1)
        if shorter is None:
            assert len(content.splitlines()) == 2
            break
        assert content.startswith(shorter)
        assert len(shorter.splitlines()) == len(content.splitlines()) - 1
        content = shorter
    assert await block.atruncate("header\n- one\n- two", 10_000) is None
