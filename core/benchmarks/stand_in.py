"""An engine whose model costs nothing: what it makes is drawn from the text, so that a benchmark measures the bank."""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..chunking import Span
from ..engine import Engine
from ..kv_cache import Slots
from ..memory_bank import Fingerprint, MemoryBank
from ..settings import CompressionSettings

CHUNK_TOKENS = 64
COMPRESSION = CompressionSettings(chunk_tokens=CHUNK_TOKENS)
FINGERPRINT = Fingerprint(model="m", weights="w", embedder="e", **COMPRESSION.model_dump())
"""That of the stored bank of format 1 as well, so that it can be grown."""

_WORD = re.compile(r"\S+\s*|\s+")
_PASSAGE_WORDS = 32
_DIMENSION = 4


class _Backbone:
    """What :class:`core.ingest.Ingest` asks of a model: a token is a word with the blanks after it."""

    device = torch.device("cpu")

    def tokenizer(self, text: str, **_: object) -> dict[str, list[tuple[int, int]]]:
        return {"offset_mapping": [match.span() for match in _WORD.finditer(text)]}

    def encode(self, text: str) -> list[int]:
        return [zlib.crc32(word.encode()) for word in _WORD.findall(text)]


class _Compressor:
    """Slots of the shape that the stored bank of format 1 has, one for four tokens, drawn with the ids as seed."""

    backbone, settings = _Backbone(), COMPRESSION

    def compress(self, chunks: Sequence[Sequence[int]]) -> list[Slots]:
        return [self._slots(ids) for ids in chunks]

    def _slots(self, ids: Sequence[int]) -> Slots:
        count = -(-len(ids) // 4)
        drawn = np.random.default_rng(ids).standard_normal((2, 2, 2, count, 8), dtype=np.float32)
        keys, values = torch.from_numpy(drawn).bfloat16()
        return Slots(keys, values, torch.arange(count, dtype=torch.int32), count)


class _Embedder:
    """Unit vectors drawn with the text as seed."""

    name = "e"

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def passages(self, text: str) -> list[Span]:
        """Cut ``text`` into passages of 32 words."""
        ends = [match.end() for match in _WORD.finditer(text)]
        cuts = [0, *ends[_PASSAGE_WORDS - 1 : -1 : _PASSAGE_WORDS], len(text)]
        return [Span(start, end) for start, end in pairwise(cuts)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        seeds = [np.frombuffer(text.encode().ljust(1), dtype=np.uint8) for text in texts]
        drawn = [np.random.default_rng(seed).standard_normal(self._dimension, dtype=np.float32) for seed in seeds]
        vectors = np.array(drawn, dtype=np.float32)
        return cast(NDArray[np.float32], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


class StandInEngine(Engine):
    """An engine that ingests, deletes and repairs; it cannot answer."""

    def __init__(self, bank: Path | None, dimension: int = _DIMENSION) -> None:
        """Open the bank in directory ``bank``, or make it there.

        Args:
            dimension: of the embeddings.

        Raises:
            BankError, StorageError: see :class:`core.memory_bank.MemoryBank`.
        """
        self.compressor, self.embedder = cast(Any, _Compressor()), cast(Any, _Embedder(dimension))
        self.bank = MemoryBank(FINGERPRINT, bank)


@lru_cache(maxsize=1024)
def reference(text: str, dimension: int = _DIMENSION) -> tuple[Slots, NDArray[np.float32]]:
    """Return the slots of a chunk with ``text``, and its embeddings, float32 [passages, dimension]."""
    compressor, embedder = _Compressor(), _Embedder(dimension)
    (slots,) = compressor.compress([compressor.backbone.encode(text)])
    return slots, embedder.embed([text[start:end] for start, end in embedder.passages(text)])
