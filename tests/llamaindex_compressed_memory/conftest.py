import pytest

from core import CompressionSettings
from langchain_compressed_memory import CompressedMemory
from llamaindex_compressed_memory import CompressedMemoryQueryEngine

from .stored_texts import SETTINGS, TEXTS


@pytest.fixture(scope="package")
def bank(tmp_path_factory):
    """A bank on disk that the LangChain package wrote."""
    folder = tmp_path_factory.mktemp("banks") / "bank"
    CompressedMemory.from_texts(
        list(TEXTS.values()),
        ids=list(TEXTS),
        metadatas=[{"kind": "statement"}] * len(TEXTS),
        bank=folder,
        compression=CompressionSettings(chunk_tokens=64),
    )
    return folder


@pytest.fixture(scope="package")
def engine(bank):
    return CompressedMemoryQueryEngine.from_persist_dir(bank, settings=SETTINGS)
