"""What a million tokens take on disk, part by part, by ratio and by the way slots are kept.

Sizes hang on shapes, not on numbers: so slots and embeddings are of the models' shapes and hold zeros, and nothing
is computed. Text, its cutting into chunks and passages, and the catalogue are real.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..backbone import Backbone
from ..catalogue import CATALOGUE
from ..compressor import Compressor
from ..embedder import Embedder
from ..engine import Engine
from ..errors import InputError
from ..ingest import Document
from ..kv_cache import Slots
from ..memory_bank import MemoryBank
from ..settings import CompressionSettings, Ratio, SlotType

_MIB = 2**20
_LARGE = 10_000_000


@dataclass(frozen=True)
class StorageRow:
    """MiB for a million tokens."""

    ratio: int
    """α."""
    slots_as: str
    tokens: int
    """That were taken in."""
    source: float
    """The text itself, UTF-8."""
    slots: float
    """Shards, headers included."""
    text: float
    """Compressed, in the catalogue."""
    embeddings: float
    """In the catalogue; a searching process holds as much again."""
    index: float
    """Centroids, in the catalogue: computed for ten million tokens with as many passages a token, in 4 sqrt(n) lists.
    A namespace below ``flat_below`` keeps none."""
    catalogue_rest: float
    """Names, places, checksums, SQLite's pages and indexes."""
    total: float


class _ShapedCompressor(Compressor):
    """Slots of the right shape, for nothing."""

    def compress(self, chunks: Sequence[Sequence[int]]) -> list[Slots]:
        config = self.backbone.causal_lm.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        made = []
        for ids in chunks:
            source, kept = self._layout(len(ids))
            shape = (config.num_hidden_layers, config.num_key_value_heads, len(kept), head)
            keys, values = (torch.zeros(shape, dtype=torch.bfloat16) for _ in range(2))
            made.append(Slots(keys, values, kept.to(torch.int32), len(source)))
        return made


class _ShapedEmbedder(Embedder):
    """Passages are cut; their vectors have the right length and are all the same."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.eye(1, self.dimension, dtype=np.float32), (len(texts), 1))


def measure(
    backbone: Backbone,
    embedder: str,
    texts: Sequence[str],
    *,
    tokens: int,
    ratios: Sequence[Ratio],
    slots: Sequence[SlotType],
    step: Callable[[], None] = lambda: None,
) -> list[StorageRow]:
    """Take in the first ``tokens`` of ``texts`` once for each ratio and way of keeping slots, and count bytes.

    Args:
        step: called after each.

    Raises:
        InputError: the texts are too short.
    """
    taken = _documents(backbone, texts, tokens)
    shaped = _ShapedEmbedder(embedder)
    rows = []
    for ratio in ratios:
        for kind in slots:
            with tempfile.TemporaryDirectory(prefix="compressed-memory-") as scratch:
                settings = CompressionSettings(ratio=ratio, slots=kind)
                with Engine(backbone, shaped, settings, Path(scratch) / "bank") as engine:
                    engine.compressor = _ShapedCompressor(backbone, settings)
                    engine.add(taken)
                    engine.bank.compact()  # its log is taken in
                rows.append(_row(Path(scratch) / "bank", ratio, kind, sum(len(d.text.encode()) for d in taken)))
            step()
    return rows


def _documents(backbone: Backbone, texts: Sequence[str], tokens: int) -> list[Document]:
    taken, held = list[Document](), 0
    for number, text in enumerate(texts):
        if held >= tokens:
            break
        taken.append(Document(str(number), text))
        held += len(backbone.encode(text))
    if held < tokens:
        raise InputError(f"the texts have {held} tokens, --tokens asks for {tokens}: give more text")
    return taken


def _row(path: Path, ratio: Ratio, kind: SlotType, source: int) -> StorageRow:
    with closing(MemoryBank(path=path)) as bank:
        (tokens, text), *_ = bank.rows("SELECT SUM(tokens), SUM(LENGTH(text)) FROM chunks")
        (passages, embeddings), *_ = bank.rows("SELECT COUNT(*), SUM(LENGTH(embedding)) FROM passages")
    shards = sum(file.stat().st_size for file in (path / "slots").iterdir())
    rest = (path / CATALOGUE).stat().st_size - text - embeddings
    large = _LARGE / tokens
    index = 4 * math.sqrt(large * passages) * (embeddings / passages) / large
    sizes = (source, shards, text, embeddings, index, rest, shards + text + embeddings + index + rest)
    return StorageRow(ratio, kind, tokens, *(size * 1e6 / tokens / _MIB for size in sizes))
