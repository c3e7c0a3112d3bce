"""What the compressor learns without questions: LycheeMemory, section 3.1 and appendix, on paragraphs of the pool.

Two of the paper's three objectives; the third, question answering, is :mod:`core.training.lessons`.
The bare base reads, no adapter on, so that slots are made to fit the model and not a model to fit them.

- Reconstruction: from the slots and the first words of a span of the text, the rest of the span.
- Continuation: what follows the text. The paper takes the base's own output on the raw text as the
  target; here its whole distribution at each token of the real continuation is, which says the same
  with less noise and needs no decoding (sequence against word level: Kim and Rush, arXiv 1606.07947).
"""

from collections.abc import Sequence
from random import Random
from typing import Literal

import torch
from torch import Tensor

from ..backbone import Backbone
from ..errors import InputError
from ..kv_cache import Slots
from ..questions import Paragraph
from ..teacher_forcing import Row, target_distributions, target_log_probs
from .lessons import Lesson, Turn
from .material import is_held_out
from .shuffled import Shuffled

Objective = Literal["reconstruction", "continuation"]
OBJECTIVES: tuple[Objective, ...] = ("reconstruction", "continuation")

_TEXT_WORDS = (90, 180, 350, 700)
"""Words of a lesson's text, up to a chunk of 1,024 tokens."""
_SPAN_WORDS = 40
"""Words of a reconstructed span, those that name it included."""
_NAMING_WORDS = 6
_SPANS = 3
"""Spans asked of one text."""
_CONTINUED_WORDS = 60
_LEADING_WORDS = 3
"""Words of a continuation that are read before it is predicted: slots alone predict nothing."""
_SHORTEST = 2 * _NAMING_WORDS
"""Words of a span, and of each half of a paragraph, that are worth a lesson."""
_ROUNDING = 1e-9
"""So that ten tenths are a whole."""


class PoolLessons:
    """An endless, seeded sequence of lessons on the pool: every paragraph once before any comes again."""

    def __init__(self, pool: Sequence[Paragraph], seed: int, *, held_out: bool = False) -> None:
        """
        Args:
            held_out: take the part of ``pool`` that is kept for measuring, and not the rest. A pool too small to
                have such a part is measured on as a whole.

        Raises:
            InputError: that part has no paragraph long enough.
        """
        long = [p for p in pool if all(len(half.split()) >= _SHORTEST for half in _halves(p))]
        part = [p for p in long if is_held_out(p.text) == held_out] or (long if held_out else [])
        if not part:
            raise InputError(
                f"{len(pool)} pool paragraphs, none with two halves of {_SHORTEST} words to learn from: give a data "
                "folder with pool/wikipedia.jsonl.gz, or train no selector and without reconstruction and continuation"
            )
        self._paragraphs, self._seed = Shuffled(part, seed, "pool"), seed

    def __len__(self) -> int:
        """Lessons in one pass over the pool."""
        return len(self._paragraphs)

    def at(self, index: int, objective: Objective) -> Lesson:
        """Return lesson ``index``; any index from 0 on has one."""
        chosen, room, random = self._drawn(index)
        return _reconstruction(chosen, room, random) if objective == "reconstruction" else _continuation(chosen, room)

    def text(self, index: int) -> str:
        """Return what lesson ``index`` is on, and nothing asked of it; every other paragraph is under its title."""
        chosen, room, _ = self._drawn(index)
        return "\n\n".join(_filling([p.document if i % 2 else p.text for i, p in enumerate(chosen, index)], room))

    def _drawn(self, index: int) -> tuple[list[Paragraph], int, Random]:
        _, epoch, place = self._paragraphs.at(index)
        order = self._paragraphs.order(epoch)
        random = Random(f"{self._seed}:{epoch}:pool:{place}")
        # What comes next in the order fills the text up.
        chosen = [order[(place + i) % len(order)] for i in range(min(32, len(order)))]
        return chosen, random.choice(_TEXT_WORDS), random


def _reconstruction(paragraphs: Sequence[Paragraph], room: int, random: Random) -> Lesson:
    """Ask for spans of the joined paragraphs, each from the beginning of a sentence."""
    text = "\n\n".join(_filling([p.text for p in paragraphs], room))
    words = text.split()
    starts = [i for i in range(len(words) - _SHORTEST) if i == 0 or words[i - 1].endswith((".", "!", "?"))]
    turns = []
    for start in random.sample(starts, min(_SPANS, len(starts))):
        span = words[start : start + _SPAN_WORDS]
        named, rest = " ".join(span[:_NAMING_WORDS]), " ".join(span[_NAMING_WORDS:])
        turns.append(Turn(f"\n\nThe same text once more, from there on:\n{named}", "", f" {rest}", "reconstruction"))
    return Lesson(text, tuple(turns))


def _continuation(paragraphs: Sequence[Paragraph], room: int) -> Lesson:
    """Cut the first paragraph at the end of its first half; what follows is to be predicted."""
    begun, rest = _halves(paragraphs[0])
    # What is continued stands last.
    text = "\n\n".join(reversed(_filling([begun, *(p.text for p in paragraphs[1:])], room)))
    words = rest.split()[:_CONTINUED_WORDS]
    lead, target = " ".join(words[:_LEADING_WORDS]), " ".join(words[_LEADING_WORDS:])
    return Lesson(text, (Turn(f" {lead}", "", f" {target}", "continuation"),))


def _halves(paragraph: Paragraph) -> tuple[str, str]:
    """Cut ``paragraph`` between two sentences; the second half of a single one is empty."""
    half = -(-len(paragraph.sentences) // 2)
    first, second = paragraph.sentences[:half], paragraph.sentences[half:]
    return " ".join(s.strip() for s in first), " ".join(s.strip() for s in second)


def _filling(texts: Sequence[str], room: int) -> list[str]:
    """Return the first text, and those of the others that ``room``, in words, still holds."""
    chosen, left = [texts[0]], room - len(texts[0].split())
    for text in texts[1:]:
        if len(text.split()) <= left:
            chosen.append(text)
            left -= len(text.split())
    return chosen


def pool_loss(
    backbone: Backbone, objective: Objective, chunk: Sequence[int], rows: Sequence[Row], slots: Slots
) -> Tensor:
    """Return the loss of a lesson of :class:`PoolLessons`, summed over target tokens, float32 [].

    Negative log-likelihood for reconstruction; for continuation, the divergence KL(p_text || p_slots)
    of what is predicted after the slots from what the same model predicts after the text itself.

    Args:
        chunk: ids of the lesson's text.
        rows: the lesson's turns as ids.
        slots: of ``chunk``, with gradient.
    """
    if objective == "reconstruction":
        return -torch.cat(target_log_probs(backbone, rows, slots, role=None)).sum()
    with torch.no_grad():
        wanted = target_distributions(backbone, [Row((*chunk, *row.prompt), row.target) for row in rows], role=None)
    found = target_distributions(backbone, rows, slots, role=None)
    return torch.nn.functional.kl_div(found, wanted, reduction="sum", log_target=True)


def pool_share(place: int, reconstruction: float, continuation: float) -> tuple[Objective | None, int]:
    """Return what lesson ``place`` of a run is and its number among its like, spread evenly by the two shares.

    ``None`` is a lesson on questions. No state: any place can be asked for, in any order.
    """
    total = reconstruction + continuation
    pooled, number = spread(place, total)
    if not pooled:
        return None, number
    return ("reconstruction" if spread(number, reconstruction / total)[0] else "continuation"), number


def spread(place: int, share: float) -> tuple[bool, int]:
    """Return whether ``place`` is among a ``share`` of all places, spread evenly, and its number among its like."""
    number = int(place * share + _ROUNDING)
    among = int((place + 1) * share + _ROUNDING) > number
    return among, number if among else place - number
