"""The warm start: reasoner, compressor or both learn from replies as they should have been.

With the raw form this trains the reasoner's adapter. With the compressed form the lesson's text is
encoded with gradient and the loss flows through the slots into the compressor's adapter; the reasoner
learns with it (``joint``) or stays as it is. Where the paper decodes with the bare base, a small base
reads slots better with its own adapter, so the reasoner is on in both cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ..backbone import Backbone
from ..compressor import Compressor
from ..kv_cache import Slots
from ..prompts import SYSTEM
from ..settings import CompressionSettings, Ratio
from .lessons import Lesson, Lessons, Turn
from .material import Material
from .settings import TrainingSettings
from .stage import Stage
from .teacher_forcing import Row, target_log_probs

_HELD_OUT_LESSONS = 12


@dataclass(frozen=True)
class Piece:
    """A lesson with what it weighs in its step."""

    lesson: Lesson
    ratio: Ratio
    tokens_in_step: int
    """Target tokens of the whole step, over all processes."""


class Supervised(Stage[Piece]):
    """Minimises the mean negative log-likelihood of target tokens."""

    def __init__(self, backbone: Backbone, settings: TrainingSettings, material: Material) -> None:
        super().__init__()
        # Registered, so that the loop sees what is trained and wraps it for several processes.
        self.causal_lm = backbone.causal_lm
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        self._lessons = Lessons(material.train, settings.forms, settings.seed)
        self._held_out = {form: Lessons(material.held_out, (form,), 0) for form in dict.fromkeys(settings.forms)}
        self.compressor = Compressor(backbone, CompressionSettings(ratio=4, placement=settings.placement))

    def work(self, step: int, process: int, processes: int) -> Sequence[Piece]:
        """See :class:`Stage`."""
        batch = self.settings.batch
        lessons = [self._lessons.at(step * batch + i) for i in range(batch)]
        tokens = sum(len(self._target(turn)) for lesson in lessons for turn in lesson.turns)
        ratios = [Random(f"{self.settings.seed}:{step}:{i}").choice(self.settings.ratios) for i in range(batch)]
        pieces = [Piece(lesson, ratio, tokens) for lesson, ratio in zip(lessons, ratios, strict=True)]
        return pieces[process::processes]

    def forward(self, piece: Piece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`Stage`."""
        loss, tokens = self._loss(piece.lesson, piece.ratio)
        return loss / piece.tokens_in_step, {"tokens": float(tokens)}

    def evaluate(self) -> dict[str, float]:
        """Return the loss of a target token on held-out questions, for each form, slots at α = 4."""
        return {f"loss_{form}": self._mean_loss(lessons) for form, lessons in self._held_out.items()}

    def save(self, folder: Path) -> None:
        """Write the adapters that were trained, and the memory embedding where there is one."""
        for role in self.backbone.trained:
            self.backbone.save_adapter(role, folder)

    def _loss(self, lesson: Lesson, ratio: Ratio) -> tuple[Tensor, int]:
        rows = [Row(self._prompt(turn), self._target(turn)) for turn in lesson.turns]
        slots = self._slots(lesson.chunk, ratio) if lesson.chunk is not None else None
        found = torch.cat(target_log_probs(self.backbone, rows, slots))
        return -found.sum(), len(found)

    def _mean_loss(self, lessons: Lessons) -> float:
        losses = [self._loss(lessons.at(i), 4) for i in range(min(_HELD_OUT_LESSONS, len(lessons)))]
        return float(sum(loss for loss, _ in losses)) / sum(tokens for _, tokens in losses)

    def _slots(self, text: str, ratio: Ratio) -> Slots:
        self.compressor.settings = CompressionSettings(ratio=ratio, placement=self.settings.placement)
        return self.compressor.forward([self.backbone.encode(text)])[0]

    def _prompt(self, turn: Turn) -> tuple[int, ...]:
        return tuple(self.backbone.encode_chat(SYSTEM, turn.user, turn.opening))

    def _target(self, turn: Turn) -> tuple[int, ...]:
        return (*self.backbone.encode(turn.target), self.backbone.tokenizer.eos_token_id)
