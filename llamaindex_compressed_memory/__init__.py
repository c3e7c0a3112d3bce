"""Compressed memory for LlamaIndex: a query engine that answers from long texts, and the retriever beneath it."""

from .ingestion import CompressedMemoryIngestion
from .local_llm import CompressedMemoryLLM
from .memory_block import CompressedMemoryBlock
from .query_engine import CompressedMemoryQueryEngine
from .retriever import CompressedMemoryRetriever

__all__ = [
    "CompressedMemoryBlock",
    "CompressedMemoryIngestion",
    "CompressedMemoryLLM",
    "CompressedMemoryQueryEngine",
    "CompressedMemoryRetriever",
]
