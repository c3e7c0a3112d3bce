"""Lessons that answer from notes as they are made in use: wrong ones among them, right ones missing.

A reasoner that learned to answer from labelled evidence believes every note. Here the tagger of :mod:`core.evidence`
chooses sentences from a question's paragraphs and others as it does before an answer (:mod:`core.second_look`), and the
question is answered from those (learning on the states that the policy itself reaches: DAgger, Ross et al., arXiv
1011.0686). What the reasoner tells is drawn by lot, since reading every paragraph with it would take longer than
learning does. Where there is no evidence among the notes, the answer is :data:`core.prompts.UNKNOWN`; and where the
answer was withheld, which leaves notes that are near and do not say it (as the unanswerable questions of SQuAD 2.0 are,
arXiv 1806.03822, which people wrote).
"""

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from random import Random

from ..chunking import Span, sentences
from ..embedder import Embedder
from ..errors import InputError
from ..evaluation.withheld import names_answer, without_answer
from ..headings import behind_heading
from ..prompts import ANSWER_OPENING, ANSWER_STOP, UNKNOWN, answer_prompt
from ..questions import Paragraph, Question
from ..second_look import best_evidence
from .lessons import Lesson, Lessons, Turn, evidence, hops_oftener, usable_questions, worked_answer
from .negatives import Negatives

ANSWERS_IN_LESSON = 8
_NEGATIVES = (1, 2, 3)
"""Paragraphs without evidence that are read for a question."""
_MISSED = 0.08
"""Share of the gold paragraphs that the gate does not open."""
_ALL_MISSED = 0.12
"""Share of the questions of which it opens none."""
_TOLD, _TOLD_WRONGLY = 0.6, 0.05
"""Shares of the sentences that are evidence, and of the others, of which the reasoner tells."""
_TITLED = 0.8
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
        if embedder.tagger is None:
            raise InputError(
                f"there is no tagger for embedder {embedder.name!r} to make notes with: train one with --stage "
                "evidence and name it with --adapters, or leave --noted at 0"
            )
        usable = usable_questions(questions)
        self._plan = hops_oftener(usable)
        self._negatives = Negatives(usable)
        self._labels = Lessons(usable, ("raw",), seed)
        self._embedder, self._seed, self._withheld, self._labelled = embedder, seed, withheld, labelled
        self._worked = any(question.working for question in usable)
        self._blocks_ahead = 1 + processes
        self._ahead: Executor = ThreadPoolExecutor(1, "noted-lessons")
        self._draw = self._block
        if processes:
            # Forked ones could not use a GPU.
            spawn = multiprocessing.get_context("spawn")
            drawing = (
                tuple(questions),
                embedder.name,
                embedder.tagger,
                str(embedder.model.device),
                seed,
                withheld,
                labelled,
            )
            self._ahead, self._draw = ProcessPoolExecutor(processes, spawn, _begin_drawing, drawing), _draw_block
        self._drawn: dict[int, Future[list[Turn]]] = {}

    def at(self, index: int) -> Lesson:
        """Return lesson ``index``; any index from 0 on has one."""
        block, place = divmod(index, _ALIKE)
        ahead = range(block, block + 1 + self._blocks_ahead)
        for wanted in [number for number in self._drawn if number not in ahead]:
            self._drawn.pop(wanted).cancel()
        for wanted in ahead:  # the next ones are drawn while this one is learned from
            if wanted not in self._drawn:
                self._drawn[wanted] = self._ahead.submit(self._draw, wanted)
        turns = self._drawn[block].result()
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
            notes, found = self._notes(
                question, random, without_answer(question, random) if withheld else question.gold
            )
            if notes and (answer := target(question, notes, found, withheld=withheld)):
                return Turn(answer_prompt(question.question, notes, ()), ANSWER_OPENING, f"{answer}{ANSWER_STOP}")
        raise InputError(f"{_DRAWS} questions gave no notes to answer from: the tagger finds no evidence in the data")

    def _notes(self, question: Question, random: Random, gold: Sequence[Paragraph]) -> tuple[tuple[str, ...], int]:
        """Read for ``question``: what it is answered from, behind headings, and of how many gold paragraphs."""
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
        lines = [behind_heading(texts[s.text], *s.span) for s in found]
        return tuple(lines), len({s.text for s in found if says_it(s.text, _said(texts[s.text], s.span))})


_drawing: NotedLessons
"""In a process that makes notes: what it draws from."""


def _begin_drawing(
    questions: Sequence[Question],
    embedder: str,
    tagger: Path,
    device: str,
    seed: int,
    withheld: float,
    labelled: float,
) -> None:
    global _drawing
    # An interrupt is for the trainer, which ends this process when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reading = Embedder(embedder, device=device, tagger=tagger)
    _drawing = NotedLessons(questions, reading, seed, withheld=withheld, labelled=labelled)


def _draw_block(block: int) -> list[Turn]:
    return _drawing._block(block)


def _said(text: str, span: Span) -> str:
    return " ".join(text[span.start : span.end].split())


def _folded(question: Question, paragraph: Paragraph) -> list[str]:
    return [" ".join(sentence.split()) for sentence in evidence(question, paragraph)] if paragraph.support else []


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
