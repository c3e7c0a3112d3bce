"""The framework's own tests of retrievers and tools, as they come."""

from pydoc_data.topics import topics

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import RetrieversIntegrationTests, ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from core import CompressionSettings, RecallSettings
from core.errors import InputError, UnknownNamespaceError
from langchain_compressed_memory import CompressedMemory, CompressedMemoryRetriever

NAMES = ("assert", "del", "power", "while", "break")
QUESTION = "What does an assert statement insert into a program?"
SHORT = RecallSettings(top_k=1, max_steps=1, callback=False, raw_passages=1, update_tokens=16, answer_tokens=8)


@pytest.fixture(scope="module")
def memory():
    documents = [Document(topics[name][:400], id=name, metadata={"kind": "statement"}) for name in NAMES]
    return CompressedMemory.from_documents(
        documents, namespace="ada", settings=SHORT, compression=CompressionSettings(chunk_tokens=128, encode=False)
    )


@pytest.fixture(autouse=True, scope="class")
def _given(request, memory):
    if request.cls:
        request.cls.memory = memory


class TestRetriever(RetrieversIntegrationTests):
    memory: CompressedMemory

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return CompressedMemoryRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        # Every chunk is above 0, so that as many come as are asked for.
        return {"namespace": "ada", "score_threshold": 0.0, "k": 4, "handle": self.memory.handle}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


class _ToolParameters:
    memory: CompressedMemory

    @property
    def tool_constructor(self) -> BaseTool:
        return self.memory.as_tool()

    @property
    def tool_invoke_params_example(self) -> dict[str, str]:
        return {"question": QUESTION}


class TestTool(_ToolParameters, ToolsUnitTests):
    pass


class TestToolInUse(_ToolParameters, ToolsIntegrationTests):
    pass


def test_chunks_come_likeliest_first_with_spans_and_what_was_stored(memory):
    found = memory.as_retriever(k=3, score_threshold=0.0).invoke(QUESTION)
    assert found[0].metadata["document_id"] == "assert"
    gates = [document.metadata["gate"] for document in found]
    assert gates == sorted(gates, reverse=True)
    for document in found:
        place = document.metadata
        assert document.page_content == topics[place["document_id"]][place["start"] : place["end"]]
        assert place["kind"] == "statement"


def test_the_threshold_is_a_floor(memory):
    retriever = memory.as_retriever(score_threshold=0.0, k=5)
    gates = [document.metadata["gate"] for document in retriever.invoke(QUESTION)]
    floor = gates[2]
    assert [d.metadata["gate"] for d in retriever.invoke(QUESTION, score_threshold=floor)] == gates[:2]
    assert memory.as_retriever(score_threshold=1.0).invoke(QUESTION) == []
    with pytest.raises(InputError, match=r"threshold=1\.5"):
        memory.as_retriever(score_threshold=1.5).invoke(QUESTION)
    with pytest.raises(InputError, match="top_k=0"):
        memory.as_retriever(k=0).invoke(QUESTION)


async def test_another_namespace_is_empty_not_everyones(memory):
    retriever = memory.as_retriever()
    with pytest.raises(UnknownNamespaceError, match="'bob'"):
        retriever.invoke(QUESTION, namespace="bob")
    with pytest.raises(UnknownNamespaceError, match="'bob'"):
        await retriever.ainvoke(QUESTION, namespace="bob")
    with pytest.raises(InputError, match="namespace is ''"):
        retriever.invoke(QUESTION, namespace="")
    with pytest.raises(ValueError, match="namespace"):
        CompressedMemoryRetriever(handle=memory.handle)


def test_a_tool_says_where_it_stands_and_quotes_so_that_no_quotation_ends_early(memory):
    call = {"name": "recall", "args": {"question": QUESTION}, "id": "1", "type": "tool_call"}
    message = memory.as_tool().invoke(call)
    found = message.artifact
    assert message.text.startswith(f"Answer: {found['answer']}\n")
    lines = message.text.splitlines()[2:]
    assert len(lines) == len(found["sources"]) > 0
    for line, document in zip(lines, found["sources"], strict=True):
        assert line.startswith(f"- {document.metadata['document_id']} [")
        assert line.endswith('"')


async def test_a_tool_takes_the_namespace_from_the_runs_config(memory):
    everyone = CompressedMemory(handle=memory.handle, settings=SHORT)
    call = {"name": "recall", "args": {"question": QUESTION}, "id": "1", "type": "tool_call"}
    with pytest.raises(InputError, match="no namespace was given"):
        everyone.as_tool().invoke(call)
    config = {"configurable": {"namespace": "ada"}}
    assert (await everyone.as_tool().ainvoke(call, config)).artifact["sources"]
    assert "namespace" not in everyone.as_tool().args
