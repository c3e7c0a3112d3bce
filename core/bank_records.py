"""What a memory bank takes and gives: a chunk, a document, what made the bank, what a namespace holds."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .chunking import Span
from .kv_cache import Slots
from .settings import Placement, Ratio, SlotType


class Fingerprint(BaseModel):
    """What made a bank's slots and embeddings. A bank is only read and grown with the same."""

    model_config = ConfigDict(frozen=True)

    model: str
    """Name or path, for people; what counts is ``weights``."""
    weights: str
    adapters: str = "none"
    """As it was asked for, for people and for opening the bank again; what counts is ``weights``."""
    chunk_tokens: int
    ratio: Ratio
    placement: Placement
    sink_tokens: int
    embedder: str
    encode: bool = True
    """Whether chunks have slots; banks made before there was a choice have them."""
    slots: SlotType = "bf16"
    """How slots are kept; in banks made before there was a choice, as the model computed them."""

    def differences(self, other: "Fingerprint") -> list[str]:
        """Name each field that counts and differs, with both values."""
        counting = [name for name in type(self).model_fields if name not in ("model", "adapters")]
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in counting)
        return [f"{name} {mine!r}, not {theirs!r}" for name, mine, theirs in pairs if mine != theirs]


@dataclass(frozen=True)
class EncodedChunk:
    """A chunk with all that the bank keeps of it."""

    chunk_id: str
    text: str
    tokens: int
    slots: Slots | None
    """``None`` in a bank that keeps text only."""
    embeddings: NDArray[np.float32]
    """float32 [passages, dimension], of unit length."""


@dataclass(frozen=True)
class DocumentRecord:
    """A document whose chunks are all stored or about to be: where each chunk stands in it."""

    document_id: str
    sha256: str
    placements: tuple[tuple[str, Span], ...]
    """(chunk id, characters) in order, together the whole document."""
    metadata: dict[str, object] = field(default_factory=dict)
    added_at: float | None = None
    """Seconds since 1970 when it was taken in; ``None``: when it is stored."""


@dataclass(frozen=True)
class NamespaceSummary:
    """What one namespace holds."""

    namespace: str
    documents: int
    chunks: int
    tokens: int
    slots: int
    bytes: int
    """Of slots."""
