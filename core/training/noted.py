"""Lessons that answer from notes as they are made in use: wrong ones among them, right ones missing.

A reasoner that learned to answer from labelled evidence believes every note. Here the tagger of :mod:`core.evidence`
reads a question's paragraphs and others one after the other, by the rule of :class:`core.reasoner.Reasoner`, and what
it takes for evidence is what the question is answered from (learning on the states that the policy itself reaches:
DAgger, Ross et al., arXiv 1011.0686). The reasoner's own part in the notes is drawn by lot, since reading every
paragraph with it would take longer than learning does. Where notes and question do not say the answer, it is
:data:`core.prompts.UNKNOWN`.
"""

from collections.abc import Sequence
from random import Random

from ..embedder import Embedder
from ..errors import InputError
from ..headings import heading, titled
from ..prompts import ANSWER_OPENING, ANSWER_STOP, UNKNOWN, answer_prompt
from ..questions import Paragraph, Question
from ..reasoner import POSSIBLE, noted
from ..working_memory import words
from .lessons import Lesson, Turn, evidence, usable_questions
from .negatives import Negatives

ANSWERS_IN_LESSON = 8
_HOPS_MORE = 3
"""How often more than others a question of several hops comes: there are few, and their notes are worse."""
_NEGATIVES = (1, 2, 3)
"""Paragraphs without evidence that are read for a question."""
_MISSED = 0.1
"""Share of the gold paragraphs that the gate does not open."""
_ALL_MISSED = 0.07
"""Share of the questions of which it opens none."""
_TOLD = 0.5
"""Share of the sentences that may be evidence of which the reasoner tells."""
_TITLED = 0.8
_MEMORY_WORDS = 170
"""Of all notes together, about the tokens that working memory has room for; the oldest leave."""
_ALIKE = 4
"""Lessons whose answers are drawn together and dealt out by length, since the shortest of a lesson is padded to its
longest."""
_DRAWS = 64
"""Questions tried for a place before there is nothing to learn from."""


class NotedLessons:
    """An endless, seeded sequence of lessons; questions of several hops come more often than others."""

    def __init__(self, questions: Sequence[Question], embedder: Embedder, seed: int) -> None:
        """
        Args:
            embedder: with a tagger.

        Raises:
            InputError: it has none, or there are no questions to learn from.
        """
        if embedder.tagger is None:
            raise InputError(
                f"there is no tagger for embedder {embedder.name!r} to make notes with: train one with --stage "
                "evidence and name it with --adapters, or leave --noted at 0"
            )
        usable = usable_questions(questions)
        self._plan = [*usable, *_HOPS_MORE * [q for q in usable if len(q.gold) > 1]]
        self._negatives = Negatives(usable)
        self._embedder, self._seed = embedder, seed
        self._drawn: tuple[int, list[Turn]] = (-1, [])

    def __len__(self) -> int:
        """Lessons in about one pass over the questions."""
        return -(-len(self._plan) // ANSWERS_IN_LESSON)

    def at(self, index: int) -> Lesson:
        """Return lesson ``index``; any index from 0 on has one."""
        block, place = divmod(index, _ALIKE)
        if block != self._drawn[0]:
            size = _ALIKE * ANSWERS_IN_LESSON
            turns = [self._turn(block * size + i) for i in range(size)]
            self._drawn = (block, sorted(turns, key=lambda turn: len(turn.user)))
        return Lesson(None, tuple(self._drawn[1][place * ANSWERS_IN_LESSON : (place + 1) * ANSWERS_IN_LESSON]))

    def _turn(self, place: int) -> Turn:
        """Return what is asked in ``place``: a question whose notes or lack of notes say what should be answered."""
        random = Random(f"{self._seed}:{place}:noted")
        for _ in range(_DRAWS):
            question = random.choice(self._plan)
            notes, found = self._notes(question, random)
            if notes and (answer := target(question, notes, found)):
                return Turn(answer_prompt(question.question, notes, ()), ANSWER_OPENING, f"{answer}{ANSWER_STOP}")
        raise InputError(f"{_DRAWS} questions gave no notes to answer from: the tagger finds no evidence in the data")

    def _notes(self, question: Question, random: Random) -> tuple[tuple[str, ...], bool]:
        """Read for ``question``: what is noted, under headings, and whether any of it is evidence."""
        gold = [] if random.random() < _ALL_MISSED else [p for p in question.gold if random.random() >= _MISSED]
        others = [self._negatives.draw(question, random) for _ in range(random.choice(_NEGATIVES))]
        shown = list({p.text: p for p in (*gold, *others)}.values())
        random.shuffle(shown)
        known, lines, right = list[str](), list[str](), set[str]()
        for paragraph in shown:
            text = paragraph.document if random.random() < _TITLED else paragraph.text
            judged = self._embedder.evidence(question.question, known, text) or []
            told = [span for span, odds in judged if odds > POSSIBLE and random.random() < _TOLD]
            wanted = _folded(question, paragraph)
            for start, end in noted(judged, told):
                said = " ".join(text[start:end].split())
                if said in known:
                    continue
                known.append(said)
                lines.append(titled(heading(text, start), said))
                if any(said in sentence or sentence in said for sentence in wanted):
                    right.add(lines[-1])
                while len(" ".join(lines).split()) > _MEMORY_WORDS:
                    known.pop(0)
                    lines.pop(0)
        return tuple(lines), any(line in right for line in lines)


def _folded(question: Question, paragraph: Paragraph) -> list[str]:
    return [" ".join(sentence.split()) for sentence in evidence(question, paragraph)] if paragraph.support else []


def target(question: Question, notes: Sequence[str], found: bool) -> str | None:
    """Return what ``question`` should be answered from ``notes``; ``None``: they leave it open.

    Args:
        found: whether any of the notes is evidence.
    """
    said = " ".join(words(" ".join((question.question, *notes))))
    if not found:
        # Without evidence even an answer that a note happens to name is a guess.
        return UNKNOWN
    answers = [" ".join(words(answer)) for answer in question.answers]
    if answers[0] in ("yes", "no") or any(f" {answer} " in f" {said} " for answer in answers):
        return question.answers[0]
    return None
