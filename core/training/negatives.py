"""Paragraphs that do not help with a question and look as if they did."""

from collections.abc import Sequence
from random import Random

from ..questions import Paragraph, Question

_NEAR = 0.7
"""Share of the negatives that are of the question's own, where it has any."""
_AROUND = 2


class Negatives:
    """Draws paragraphs without evidence for a question out of all gold paragraphs and the question's distractors."""

    def __init__(self, questions: Sequence[Question]) -> None:
        """
        Args:
            questions: each with a gold paragraph, in an order in which those of one article follow each other.
        """
        golds = {q.gold[0].text: q.gold[0] for q in questions}
        self._paragraphs = list(golds.values())
        self._places = {text: place for place, text in enumerate(golds)}

    def draw(self, question: Question, random: Random) -> Paragraph:
        """Return a distractor of ``question``, else a neighbour of its gold paragraph; or now and then any other."""
        gold = {p.text for p in question.gold}
        near = [p for p in question.paragraphs if not p.support]
        if not near and (place := self._places.get(question.gold[0].text)) is not None:
            near = self._paragraphs[max(0, place - _AROUND) : place + _AROUND + 1]
        near = [p for p in near if p.text not in gold]
        if near and random.random() < _NEAR:
            return random.choice(near)
        return next(p for p in iter(lambda: random.choice(self._paragraphs), None) if p.text not in gold)
