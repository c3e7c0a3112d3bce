"""What many tests share: the default models, loaded once, and one engine over a little real text."""

from collections.abc import Iterator
from pydoc_data.topics import topics

import pytest

from core.backbone import Backbone
from core.embedder import Embedder
from core.engine import Engine
from core.ingest import Document
from core.settings import CompressionSettings


@pytest.fixture(scope="session")
def default_backbone() -> Backbone:
    return Backbone.load()


@pytest.fixture(scope="session")
def default_embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="session")
def reference_documents() -> list[Document]:
    """Sections of the Python reference: real text, on every machine."""
    return [Document(name, topics[name]) for name in ("assert", "break", "del", "exceptions", "pass", "while", "with")]


@pytest.fixture(scope="session")
def reference_engine(
    default_backbone: Backbone, default_embedder: Embedder, reference_documents: list[Document]
) -> Iterator[Engine]:
    """The sections taken in, in memory, cut into small chunks. Tests only ask."""
    engine = Engine(default_backbone, default_embedder, CompressionSettings(chunk_tokens=128))
    engine.add(reference_documents)
    yield engine
    engine.bank.close()
