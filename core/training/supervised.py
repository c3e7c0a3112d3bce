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
from peft.helpers import disable_input_dtype_casting
from torch import Tensor

from ..adapters import save_adapters
from ..backbone import Backbone
from ..compressor import Compressor
from ..embedder import Embedder
from ..errors import InputError
from ..kv_cache import Slots
from ..prompts import SYSTEM
from ..settings import CompressionSettings, Ratio
from ..teacher_forcing import Row, target_log_probs
from .lessons import Lesson, Lessons, Turn
from .material import Material
from .noted import NotedLessons
from .pretraining import OBJECTIVES, PoolLessons, pool_loss, pool_share, spread
from .settings import TrainingSettings
from .stage import Stage

_HELD_OUT_LESSONS = 12
_CHARACTERS_IN_TOKEN = 4
"""About, in English."""


@dataclass(frozen=True)
class Piece:
    """Lessons that are read in one pass, with what they weigh in their step."""

    lessons: tuple[Lesson, ...]
    """One; or several that are alike, see :func:`alike`."""
    ratio: Ratio
    tokens_in_step: int
    """Target tokens of the whole step, over all processes."""


class Supervised(Stage[Piece]):
    """Minimises the mean negative log-likelihood of target tokens."""

    def __init__(
        self, backbone: Backbone, settings: TrainingSettings, material: Material, embedder: Embedder | None = None
    ) -> None:
        """
        Args:
            embedder: with the tagger that makes the notes of the ``noted`` share of lessons; needed where there is one.

        Raises:
            InputError: it is needed and not there, or there is nothing to learn from.
        """
        super().__init__()
        # Registered, so that the loop sees what is trained and wraps it for several processes.
        self.causal_lm = backbone.causal_lm
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        # Answers are written with no slots open, so a compressor alone learns nothing from them.
        answers = not settings.noted and not settings.reader_fixed
        self._lessons = Lessons(material.train, settings.forms, settings.seed, answers=answers)
        self._held_out = {form: Lessons(material.held_out, (form,), 0) for form in dict.fromkeys(settings.forms)}
        pooled = settings.stage == "compressor" and settings.reconstruction + settings.continuation > 0
        self._pool = PoolLessons(material.pool, settings.seed) if pooled else None
        self._held_out_pool = PoolLessons(material.pool, 0, held_out=True) if pooled else None
        self._noted: NotedLessons | None = None
        self._held_out_noted: Sequence[Lesson] = ()
        if settings.noted > 0:
            if embedder is None:
                raise InputError(f"noted={settings.noted} needs an embedder with a tagger that makes the notes")
            self._noted = NotedLessons(
                material.train,
                embedder,
                settings.seed,
                withheld=settings.withheld,
                labelled=settings.labelled,
                processes=settings.noting_processes,
            )
            held_out = NotedLessons(material.held_out, embedder, 0, withheld=settings.withheld)
            # Kept for all measurements, since the tagger reads to make them.
            self._held_out_noted = [held_out.at(i) for i in range(_HELD_OUT_LESSONS)]
        self.compressor = Compressor(backbone, CompressionSettings(ratio=4, placement=settings.placement))

    def work(self, step: int, process: int, processes: int) -> Sequence[Piece]:
        """See :class:`Stage`."""
        batch = self.settings.batch
        lessons = [self._lesson(step * batch + i) for i in range(batch)]
        tokens = sum(len(self._target(turn)) for lesson in lessons for turn in lesson.turns)
        ratios = [Random(f"{self.settings.seed}:{step}:{i}").choice(self.settings.ratios) for i in range(batch)]
        mine = list(zip(lessons, ratios, strict=True))[process::processes]
        return [Piece(group, ratio, tokens) for group, ratio in alike(mine, self.settings.together)]

    def _lesson(self, place: int) -> Lesson:
        if self._noted is not None:
            noted, place = spread(place, self.settings.noted)
            if noted:
                return self._noted.at(place)
        if self._pool is None:
            return self._lessons.at(place)
        objective, number = pool_share(place, self.settings.reconstruction, self.settings.continuation)
        return self._pool.at(number, objective) if objective else self._lessons.at(number)

    def forward(self, piece: Piece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`Stage`."""
        # Under autocast the products cast for themselves; peft's cast before them changes no bit and takes time.
        with disable_input_dtype_casting(self.causal_lm, torch.is_autocast_enabled(self.backbone.device.type)):
            loss, tokens = self._loss(piece.lessons, piece.ratio)
        return loss / piece.tokens_in_step, {"tokens": float(tokens)}

    def evaluate(self) -> dict[str, float]:
        """Return the loss of a target token on what is held out, for each form and objective, slots at α = 4."""
        shown: dict[str, list[Lesson]] = {}
        for form, lessons in self._held_out.items():
            shown[form] = [lessons.at(i) for i in range(min(_HELD_OUT_LESSONS, len(lessons)))]
        if (pool := self._held_out_pool) is not None:
            for objective in OBJECTIVES:
                shown[objective] = [pool.at(i, objective) for i in range(min(_HELD_OUT_LESSONS, len(pool)))]
        if self._held_out_noted:
            shown["noted"] = list(self._held_out_noted)
        return {f"loss_{name}": self._mean_loss(lessons) for name, lessons in shown.items()}

    def save(self, folder: Path) -> None:
        """Write every adapter there is, so that the next stage finds those it does not train; and the compressor's."""
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        self.compressor.save_weights(folder)

    def _loss(self, lessons: Sequence[Lesson], ratio: Ratio) -> tuple[Tensor, int]:
        rows = [[Row(self._prompt(turn), self._target(turn)) for turn in lesson.turns] for lesson in lessons]
        chunks = [self.backbone.encode(lesson.chunk) for lesson in lessons if lesson.chunk is not None]
        slots = self._slots(chunks, ratio) if chunks else []
        kind = lessons[0].turns[0].kind
        if kind != "reply":
            loss = pool_loss(self.backbone, kind, chunks[0], rows[0], slots[0])
            return loss, sum(len(row.target) for row in rows[0])
        # A lesson alone has its text, and often more, read once for all of its turns.
        opened = slots[0] if len(slots) == 1 else [own for own, asked in zip(slots, rows, strict=False) for _ in asked]
        found = torch.cat(target_log_probs(self.backbone, [row for asked in rows for row in asked], opened or None))
        return -found.sum(), len(found)

    def _mean_loss(self, lessons: Sequence[Lesson]) -> float:
        losses = [self._loss([lesson], 4) for lesson in lessons]
        return float(sum(loss for loss, _ in losses)) / sum(tokens for _, tokens in losses)

    def _slots(self, chunks: Sequence[list[int]], ratio: Ratio) -> list[Slots]:
        self.compressor.settings = CompressionSettings(ratio=ratio, placement=self.settings.placement)
        return self.compressor.forward(chunks)

    def _prompt(self, turn: Turn) -> tuple[int, ...]:
        if turn.kind != "reply":
            return tuple(self.backbone.encode(turn.user))
        return tuple(self.backbone.encode_chat(SYSTEM, turn.user, turn.opening))

    def _target(self, turn: Turn) -> tuple[int, ...]:
        if turn.kind != "reply":
            return tuple(self.backbone.encode(turn.target))
        return (*self.backbone.encode(turn.target), self.backbone.tokenizer.eos_token_id)


def alike(lessons: Sequence[tuple[Lesson, Ratio]], tokens: int) -> list[tuple[tuple[Lesson, ...], Ratio]]:
    """Return ``lessons``, each with the α of its slots, in groups that are read in a pass of about ``tokens`` each.

    Those of a group have a chunk each, at the same α, or none has; and they are of like length. A lesson that is as
    long by itself is read alone, and so is what the pool teaches. With 0 every lesson is.
    """
    kinds: dict[tuple[bool, Ratio | None], list[tuple[Lesson, Ratio]]] = {}
    groups: list[tuple[tuple[Lesson, ...], Ratio]] = []
    for lesson, ratio in lessons:
        if not tokens or lesson.turns[0].kind != "reply":
            groups.append(((lesson,), ratio))
        else:
            opened = lesson.chunk is not None
            kinds.setdefault((opened, ratio if opened else None), []).append((lesson, ratio))
    for kind in kinds.values():
        group = list[Lesson]()
        for lesson, ratio in sorted(kind, key=lambda pair: _size([pair[0]])):
            if group and _size([*group, lesson]) > tokens * _CHARACTERS_IN_TOKEN:
                groups.append((tuple(group), ratio))
                group = []
            group.append(lesson)
        groups.append((tuple(group), kind[0][1]))
    return groups


def _size(lessons: Sequence[Lesson]) -> int:
    """Return the characters that a pass over ``lessons`` reads: chunks and rows, each padded to its longest."""
    rows = [len(turn.user) + len(turn.target) for lesson in lessons for turn in lesson.turns]
    return len(rows) * max(rows) + len(lessons) * max(len(lesson.chunk or "") for lesson in lessons)
