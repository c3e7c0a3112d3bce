"""Decides which chunks are worth opening, given the question and what is known so far.

Two gates give P(open): :class:`SimilarityGate` from embeddings alone, for every model from the first
day; :class:`BankGate` from the slots, once one is trained. :class:`Scan` turns probabilities into an order of reading.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from .embedder import Embedder
from .kv_cache import Slots
from .memory_bank import MemoryBank
from .passage_index import PassageIndex, StoredChunk, highest
from .prompts import gate_prompt
from .settings import RecallSettings
from .similarity import UNTRAINED
from .slot_gate import ProbeGate, SlotGate
from .working_memory import WorkingMemory

_Part = TypeVar("_Part")
_Read = TypeVar("_Read")


class Gate(Protocol):
    """What a scan needs of a gate."""

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """Return P(open) of every chunk of ``index``, float32 [chunks]."""
        ...


def nearness(
    question: str,
    memory: WorkingMemory,
    index: PassageIndex,
    embedder: Embedder,
    candidates: int | None,
    *,
    exact: bool = False,
) -> NDArray[np.float32]:
    """Return each chunk's cosine, float32 [chunks], to the question with that note which brings it nearest.

    Without notes, to the question alone. (Recall@4 of the missing paragraph, question with note over
    question alone: 0.75 over 0.52 on HotpotQA; docs/benchmarks.md, gate.)
    """
    noted = [f"{question} {line}" for line in memory.lines]
    # Trained queries look for what is missing. Where nothing is known yet the embedder as it comes finds as much, and
    # more in text that is unlike what they were trained on.
    queries = embedder.embed_queries(noted) if noted else embedder.embed([question])
    return index.similarities(queries, candidates, exact=exact)


class SimilarityGate:
    """P(open) as a logistic function of the similarity of (question + note) and passage."""

    def __init__(self, embedder: Embedder, candidates: int | None, *, exact: bool = False) -> None:
        """See :class:`core.settings.RecallSettings` for ``candidates`` and ``exact``."""
        self._embedder, self._candidates, self._exact = embedder, candidates, exact

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """See :class:`Gate`. A chunk that the index did not return has probability 0."""
        cosines = nearness(question, memory, index, self._embedder, self._candidates, exact=self._exact)
        odds = self._embedder.odds if memory.lines else UNTRAINED
        return np.where(cosines > -1, odds.probabilities(cosines), 0).astype(np.float32)


class BankGate:
    """P(open) of a bank's chunks by a trained gate over their slots."""

    def __init__(
        self,
        scorer: SlotGate | ProbeGate,
        embedder: Embedder,
        bank: MemoryBank,
        *,
        candidates: int,
        passages: int | None = None,
        exact: bool = False,
        batch: int = 16,
    ) -> None:
        """
        Args:
            candidates: chunks nearest by embedding whose slots are scored; the rest have probability 0.
            passages: that the index returns to find them; ``None`` looks at all.
            exact: see :class:`core.settings.RecallSettings`.
            batch: chunks in one pass.
        """
        self._scorer, self._embedder, self._bank = scorer, embedder, bank
        self._candidates, self._passages, self._exact, self._batch = candidates, passages, exact, batch

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """See :class:`Gate`."""
        cosines = nearness(question, memory, index, self._embedder, self._passages, exact=self._exact)
        rows = highest(cosines, self._candidates)
        rows = rows[cosines[rows] > -1]  # the rest the index did not return
        found = np.zeros(len(cosines), dtype=np.float32)
        parts = [rows[start : start + self._batch] for start in range(0, len(rows), self._batch)]
        prompt = gate_prompt(question, memory.lines)
        with closing(ahead(parts, lambda part: self._read(index, part))) as read, torch.no_grad():
            batches = ((slots, torch.from_numpy(cosines[part])) for part, slots in zip(parts, read, strict=True))
            for part, logits in zip(parts, self._scorer.scores(prompt, batches), strict=True):
                found[part] = torch.sigmoid(logits).cpu().numpy()
        return found

    def _read(self, index: PassageIndex, part: NDArray[np.int64]) -> list[Slots]:
        return [self._bank.slots(index.chunks[row].chunk_id) for row in part]


def ahead(parts: Sequence[_Part], read: Callable[[_Part], _Read]) -> Generator[_Read, None, None]:
    """Yield ``read(part)`` for each of ``parts``, the next one being read in a thread while one is in use.

    Whoever stops early closes the iterator, which waits for what is being read.
    """
    with ThreadPoolExecutor(1, "read ahead") as reader:
        coming = reader.submit(read, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if coming is None:
                return
            done = coming.result()
            coming = None if following is None else reader.submit(read, following)
            yield done


@dataclass(frozen=True, eq=False)
class Scored:
    """Event: the gate gave each chunk its P(open), from what was known then."""

    query: str
    """The question, or what the reasoner asked the callback for."""
    notes: tuple[str, ...]
    """The lines of working memory that the gate saw beside it."""
    chunks: tuple[StoredChunk, ...]
    """Those there are to open, in reading order."""
    probabilities: NDArray[np.float32]
    """float32 [chunks]. The scan goes by this very array: read it only."""


class Scan:
    """The order in which one question's chunks are read: one way through the documents, as the gate opens them.

    A chunk that the scan has gone past stays unread; only a callback brings it back.
    """

    def __init__(
        self,
        index: PassageIndex,
        gate: Gate,
        settings: RecallSettings,
        listener: Callable[[Scored], None] = lambda _: None,
    ) -> None:
        """
        Args:
            listener: sees what the gate gives, each time that it is asked.
        """
        self._index, self._gate, self._settings, self._listener = index, gate, settings, listener
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
            scores = self._gate.probabilities(question, memory, self._index)
            self._scored = ((question, memory.text), scores)
            self._listener(Scored(question, memory.lines, self._index.chunks, scores))
        return self._scored[1]

    def _open_rows(self, scores: NDArray[np.float32]) -> list[int]:
        """Return the unread rows above τ among the ``top_k`` of all chunks, read ones counted, so that reading ends."""
        best = highest(scores, self._settings.top_k)
        return [int(row) for row in best if scores[row] > self._settings.threshold and row not in self._read]
