"""What the gate is shown: a question, what is noted of it so far, and chunks of which some hold what is still missing.

Notes come from the labels: sentences of other gold paragraphs, as if they had been read, now and then
one that does not matter. Everything is drawn from the questions by (seed, index).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..errors import InputError
from ..questions import Paragraph, Question
from .shuffled import Shuffled


@dataclass(frozen=True)
class Haystack:
    """One question, the notes so far, and the chunks that are unread."""

    question: str
    notes: tuple[str, ...]
    chunks: tuple[str, ...]
    holds: tuple[bool, ...]
    """Whether each chunk holds a supporting sentence; at least one does."""


class Haystacks:
    """An endless, seeded sequence of haystacks: every question once before any comes again."""

    def __init__(
        self, questions: Sequence[Question], strangers: Sequence[Paragraph], chunks: int, seed: int, *, noted: float
    ) -> None:
        """
        Args:
            strangers: paragraphs that fill haystacks up; where there are none, those of other questions.
            chunks: in a haystack, as far as there are so many.
            noted: share of the questions with several gold paragraphs of which some are read already.

        Raises:
            InputError: there is nothing to learn from.
        """
        self._questions = [question for question in questions if question.gold]
        if not self._questions:
            raise InputError("no question with supporting sentences: see --data")
        self._strangers = list(strangers) or [p for question in self._questions for p in question.paragraphs]
        self._order = Shuffled(self._questions, seed)
        self._chunks, self._seed, self._noted = chunks, seed, noted

    def __len__(self) -> int:
        """Haystacks in one pass over the questions."""
        return len(self._questions)

    def at(self, index: int) -> Haystack:
        """Return haystack ``index``; any index from 0 on has one."""
        question, epoch, place = self._order.at(index)
        random = Random(f"{self._seed}:{epoch}:gate:{place}")
        read = self._read(question, random)
        known = {paragraph.text for paragraph in read}
        gold = {paragraph.text for paragraph in question.gold}
        unread = {p.text: p for p in question.paragraphs if p.text not in known}
        for _ in range(4 * self._chunks):
            if len(unread) >= self._chunks:
                break
            stranger = random.choice(self._strangers)
            if stranger.text not in gold:
                unread.setdefault(stranger.text, stranger)
        chunks = list(unread.values())
        random.shuffle(chunks)
        notes = [sentence for paragraph in read for sentence in paragraph.supporting] + self._noise(random)
        return Haystack(
            question.question, tuple(notes), tuple(p.document for p in chunks), tuple(p.text in gold for p in chunks)
        )

    def _read(self, question: Question, random: Random) -> list[Paragraph]:
        """Choose gold paragraphs that are read already, never all of them."""
        gold = list({paragraph.text: paragraph for paragraph in question.gold}.values())
        if len(gold) < 2 or random.random() >= self._noted:
            return []
        return random.sample(gold, random.randrange(1, len(gold)))

    def _noise(self, random: Random) -> list[str]:
        """A note that does not matter, now and then."""
        if random.random() < 0.7:
            return []
        return [random.choice(random.choice(self._questions).gold[0].supporting)]
