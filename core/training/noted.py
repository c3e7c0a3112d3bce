"""Lessons that answer from notes as they are made in use: wrong ones among them, right ones missing.

A reasoner that learned to answer from labelled evidence believes every note. Here a question is answered from what
:mod:`core.training.noting` finds. Where there is no evidence among the notes, the answer is
:data:`core.prompts.UNKNOWN`; and where the answer was withheld, which leaves notes that are near and do not say it (as
the unanswerable questions of SQuAD 2.0 are, arXiv 1806.03822, which people wrote).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

from ..embedder import Embedder
from ..errors import InputError
from ..evaluation.withheld import names_answer, without_answer
from ..prompts import ANSWER_OPENING, ANSWER_STOP, UNKNOWN, answer_prompt
from ..questions import Question
from .ahead import Ahead
from .lessons import Lesson, Lessons, Turn, hops_oftener, usable_questions, worked_answer
from .noting import Noting

ANSWERS_IN_LESSON = 8
_ALIKE = 4
"""Lessons whose answers are drawn together and dealt out by length, since the shortest of a lesson is padded to its
longest."""
_DRAWS = 64
"""Questions tried for a place before there is nothing to learn from."""


class NotedLessons:
    """An endless, seeded sequence of lessons; questions of several hops come more often than others."""

    def __init__(
        self,
        questions: Sequence[Question],
        embedder: Embedder,
        seed: int,
        *,
        withheld: float = 0.0,
        labelled: float = 0.0,
        processes: int = 0,
    ) -> None:
        """
        Args:
            embedder: with a tagger.
            withheld: share of the questions whose answer is taken out of their gold paragraphs. Fewer come up, since
                often nothing near is left.
            labelled: share of the others whose notes are labelled evidence amid other sentences
                (:meth:`core.training.lessons.Lessons.answer`), with nothing read.
            processes: that make notes ahead, each with an embedder of its own; 0: a thread of this one does. A GPU
                learns faster than one process makes notes.

        Raises:
            InputError: it has none, or there are no questions to learn from.
        """
        usable = usable_questions(questions)
        self._noting = Noting(usable, embedder)
        self._plan = hops_oftener(usable)
        self._labels = Lessons(usable, ("raw",), seed)
        self._seed, self._withheld, self._labelled = seed, withheld, labelled
        self._worked = any(question.working for question in usable)
        anew = partial(
            _block_of,
            tuple(questions),
            embedder.name,
            embedder.tagger,
            str(embedder.model.device),
            seed,
            withheld,
            labelled,
        )
        self._blocks = Ahead(self._block, processes, anew)

    def at(self, index: int) -> Lesson:
        """Return lesson ``index``; any index from 0 on has one."""
        block, place = divmod(index, _ALIKE)
        turns = self._blocks.at(block)
        return Lesson(None, tuple(turns[place * ANSWERS_IN_LESSON : (place + 1) * ANSWERS_IN_LESSON]))

    def _block(self, block: int) -> list[Turn]:
        size = _ALIKE * ANSWERS_IN_LESSON
        return sorted((self._turn(block * size + i) for i in range(size)), key=lambda turn: len(turn.user))

    def _turn(self, place: int) -> Turn:
        """Return what is asked in ``place``: a question whose notes or lack of notes say what should be answered."""
        random = Random(f"{self._seed}:{place}:noted")
        for _ in range(_DRAWS):
            question = random.choice(self._plan)
            if self._worked and question.working is None and offered(question):
                continue  # it would teach to guess what others teach to work out
            withheld = random.random() < self._withheld
            if not withheld and random.random() < self._labelled:
                return self._labels.answer(question, random)
            gold = without_answer(question, random) if withheld else question.gold
            noted = self._noting.read(question, gold, random)
            if noted.lines and (answer := target(question, noted.lines, noted.found, withheld=withheld)):
                return Turn(answer_prompt(question.question, noted.lines, ()), ANSWER_OPENING, f"{answer}{ANSWER_STOP}")
        raise InputError(f"{_DRAWS} questions gave no notes to answer from: the tagger finds no evidence in the data")


def _block_of(
    questions: Sequence[Question],
    embedder: str,
    tagger: Path | None,
    device: str,
    seed: int,
    withheld: float,
    labelled: float,
) -> Callable[[int], list[Turn]]:
    """Return what draws a block in a process that makes notes."""
    reading = Embedder(embedder, device=device, tagger=tagger)
    return NotedLessons(questions, reading, seed, withheld=withheld, labelled=labelled)._block


def target(question: Question, notes: Sequence[str], found: int, *, withheld: bool = False) -> str | None:
    """Return what ``question`` should be answered from ``notes``; ``None``: they leave it open.

    Args:
        found: gold paragraphs of whose evidence something is noted. An answer that the question itself offers, or yes
            or no, follows from all of them: from one of two dates it would be a guess.
        withheld: whether what says the answer was taken out of what the notes are from.
    """
    named = names_answer(question, " ".join((question.question, *notes)))
    if withheld:
        return None if named else UNKNOWN  # a note that names it may say it all the same
    if not found:
        # Without evidence even an answer that a note happens to name is a guess.
        return UNKNOWN
    given = offered(question)
    if given and found < len({paragraph.text for paragraph in question.gold}):
        return None
    return worked_answer(question) if named or given else None


def offered(question: Question) -> bool:
    """Whether the question itself names its answer, or asks for yes or no."""
    return question.answers[0].lower() in ("yes", "no") or names_answer(question, question.question)
