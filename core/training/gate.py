"""The gate learns which chunks hold what is missing: LycheeMemory, section 3.3, over slots of the compressor as it is.

A step's tuples are (question, notes, chunk) from haystacks: every chunk that holds a supporting
sentence, and of the others those nearest to the question by embedding, which are the hardest.
The paper takes its tuples from rollouts; these come from the labels, so that the gate can be trained before RL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..adapters import save_adapters
from ..backbone import Backbone
from ..chunking import Span
from ..compressor import Compressor
from ..embedder import Embedder
from ..errors import InputError
from ..gate import nearness
from ..passage_index import PassageIndex, StoredChunk
from ..prompts import gate_prompt
from ..settings import CompressionSettings, Ratio
from ..slot_gate import HEAD, ProbeGate, SlotGate, load_gate, save_gate
from ..working_memory import Note, WorkingMemory
from .calibration import Calibration, fitted, weighted_loss
from .haystacks import Haystack, Haystacks
from .material import Material
from .settings import TrainingSettings
from .stage import Stage

_HELD_OUT_HAYSTACKS = 16
_NOTED = 0.5
_CHUNKS_IN_PASS = 16


@dataclass(frozen=True)
class GatePiece:
    """A haystack with what it weighs in its step."""

    haystack: Haystack
    ratio: Ratio
    chunks_in_step: int
    """Scored chunks of the whole step, over all processes."""


@dataclass(frozen=True)
class _Judged:
    """What gate and embedding say of one haystack's chunks, float32 [chunks] each."""

    logits: Tensor
    cosines: Tensor
    holds: Tensor


class GateTraining(Stage[GatePiece]):
    """Minimises the weighted cross-entropy of "this chunk holds a supporting sentence"."""

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        settings: TrainingSettings,
        material: Material,
        adapters: Path | None = None,
    ) -> None:
        """
        Args:
            backbone: with an adapter for the gate that gradients reach.
            adapters: where ``backbone``'s adapters came from; a gate's head and the memory embedding are taken there.

        Raises:
            InputError: ``adapters`` holds a gate of the other kind.
        """
        super().__init__()
        self.causal_lm = backbone.causal_lm
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        self._embedder = embedder
        self.gate = starting_gate(backbone, settings, adapters)
        self.compressor = Compressor(backbone, CompressionSettings(placement=settings.placement))
        if adapters is not None:
            self.compressor.load_weights(adapters)
        self.compressor.requires_grad_(False)
        self._haystacks = Haystacks(material.train, material.pool, settings.haystack, settings.seed, noted=_NOTED)
        self._held_out = Haystacks(material.held_out, material.pool, settings.haystack, 0, noted=_NOTED)
        self._calibration: Calibration | None = None

    def work(self, step: int, process: int, processes: int) -> Sequence[GatePiece]:
        """See :class:`core.training.stage.Stage`."""
        batch = self.settings.batch
        haystacks = [self._haystacks.at(step * batch + i) for i in range(batch)]
        chunks = sum(min(self.settings.scored, len(haystack.chunks)) for haystack in haystacks)
        ratios = [Random(f"{self.settings.seed}:{step}:{i}").choice(self.settings.ratios) for i in range(batch)]
        pieces = [GatePiece(haystack, ratio, chunks) for haystack, ratio in zip(haystacks, ratios, strict=True)]
        return pieces[process::processes]

    def forward(self, piece: GatePiece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`core.training.stage.Stage`."""
        haystack = piece.haystack
        cosines = chunk_cosines(haystack, self._embedder)
        rows = hardest(haystack.holds, cosines, self.settings.scored)
        logits = self._logits(haystack, rows, cosines, piece.ratio)
        holds = _as_tensor([haystack.holds[row] for row in rows], logits.device)
        loss = weighted_loss(logits, holds, self.settings.positive_weight)
        return loss / piece.chunks_in_step, {"chunks": float(len(rows))}

    def evaluate(self) -> dict[str, float]:
        """Measure on held-out haystacks, slots at α = 4.

        Recall among the first k of a haystack, beside that of the embeddings alone; loss; and
        precision and recall at τ = 0.5, calibrated on one half of the haystacks and measured on the other.
        """
        count = min(_HELD_OUT_HAYSTACKS, len(self._held_out))
        judged = [self._judge(self._held_out.at(i)) for i in range(count)]
        found: dict[str, float] = {}
        for k in (1, 4, 8):
            found[f"recall_at_{k}"] = _mean([recall_at(k, j.logits, j.holds) for j in judged])
            found[f"recall_at_{k}_cosine"] = _mean([recall_at(k, j.cosines, j.holds) for j in judged])
        weight = self.settings.positive_weight
        chunks = sum(len(j.holds) for j in judged)
        found["loss"] = sum(float(weighted_loss(j.logits, j.holds, weight)) for j in judged) / chunks
        found |= _at_threshold(judged[::2], judged[1::2] or judged, weight)
        self._calibration = _calibrated(judged, weight)
        return found

    def save(self, folder: Path) -> None:
        """Write every adapter there is, and the gate's head, calibrated on all that is held out."""
        if self._calibration is None:
            with torch.no_grad():
                self.evaluate()
        calibration = self._calibration or Calibration()
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        self.compressor.save_weights(folder)
        save_gate(self.gate, folder, scale=calibration.scale, shift=calibration.shift)

    def _judge(self, haystack: Haystack) -> _Judged:
        cosines = chunk_cosines(haystack, self._embedder)
        rows = list(range(len(haystack.chunks)))
        logits = self._logits(haystack, rows, cosines, 4)
        return _Judged(logits.cpu(), torch.from_numpy(cosines), _as_tensor(haystack.holds, torch.device("cpu")))

    def _logits(self, haystack: Haystack, rows: list[int], cosines: NDArray[np.float32], ratio: Ratio) -> Tensor:
        self.compressor.settings = CompressionSettings(ratio=ratio, placement=self.settings.placement)
        parts = [rows[start : start + _CHUNKS_IN_PASS] for start in range(0, len(rows), _CHUNKS_IN_PASS)]
        batches = (
            (
                self.compressor.compress([self.backbone.encode(haystack.chunks[row]) for row in part]),
                torch.from_numpy(cosines[part]),
            )
            for part in parts
        )
        return torch.cat(list(self.gate.scores(gate_prompt(haystack.question, haystack.notes), batches)))


def starting_gate(backbone: Backbone, settings: TrainingSettings, adapters: Path | None) -> SlotGate | ProbeGate:
    """Return the gate of ``adapters`` where it holds one, else one that says what the embeddings say.

    Raises:
        InputError: the gate there is of another kind than ``settings`` ask for.
    """
    if adapters is None or not (adapters / HEAD).is_file():
        return ProbeGate(backbone) if settings.gate == "probes" else SlotGate(backbone)
    gate = load_gate(backbone, adapters)
    if isinstance(gate, ProbeGate) != (settings.gate == "probes"):
        raise InputError(f"gate={settings.gate!r}, and {adapters} holds a {type(gate).__name__}: start from others")
    return gate


def chunk_cosines(haystack: Haystack, embedder: Embedder) -> NDArray[np.float32]:
    """Return how near each chunk is to question and notes, float32 [chunks], as :func:`core.gate.nearness` has it."""
    passages = [
        (row, text[s.start : s.end]) for row, text in enumerate(haystack.chunks) for s in embedder.passages(text)
    ]
    stored = [StoredChunk(str(row), "", Span(0, len(text)), 0, 0) for row, text in enumerate(haystack.chunks)]
    owners = np.array([row for row, _ in passages], dtype=np.int64)
    index = PassageIndex(stored, owners, embedder.embed([text for _, text in passages]))
    notes = tuple(Note(line, line, "", "", Span(0, len(line)), 1.0) for line in haystack.notes)
    return nearness(haystack.question, WorkingMemory(notes), index, embedder, None)


def hardest(holds: Sequence[bool], cosines: NDArray[np.float32], count: int) -> list[int]:
    """Return the rows to score: those that hold something, then the nearest of the others, up to ``count``."""
    order = np.argsort(-cosines, kind="stable").tolist()
    return sorted(order, key=lambda row: not holds[row])[:count]


def recall_at(k: int, scores: Tensor, holds: Tensor) -> float:
    """Return the share of the chunks that hold something among the ``k`` of highest score, [chunks] both."""
    first = scores.argsort(descending=True, stable=True)[:k]
    return float(holds[first].sum() / holds.sum())


def _calibrated(judged: Sequence[_Judged], weight: float) -> Calibration:
    return fitted(torch.cat([j.logits for j in judged]), torch.cat([j.holds for j in judged]), weight)


def _at_threshold(fit: Sequence[_Judged], measure: Sequence[_Judged], weight: float) -> dict[str, float]:
    logits, holds = torch.cat([j.logits for j in measure]), torch.cat([j.holds for j in measure])
    opened = _calibrated(fit, weight).applied(logits) > 0
    right = float(holds[opened].sum())
    return {"precision": right / max(1, int(opened.sum())), "recall": right / float(holds.sum())}


def _as_tensor(holds: Sequence[bool], device: torch.device) -> Tensor:
    return torch.tensor(holds, dtype=torch.float32, device=device)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
