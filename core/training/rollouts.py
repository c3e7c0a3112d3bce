"""Trajectories to learn from, sampled through the inference code itself: :meth:`core.recall.Recall.ask`.

There is no second decode loop: gate, reasoner, callback and answer are those of use. All that is
added is a record of what each turn was shown and what it wrote.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from ..backbone import Backbone
from ..compressor import Compressor
from ..embedder import Embedder
from ..gate import SimilarityGate
from ..generation import Generator, Prompt, Scorer
from ..ingest import Document, Ingest
from ..memory_bank import Fingerprint, MemoryBank
from ..naming_gate import NamingGate
from ..passage_index import StoredChunk
from ..prompts import ANSWER_OPENING, UNKNOWN, is_deduced, parse_answer
from ..questions import Question
from ..reader_fusion import Candidate
from ..reasoner import Reasoner, Update
from ..recall import Answer, Recall, Recalled
from ..settings import DEFAULT_NAMESPACE, CompressionSettings, Form, Placement, Ratio, RecallSettings, replaced
from ..usage import Usage
from ..working_memory import Note, WorkingMemory
from .lockstep import Exchange, Seat, in_lockstep
from .settings import Sampled


@dataclass(frozen=True)
class Task:
    """A question, the haystack it is asked over, and how that is read."""

    question: Question
    documents: tuple[Document, ...]
    form: Form
    ratio: Ratio
    seed: str
    """Of the samples; each rollout adds its number."""
    absent: bool = False
    """Whether none of ``documents`` says the answer."""

    @property
    def gold(self) -> tuple[str, ...]:
        """What is right to answer; empty: nothing is."""
        return () if self.absent else self.question.answers


@dataclass(frozen=True)
class SampledTurn:
    """One reply of a rollout, with what is needed to reward it and to learn from it."""

    prompt: tuple[int, ...]
    written: tuple[int, ...]
    log_probs: tuple[float, ...]
    """log p of each token written, by the policy that wrote it; empty where it was greedy."""
    text: str
    """The whole reply."""
    chunk: str | None
    """Text of the chunk that was open; ``None``: the final answer, with nothing open."""
    before: str
    """Working memory that the turn was shown."""
    after: str
    """Working memory that the turn left."""
    recalled: str
    """What the turn's callback brought back: notes, and the text of a chunk that was passed over."""


@dataclass(frozen=True)
class Trajectory:
    """One rollout: a turn for each chunk read, then the answer, if there was anything to answer from."""

    turns: tuple[SampledTurn, ...]
    answer: str
    """Empty where nothing was found."""


@dataclass(frozen=True)
class Choice:
    """What a question may be answered with."""

    prompt: Prompt
    replies: tuple[str, ...]
    """What may be written, after the prompt's prefill."""
    answers: tuple[str, ...]
    """What each comes to; empty: that nothing says it."""
    log_probs: tuple[float, ...]
    """log p of each by the policy that answered."""
    deduced: bool = False
    """Whether the first was answered without a choice, because it is deduced rather than said."""


@dataclass(frozen=True)
class Chosen:
    """A greedy answer."""

    answer: str
    """Empty where nothing was found."""
    choice: Choice | None
    """``None`` where there was nothing to choose from."""


class Rollouts:
    """Asks questions over haystacks of their own, many times at once."""

    def __init__(
        self,
        backbone: Backbone,
        compressor: Compressor,
        embedder: Embedder,
        recall: RecallSettings,
        *,
        placement: Placement,
        at_once: int,
    ) -> None:
        """
        Args:
            compressor: encodes haystacks of the compressed form, with its parameters as they are.
            recall: how questions are answered; the form is the task's.
            at_once: most rollouts in one batch.
        """
        self._backbone, self._compressor, self._embedder = backbone, compressor, embedder
        self._recall, self._placement, self._at_once = recall, placement, at_once
        self._tokenizer = copy.deepcopy(backbone.tokenizer)

    def sample(
        self, tasks: Sequence[Task], count: int, temperature: float, sampled: Sampled = "all"
    ) -> list[tuple[Trajectory, ...]]:
        """Return ``count`` trajectories of each task: the same for the same seeds, whatever else is sampled.

        Args:
            temperature: 0 takes the likeliest token.
            sampled: ``answers`` writes updates greedily, so that those of a task are the same, and done once.
        """
        together = max(1, self._at_once // count)
        alike = 1 if sampled == "all" else count

        def heat(prompt: Prompt) -> float:
            return temperature if sampled == "all" or prompt.prefill == ANSWER_OPENING else 0.0

        with self._backbone.merged():
            return [
                group
                for first in range(0, len(tasks), together)
                for group in self._sampled(tasks[first : first + together], count, alike, heat)
            ]

    def choose(self, tasks: Sequence[Task]) -> list[Chosen]:
        """Answer each of ``tasks`` greedily, as two readers do where the embedder has an extractor."""
        with self._backbone.merged():
            return [
                chosen
                for first in range(0, len(tasks), self._at_once)
                for chosen in self._chosen(tasks[first : first + self._at_once])
            ]

    def _chosen(self, tasks: Sequence[Task]) -> list[Chosen]:
        with _closed_in_the_end([self._bank(task) for task in tasks]) as banks:
            return in_lockstep(
                Generator(self._backbone),
                [partial(self._choice, task, bank) for task, bank in zip(tasks, banks, strict=True)],
                lambda _: 0.0,
                [[random_source(task.seed)] for task in tasks],
            )

    def _choice(self, task: Task, bank: MemoryBank, seat: Seat) -> Chosen:
        reasoner, _ = self._asked(task, bank, seat)
        return Chosen(reasoner.answered, reasoner.choice)

    def _sampled(
        self, tasks: Sequence[Task], count: int, alike: int, temperature: Callable[[Prompt], float]
    ) -> Iterator[tuple[Trajectory, ...]]:
        """Yield ``count`` rollouts of each task; each ``alike`` of them are one up to the answer."""
        with _closed_in_the_end([self._bank(task) for task in tasks]) as banks:
            asked = [(task, bank, n) for task, bank in zip(tasks, banks, strict=True) for n in range(0, count, alike)]
            done = in_lockstep(
                Generator(self._backbone),
                [partial(self._rollouts, task, bank, alike) for task, bank, _ in asked],
                temperature,
                [[random_source(f"{task.seed}:{n + m}") for m in range(alike)] for task, _, n in asked],
            )
        every = [rollout for rollouts in done for rollout in rollouts]
        for first in range(0, len(every), count):
            yield tuple(every[first : first + count])

    def _bank(self, task: Task) -> MemoryBank:
        compression = CompressionSettings(ratio=task.ratio, placement=self._placement, encode=task.form == "compressed")
        self._compressor.settings = compression
        made_by = Fingerprint(
            model=self._backbone.name, weights="training", embedder=self._embedder.name, **compression.model_dump()
        )
        bank = MemoryBank(made_by)
        Ingest(bank, self._compressor, self._embedder, DEFAULT_NAMESPACE, self._tokenizer).run(task.documents)
        return bank

    def _rollouts(self, task: Task, bank: MemoryBank, count: int, seat: Seat) -> list[Trajectory]:
        """Return ``count`` rollouts, which differ in their answer at most."""
        reasoner, answer = self._asked(task, bank, seat)
        turns = [
            self._turn(exchange, bank.text(step.chunk.chunk_id), before, after, _brought_back(step.recalled, bank))
            for (exchange, before, after), step in zip(reasoner.updates, answer.steps, strict=True)
            if exchange is not None
        ]
        known = answer.memory.text
        if len(seat.said) == len(turns):  # there was nothing to answer from
            return [Trajectory(tuple(turns), "")] * count
        (exchange,) = seat.said[len(turns) :]
        answers = [self._turn(exchange, None, known, known, "", sample) for sample in range(len(exchange.replies))]
        rollouts = [Trajectory((*turns, said), parse_answer(said.text, task.question.question)) for said in answers]
        return rollouts * (count // len(rollouts))

    def _asked(self, task: Task, bank: MemoryBank, seat: Seat) -> tuple["_WatchedReasoner", Answer]:
        settings = replaced(self._recall, form=task.form)
        reasoner = _WatchedReasoner(seat, bank, self._embedder, settings, task.form)
        gate = NamingGate(SimilarityGate(self._embedder, settings.candidates), self._embedder, bank.text)
        return reasoner, Recall(bank, gate, reasoner, settings).ask(task.question.question, DEFAULT_NAMESPACE)

    def _turn(
        self, exchange: Exchange, chunk: str | None, before: str, after: str, recalled: str, sample: int = 0
    ) -> SampledTurn:
        prompt, reply = exchange.prompt, exchange.replies[sample]
        read = tuple(self._backbone.encode_chat(prompt.system, prompt.user, prompt.prefill))
        return SampledTurn(read, reply.token_ids, reply.log_probs, reply.text, chunk, before, after, recalled)


class _WatchedReasoner(Reasoner):
    """The reasoner, with a record of each update: what was said, and the memory before and after; and of the answer.

    Nothing is said about a chunk that the tagger rules out.
    """

    def __init__(self, seat: Seat, bank: MemoryBank, embedder: Embedder, settings: RecallSettings, form: Form) -> None:
        super().__init__(seat, bank, embedder, settings, form)
        self._seat = seat
        self.updates: list[tuple[Exchange | None, str, str]] = []
        self.answered = ""
        self.choice: Choice | None = None

    def update(
        self,
        question: str,
        memory: WorkingMemory,
        chunk: StoredChunk,
        gate: float,
        recalled: Sequence[Note],
        usage: Usage,
    ) -> Update:
        said = len(self._seat.said)
        update = super().update(question, memory, chunk, gate, recalled, usage)
        exchange = self._seat.said[-1] if len(self._seat.said) > said else None
        self.updates.append((exchange, memory.text, update.memory.text))
        return update

    def answer(
        self,
        question: str,
        memory: WorkingMemory,
        recalled: Sequence[Note],
        usage: Usage,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        said = len(self._seat.said)
        self.answered = super().answer(question, memory, recalled, usage, on_text)
        if self._embedder.extractor is not None and len(self._seat.said) > said:
            prompt, (reply, *_) = self._seat.said[-1]
            if is_deduced(reply.text) and reply.complete:
                lines = [note.line for note in (*memory.notes, *recalled)]
                self.choice = self._beside(prompt, reply.text, question, lines)
        return self.answered

    def _weighed(self, scorer: Scorer, prompt: Prompt, found: Sequence[Candidate], usage: Usage) -> list[float]:
        log_probs = super()._weighed(scorer, prompt, found, usage)
        replies = tuple(candidate.text for candidate in found)
        self.choice = Choice(prompt, replies, _answers(replies), tuple(log_probs))
        return log_probs

    def _beside(self, prompt: Prompt, written: str, question: str, lines: Sequence[str]) -> Choice:
        """Return the choice that was not made: what was deduced as it is ``written``, or what else there is to say."""
        said = written.removeprefix(prompt.prefill).split(prompt.stop)[0]
        others = [candidate.text for candidate in self._candidates(question, "", lines)] or [UNKNOWN]
        replies = (said, *(other for other in others if other != said))
        answers = (self.answered, *_answers(replies[1:]))
        return Choice(prompt, replies, answers, tuple(self._seat.log_probs(prompt, replies)), deduced=True)


def random_source(seed: str) -> torch.Generator:
    """Return a random source on the CPU that follows from the text of ``seed``, the same in every process."""
    digest = hashlib.sha256(seed.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _answers(replies: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if reply == UNKNOWN else reply for reply in replies)


def _brought_back(recalled: Recalled, bank: MemoryBank) -> str:
    texts = [note.text for note in recalled.notes]
    if recalled.opened is not None:
        texts.append(bank.text(recalled.opened[0].chunk_id))
    return "\n".join(texts)


@contextmanager
def _closed_in_the_end(banks: list[MemoryBank]) -> Iterator[list[MemoryBank]]:
    try:
        yield banks
    finally:
        for bank in banks:
            bank.close()
