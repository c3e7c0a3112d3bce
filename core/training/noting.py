"""Makes the notes that a question is answered from as they are made in use: wrong ones among them, right ones missing.

The tagger of :mod:`core.evidence` chooses sentences from a question's paragraphs and others as it does before an answer
(:mod:`core.second_look`). What learns to answer from those learns on the states that the policy itself reaches (DAgger:
Ross et al., arXiv 1011.0686). What the reasoner tells is drawn by lot, since reading every paragraph with it would take
longer than learning does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..chunking import Span, sentences
from ..embedder import Embedder
from ..errors import InputError
from ..headings import behind_heading
from ..questions import Paragraph, Question
from ..second_look import best_evidence
from .lessons import evidence
from .negatives import Negatives

_NEGATIVES = (1, 2, 3)
"""Paragraphs without evidence that are read for a question."""
_MISSED = 0.08
"""Share of the gold paragraphs that the gate does not open."""
_ALL_MISSED = 0.12
"""Share of the questions of which it opens none."""
_TOLD, _TOLD_WRONGLY = 0.6, 0.05
"""Shares of the sentences that are evidence, and of the others, of which the reasoner tells."""
_TITLED = 0.8


@dataclass(frozen=True)
class Noted:
    """What a question is answered from."""

    lines: tuple[str, ...]
    """Notes behind headings, the likeliest first."""
    right: tuple[bool, ...]
    """Whether each is evidence by the labels, or a part of it."""
    found: int
    """Gold paragraphs of whose evidence something is noted."""


class Noting:
    """Reads for questions."""

    def __init__(self, questions: Sequence[Question], embedder: Embedder) -> None:
        """
        Args:
            questions: each with a gold paragraph; their paragraphs are read for others.
            embedder: with a tagger.

        Raises:
            InputError: it has none.
        """
        if embedder.tagger is None:
            raise InputError(
                f"there is no tagger for embedder {embedder.name!r} to make notes with: train one with --stage "
                "evidence and name it with --adapters, or leave --noted at 0"
            )
        self._negatives, self._embedder = Negatives(questions), embedder

    def read(self, question: Question, gold: Sequence[Paragraph], random: Random) -> Noted:
        """Return what is noted for ``question`` of ``gold``, or of its evidence that is left, and other paragraphs."""
        gold = [] if random.random() < _ALL_MISSED else [p for p in gold if random.random() >= _MISSED]
        others = [self._negatives.draw(question, random) for _ in range(random.choice(_NEGATIVES))]
        shown = list({p.text: p for p in (*gold, *others)}.values())
        random.shuffle(shown)
        texts = [p.document if random.random() < _TITLED else p.text for p in shown]
        wanted = [_folded(question, p) for p in shown]

        def says_it(row: int, said: str) -> bool:
            return any(said in sentence or sentence in said for sentence in wanted[row])

        told = {
            (row, span)
            for row, text in enumerate(texts)
            for span in sentences(text)
            if random.random() < (_TOLD if says_it(row, _said(text, span)) else _TOLD_WRONGLY)
        }
        found = best_evidence(self._embedder, question.question, texts, told)
        lines = tuple(behind_heading(texts[s.text], *s.span) for s in found)
        right = tuple(says_it(s.text, _said(texts[s.text], s.span)) for s in found)
        return Noted(lines, right, len({s.text for s, is_right in zip(found, right, strict=True) if is_right}))


def _said(text: str, span: Span) -> str:
    return " ".join(text[span.start : span.end].split())


def _folded(question: Question, paragraph: Paragraph) -> list[str]:
    return [" ".join(sentence.split()) for sentence in evidence(question, paragraph)] if paragraph.support else []
