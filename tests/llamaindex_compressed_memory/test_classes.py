"""Each class is of the kind that the framework looks for."""

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.llms import LLM, CustomLLM
from llama_index.core.memory.memory import BaseMemoryBlock
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import TransformComponent

from llamaindex_compressed_memory import (
    CompressedMemoryBlock,
    CompressedMemoryIngestion,
    CompressedMemoryLLM,
    CompressedMemoryQueryEngine,
    CompressedMemoryRetriever,
)


def names_of_base_classes(kind):
    return [base.__name__ for base in kind.__mro__]


def test_retriever():
    assert BaseRetriever.__name__ in names_of_base_classes(CompressedMemoryRetriever)


def test_query_engine():
    assert BaseQueryEngine.__name__ in names_of_base_classes(CompressedMemoryQueryEngine)
    assert "CustomQueryEngine" not in names_of_base_classes(CompressedMemoryQueryEngine)


def test_memory_block():
    assert BaseMemoryBlock.__name__ in names_of_base_classes(CompressedMemoryBlock)


def test_llm():
    assert {LLM.__name__, CustomLLM.__name__} <= set(names_of_base_classes(CompressedMemoryLLM))


def test_transformation():
    assert TransformComponent.__name__ in names_of_base_classes(CompressedMemoryIngestion)


def test_no_method_blocks_where_the_framework_awaits():
    assert "_aretrieve" in vars(CompressedMemoryRetriever)
    assert {"_aquery", "asynthesize"} <= set(vars(CompressedMemoryQueryEngine))
    assert "acall" in vars(CompressedMemoryIngestion)
    assert {"_aget", "_aput", "atruncate"} <= set(vars(CompressedMemoryBlock))
