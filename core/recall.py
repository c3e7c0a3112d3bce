"""Answers a question from a memory bank: gate, reasoner, callback, in a loop. :meth:`Recall.ask` is the spine.

LycheeMemory reads what its gate opens, in one way through the documents, and loses a clue that it
passed before its meaning was known. ReMemR1 calls back to what it once knew, and reads everything.
Here the callback reaches both older notes and the chunks that the gate passed over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .errors import InputError, require_unicode
from .gate import Gate, Scan, Scored
from .memory_bank import MemoryBank
from .passage_index import StoredChunk
from .prompts import NOTHING_FOUND
from .reasoner import Reasoner, Update
from .settings import RecallSettings
from .usage import Stage, Usage
from .working_memory import Note, WorkingMemory, words

CITED = 0.5
"""P(evidence) above which a note is cited though it does not say the answer: it is likelier evidence than not."""
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Step:
    """One chunk that was read."""

    chunk: StoredChunk
    gate: float
    """P(open) when it was opened."""
    called_back: bool
    """Whether the scan had passed it over and a callback brought it back."""
    written: tuple[Note, ...]
    recalled: "Recalled"
    """What was looked for afterwards, and what came of it."""
    memory: WorkingMemory
    """As it was then."""


@dataclass(frozen=True)
class Recalled:
    """What a callback brought back, for the next step."""

    query: str | None = None
    """What was looked for: the reasoner's own query, or what it had just written; ``None``: nothing."""
    notes: tuple[Note, ...] = ()
    """Notes that had left working memory."""
    opened: tuple[StoredChunk, float] | None = None
    """A passed-over chunk and its P(open), to be read next."""


@dataclass(frozen=True)
class Answer:
    """An answer, where it came from, and how it was found."""

    text: str
    sources: tuple[Note, ...]
    """The evidence it rests on, best first; empty where nothing was found."""
    memory: WorkingMemory
    """What it was answered from."""
    steps: tuple[Step, ...]
    usage: Usage


@dataclass(frozen=True)
class Opened:
    """Event: a chunk was opened and is being read; a :class:`Step` follows."""

    chunk: StoredChunk
    gate: float
    called_back: bool


@dataclass(frozen=True)
class Written:
    """Event: a piece of the answer was written."""

    text: str


@dataclass(frozen=True)
class Began:
    """Event: a stage of the loop begins."""

    stage: Stage


@dataclass(frozen=True)
class Ended:
    """Event: the stage that began last is done; one that failed does not end."""

    stage: Stage
    seconds: float
    tokens_read: int
    slots_read: int
    tokens_written: int
    found: int
    """Chunks that the gate opened, notes that an update made, notes and chunks that a callback brought back; whether
    there is an answer."""


Event = Opened | Step | Written | Scored | Began | Ended
Listener = Callable[[Event], None]


class Recall:
    """Asks one bank, through one gate and one reasoner. Holds nothing between questions."""

    def __init__(self, bank: MemoryBank, gate: Gate, reasoner: Reasoner, settings: RecallSettings) -> None:
        self._bank, self.gate, self.reasoner, self.settings = bank, gate, reasoner, settings

    def ask(
        self,
        question: str,
        namespace: str,
        listener: Listener = lambda _: None,
        keep: Callable[[str, str], bool] | None = None,
    ) -> Answer:
        """Answer ``question`` from the documents of ``namespace``.

        Args:
            listener: sees what the gate gives every chunk, each chunk as it is opened, each step as it is done, the
                answer as it is written and where each stage begins and ends; what it raises ends the question.
            keep: which chunks there are to open; see :meth:`core.memory_bank.MemoryBank.index`.

        Raises:
            InputError: the question is empty, or too long for the model.
            UnknownNamespaceError: the bank has no such namespace.
        """
        check_question(question)
        usage, steps = Usage(), list[Step]()
        memory, recalled = WorkingMemory(), Recalled()
        scan = Scan(self._bank.index(namespace, keep), self.gate, self.settings, listener)

        while opened := recalled.opened or self._next_open(question, memory, scan, usage, listener):
            called_back = recalled.opened is not None
            listener(Opened(*opened, called_back))
            update = self._update(question, memory, opened, recalled, usage, listener)
            memory, recalled = update.memory, self._callback(question, update, scan, usage, listener)
            steps.append(Step(*opened, called_back, update.written, recalled, memory))
            listener(steps[-1])

        memory, text = self._answer(question, memory, steps, recalled, usage, listener)
        sources = best_sources(text, (*memory.notes, *recalled.notes)) if text else ()
        return Answer(text or NOTHING_FOUND, sources, memory, tuple(steps), usage)

    def _next_open(
        self, question: str, memory: WorkingMemory, scan: Scan, usage: Usage, listener: Listener
    ) -> tuple[StoredChunk, float] | None:
        return _staged(
            "gate", usage, listener, lambda: scan.next_open(question, memory), lambda found: found is not None
        )

    def _update(
        self,
        question: str,
        memory: WorkingMemory,
        opened: tuple[StoredChunk, float],
        recalled: Recalled,
        usage: Usage,
        listener: Listener,
    ) -> Update:
        def update() -> Update:
            return self.reasoner.update(question, memory, *opened, recalled.notes, usage)

        return _staged("update", usage, listener, update, lambda update: len(update.written))

    def _callback(self, question: str, update: Update, scan: Scan, usage: Usage, listener: Listener) -> Recalled:
        """Look back for what the reasoner asks for; where it asks for nothing, for what its new notes make relevant."""
        if not self.settings.callback or not (update.query or update.written):
            return Recalled()
        floor = self.settings.callback_threshold

        def look_back() -> Recalled:
            if update.query is None:
                written = " ".join(note.text for note in update.written)
                return Recalled(written, opened=scan.passed_over(question, update.memory, floor))
            note = update.memory.search_past(update.query, floor)
            opened = scan.passed_over(update.query, WorkingMemory(), floor)
            return Recalled(update.query, (note,) if note else (), opened)

        return _staged(
            "callback", usage, listener, look_back, lambda found: len(found.notes) + (found.opened is not None)
        )

    def _answer(
        self,
        question: str,
        memory: WorkingMemory,
        steps: Sequence[Step],
        recalled: Recalled,
        usage: Usage,
        listener: Listener,
    ) -> tuple[WorkingMemory, str]:
        def answer() -> tuple[WorkingMemory, str]:
            known = self.reasoner.look_again(question, memory, [(step.chunk, step.gate) for step in steps])
            if not known.notes and not recalled.notes:
                return known, ""  # a model asked to answer from nothing would invent something
            say = self.reasoner.answer
            return known, say(question, known, recalled.notes, usage, lambda piece: listener(Written(piece)))

        return _staged("answer", usage, listener, answer, lambda known: bool(known[1]))


def _staged(
    stage: Stage, usage: Usage, listener: Listener, work: Callable[[], _Result], found: Callable[[_Result], int]
) -> _Result:
    """Do the ``work`` of a stage, timed, and tell when it begins and what it came to."""
    listener(Began(stage))
    seconds = usage.seconds.get(stage, 0.0)
    read, slots, written = usage.tokens_read, usage.slots_read, usage.tokens_written
    with usage.timed(stage):
        result = work()
    listener(
        Ended(
            stage,
            usage.seconds[stage] - seconds,
            usage.tokens_read - read,
            usage.slots_read - slots,
            usage.tokens_written - written,
            int(found(result)),
        )
    )
    return result


def check_question(question: str) -> None:
    """Refuse a question that has no words, or that no encoding can hold.

    Raises:
        InputError: naming the question.
    """
    if not words(question):
        raise InputError(f"the question is {question!r}: ask something with words in it")
    require_unicode(question, "the question")


def best_sources(answer: str, notes: tuple[Note, ...]) -> tuple[Note, ...]:
    """Order ``notes`` by how much of ``answer`` each says, later ones last; each span once.

    Those that the tagger doubts are left out unless they say the whole answer, or nothing else is there.
    """
    said = set(words(answer))
    once = tuple({(note.document_id, note.span): note for note in notes}.values())
    sure = [n for n in once if n.odds is None or n.odds > CITED or said <= set(words(n.line))] or once[:1]
    return tuple(sorted(sure, key=lambda note: -len(said & set(words(note.text)))))
