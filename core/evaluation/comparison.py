"""Puts systems through the same questions, one record at a time, until all are there or the time is up."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..backbone import Backbone
from ..chunking import Span
from ..questions import Question
from .cost import Cost
from .haystack import Haystack, Pool, own_haystack, shared_haystack
from .metrics import gold_read, score_question, source_precision
from .peak_memory import PeakMemory, peak_memory
from .records import Record, Records
from .systems.system import Corpus, Outcome, System
from .withheld import Lacking


@dataclass(frozen=True)
class Task:
    """Questions of one file, and the pool that their distractors come from."""

    name: str
    questions: tuple[Question, ...]
    pool: Pool


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    tasks: tuple[Task, ...]
    documents: tuple[int, ...]
    systems: Mapping[str, System]
    seed: int = 0
    shared: bool = False
    gap: int | None = None
    lacking: Lacking = None

    @property
    def keys(self) -> set[tuple[str, str, int, str]]:
        """The records that will be there when all is done."""
        return {
            (task.name, system, documents, question.id)
            for task in self.tasks
            for system in self.systems
            for documents in self.documents
            for question in task.questions
        }


class Comparison:
    """One run of a plan. What is recorded already is not done again."""

    def __init__(
        self,
        plan: Plan,
        backbone: Backbone,
        records: Records,
        *,
        deadline: float | None = None,
        step: Callable[[Record], None] = lambda _: None,
    ) -> None:
        """
        Args:
            deadline: by ``time.monotonic()``; afterwards nothing new is begun.
            step: called after each record.
        """
        self._plan, self._backbone, self._records = plan, backbone, records
        self._deadline, self._step = deadline, step
        self._done = {record.key for record in records.all}

    def run(self) -> bool:
        """Answer what is not recorded yet; return whether all of it is done.

        With haystacks of their own, a question goes through every length and system before the next
        one begins, so that a run that is stopped has the same questions everywhere. A shared haystack
        is taken in by one system, and asked everything, before the next system.
        """
        work = self._shared() if self._plan.shared else self._own()
        for record in work:
            self._records.add(record)
            self._step(record)
        return self._plan.keys <= {record.key for record in self._records.all}

    def _own(self) -> Iterator[Record]:
        for task, question, documents in _question_major(self._plan):
            missing = [
                name for name in self._plan.systems if (task.name, name, documents, question.id) not in self._done
            ]
            if not missing or self._late():
                continue
            plan = self._plan
            haystack = own_haystack(question, task.pool, documents, seed=plan.seed, gap=plan.gap, lacking=plan.lacking)
            tokens = len(self._backbone.encode(haystack.text))
            for name in missing:
                if self._late():
                    return
                with peak_memory(self._backbone.device) as memory:
                    taken, outcome, failed = _attempt(self._plan.systems[name], haystack, question)
                cell = _Cell(task.name, name, haystack, tokens)
                yield cell.record(question, outcome, taken, memory, failed)

    def _shared(self) -> Iterator[Record]:
        for task in self._plan.tasks:
            for documents in self._plan.documents:
                haystack = shared_haystack(task.questions, task.pool, documents, seed=self._plan.seed)
                tokens = len(self._backbone.encode(haystack.text))
                for name, system in self._plan.systems.items():
                    asked = [q for q in task.questions if (task.name, name, documents, q.id) not in self._done]
                    if asked and not self._late():
                        yield from self._asked(_Cell(task.name, name, haystack, tokens), system, asked)

    def _asked(self, cell: "_Cell", system: System, questions: Sequence[Question]) -> Iterator[Record]:
        corpus = system.take_in(cell.haystack.documents)
        try:
            for question in questions:
                if self._late():
                    return
                with peak_memory(self._backbone.device) as memory:
                    outcome, failed = _answer(corpus, question)
                yield cell.record(question, outcome, corpus.cost, memory, failed)
        finally:
            corpus.close()

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline


@dataclass(frozen=True)
class _Cell:
    """A system and a haystack."""

    data: str
    system: str
    haystack: Haystack
    tokens: int

    def record(
        self, question: Question, outcome: Outcome, taken: Cost, memory: PeakMemory, failed: str | None
    ) -> Record:
        supporting = self.haystack.supporting[question.id]
        extents = {d.document_id: Span(0, len(d.text)) for d in self.haystack.documents}
        return Record(
            data=self.data,
            system=self.system,
            documents=len(self.haystack.documents),
            tokens=self.tokens,
            question_id=question.id,
            question=question.question,
            answers=question.answers,
            prediction=outcome.prediction,
            scores=score_question(outcome.prediction, question),
            cited=len(outcome.cited),
            source_precision=source_precision(outcome.cited, supporting, extents),
            gold_read=None if outcome.read is None or not supporting else gold_read(outcome.read, supporting),
            taking_in=taken,
            asking=outcome.cost,
            start_bytes=memory.start_bytes,
            peak_bytes=memory.peak_bytes,
            failed=failed,
        )


def _question_major(plan: Plan) -> Iterator[tuple[Task, Question, int]]:
    for place in range(max((len(task.questions) for task in plan.tasks), default=0)):
        for task in plan.tasks:
            for question in task.questions[place : place + 1]:
                for documents in plan.documents:
                    yield task, question, documents


def _attempt(system: System, haystack: Haystack, question: Question) -> tuple[Cost, Outcome, str | None]:
    try:
        corpus = system.take_in(haystack.documents)
    except torch.OutOfMemoryError:
        return Cost(), Outcome("", Cost(), read=()), "out of memory taking the text in"
    try:
        return corpus.cost, *_answer(corpus, question)
    finally:
        corpus.close()


def _answer(corpus: Corpus, question: Question) -> tuple[Outcome, str | None]:
    """Ask. Running out of the GPU's memory is a result, as the papers report it; any other error ends the run."""
    try:
        return corpus.ask(question.question), None
    except torch.OutOfMemoryError:
        return Outcome("", Cost(), read=()), "out of memory"
