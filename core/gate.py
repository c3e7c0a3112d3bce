"""Decides which chunks are worth opening, given the question and what is known so far.

Two gates give P(open): :class:`SimilarityGate` from embeddings alone, for every model from the first
day; :class:`SlotGate` from the slots, once it is trained. :class:`Scan` turns probabilities into an order of reading.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .backbone import Backbone
from .embedder import Embedder
from .generation import left_padded
from .kv_cache import Slots, open_slots
from .memory_bank import MemoryBank
from .passage_index import PassageIndex, StoredChunk
from .prompts import gate_prompt
from .settings import RecallSettings
from .working_memory import WorkingMemory

SIMILARITY_SLOPE = 16.0
"""Slope of a logistic regression of "holds a gold paragraph" on cosine similarity (docs/benchmarks.md, gate)."""
SIMILARITY_MIDPOINT = 0.3
"""Cosine at which the gate says 0.5. Four of five gold paragraphs lie above it. The regression's own
midpoint is 0.57, where three of five are lost: the rank, not the threshold, is to keep reading short."""


class Gate(Protocol):
    """What a scan needs of a gate."""

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """Return P(open) of every chunk of ``index``, float32 [chunks]."""
        ...


def nearness(
    question: str, memory: WorkingMemory, index: PassageIndex, embedder: Embedder, candidates: int | None
) -> NDArray[np.float32]:
    """Return each chunk's cosine, float32 [chunks], to the question with that note which brings it nearest.

    Without notes, to the question alone. (Recall@4 of the missing paragraph, question with note over
    question alone: 0.75 over 0.52 on HotpotQA; docs/benchmarks.md, gate.)
    """
    queries = [f"{question} {line}" for line in memory.lines] or [question]
    return index.similarities(embedder.embed(queries), candidates)


class SimilarityGate:
    """P(open) as a logistic function of the similarity of (question + note) and passage."""

    def __init__(self, embedder: Embedder, candidates: int | None) -> None:
        self._embedder = embedder
        self._candidates = candidates

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """See :class:`Gate`. A chunk that the index did not return has probability 0."""
        cosines = nearness(question, memory, index, self._embedder, self._candidates)
        odds = 1 / (1 + np.exp(-SIMILARITY_SLOPE * (cosines - SIMILARITY_MIDPOINT)))
        return np.where(cosines > -1, odds, 0).astype(np.float32)


class SlotGate(nn.Module):
    """P(open | question, memory, slots) as in LycheeMemory, section 3: slots first, then the prompt; the last
    token's hidden state through a linear layer and a sigmoid.

    The cosine of the embeddings enters beside the hidden state, scaled as in :class:`SimilarityGate`,
    so that training starts where the retriever is.
    """

    def __init__(
        self, backbone: Backbone, embedder: Embedder, bank: MemoryBank, *, candidates: int = 256, batch: int = 16
    ) -> None:
        """
        Args:
            candidates: chunks nearest by embedding whose slots are scored; the rest have probability 0.
            batch: chunks in one pass.
        """
        super().__init__()
        # Not registered as a submodule: the backbone's weights are not the gate's to move or save.
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self._embedder, self._bank = embedder, bank
        self._candidates, self._batch = candidates, batch
        self.head = nn.Linear(backbone.hidden_size + 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.weight[:, -1], SIMILARITY_SLOPE)
        nn.init.constant_(self.head.bias, -SIMILARITY_SLOPE * SIMILARITY_MIDPOINT)
        self.head.to(backbone.device)

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """See :class:`Gate`."""
        cosines = nearness(question, memory, index, self._embedder, None)
        rows = np.argsort(-cosines, kind="stable")[: self._candidates]
        found = np.zeros(len(cosines), dtype=np.float32)
        prompt = gate_prompt(question, memory.lines)
        with torch.no_grad():
            for start in range(0, len(rows), self._batch):
                part = rows[start : start + self._batch]
                slots = [self._bank.slots(index.chunks[row].chunk_id) for row in part]
                logits = self.forward(slots, prompt, torch.from_numpy(cosines[part]))
                found[part] = torch.sigmoid(logits).cpu().numpy()
        return found

    def forward(self, slots: list[Slots], prompt: str, cosines: Tensor) -> Tensor:
        """Score chunks together.

        Args:
            slots: of each chunk.
            prompt: the question and the notes, as :func:`core.prompts.gate_prompt` writes them.
            cosines: float32 [chunks].

        Returns:
            float32 [chunks], logits of P(open), the same as each chunk's alone.
        """
        backbone = self.backbone
        prefix = open_slots(
            [[s] for s in slots], backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype
        )
        ids, mask, positions = left_padded([backbone.encode(prompt)] * len(slots), prefix)
        with backbone.using("gate"):
            hidden, _ = backbone.hidden(ids, mask, positions, prefix)
        features = torch.cat((hidden[:, -1].float(), cosines.to(hidden.device)[:, None]), dim=1)
        return self.head(features).squeeze(1)


class Scan:
    """The order in which one question's chunks are read: one way through the documents, as the gate opens them.

    A chunk that the scan has gone past stays unread; only a callback brings it back.
    """

    def __init__(self, index: PassageIndex, gate: Gate, settings: RecallSettings) -> None:
        self._index, self._gate, self._settings = index, gate, settings
        self._place = 0
        self._read: set[int] = set()
        self._scored: tuple[tuple[str, str], NDArray[np.float32]] | None = None

    def next_open(self, question: str, memory: WorkingMemory) -> tuple[StoredChunk, float] | None:
        """Return the first chunk ahead that opens, with P(open), and move past it; ``None`` ends the scan."""
        scores = self._probabilities(question, memory)
        ahead = [row for row in self._open_rows(scores) if row >= self._place]
        if not ahead or len(self._read) >= self._settings.max_steps:
            return None
        self._place = min(ahead) + 1
        return self._take(min(ahead), scores)

    def passed_over(self, question: str, memory: WorkingMemory, floor: float) -> tuple[StoredChunk, float] | None:
        """Return the likeliest unread chunk behind the scan that would open now, above ``floor``; read it next."""
        scores = self._probabilities(question, memory)
        behind = [row for row in self._open_rows(scores) if row < self._place and scores[row] > floor]
        if not behind or len(self._read) >= self._settings.max_steps:
            return None
        return self._take(max(behind, key=lambda row: scores[row]), scores)

    def _take(self, row: int, scores: NDArray[np.float32]) -> tuple[StoredChunk, float]:
        self._read.add(row)
        return self._index.chunks[row], float(scores[row])

    def _probabilities(self, question: str, memory: WorkingMemory) -> NDArray[np.float32]:
        # Nothing can have changed while question and memory have not.
        if self._scored is None or self._scored[0] != (question, memory.text):
            self._scored = ((question, memory.text), self._gate.probabilities(question, memory, self._index))
        return self._scored[1]

    def _open_rows(self, scores: NDArray[np.float32]) -> list[int]:
        """Return the unread rows above τ among the ``top_k`` of all chunks, read ones counted, so that reading ends."""
        best = np.argsort(-scores, kind="stable")[: self._settings.top_k]
        return [int(row) for row in best if scores[row] > self._settings.threshold and row not in self._read]
