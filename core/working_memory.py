"""What the reasoner knows so far: notes that each name their source, and the notes that had to leave.

The papers rewrite the memory whole at every step, and lose a line whenever the model fails to copy
it. Here an update adds lines and the oldest leave when the budget is full, so that what is decoded
stays short and nothing is lost by copying; what left stays within the callback's reach.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .chunking import Span, sentences
from .headings import titled

_WORD = re.compile(r"\w+")

GROUNDED_SHARE = 0.5
"""A line is evidence from a chunk if this share of its words, by weight, stands in one of its sentences."""


def words(text: str) -> list[str]:
    """Return the words of ``text`` in lower case, as callbacks and rewards compare them."""
    return [word.lower() for word in _WORD.findall(text)]


def word_recall(wanted: str, found: str) -> float:
    """Return the share of the words of ``wanted`` that stand in ``found`` (ReMemR1, section 3.2): whole words only."""
    asked = set(words(wanted))
    return len(asked & set(words(found))) / len(asked) if asked else 0.0


def find_evidence(line: str, text: str) -> Span | None:
    """Return the sentence of ``text`` that ``line`` was taken from, or ``None`` if none holds enough of it.

    Where the text has ``line`` word for word, it is the sentence that the words begin in: trained reasoners quote so,
    and may run on into the next. Of several it is the shortest, then the first. Else a word counts for more the fewer
    sentences have it, so that names and numbers decide. A word that no sentence has counts for half as much as a rare
    one: small models wrap what they copy in their own.
    """
    spans = sentences(text)
    if quoted := find_quotations(line, text):
        return quoted[0]
    bags = [set(words(text[span.start : span.end])) for span in spans]
    frequency = Counter(word for bag in bags for word in bag)
    weights = {word: 1 / frequency[word] if frequency[word] else 0.5 for word in set(words(line))}
    if not weights or not spans:
        return None
    shares = [sum(weights[word] for word in weights.keys() & bag) for bag in bags]
    best = max(range(len(spans)), key=lambda i: (shares[i], -len(bags[i])))
    return spans[best] if shares[best] >= GROUNDED_SHARE * sum(weights.values()) else None


def find_quotations(line: str, text: str) -> list[Span]:
    """Return the sentences of ``text`` that hold ``line`` word for word, or in which it begins, shortest first."""
    spans = sentences(text)
    held = (_holder(spans, start) for start in _places(words(line), text))
    begun = {spans[row] for row in held if row is not None}
    return sorted(begun, key=lambda span: (len(set(words(text[span.start : span.end]))), span))


def _places(wanted: list[str], text: str) -> list[int]:
    """Return the characters at which the words of ``wanted`` stand in ``text`` side by side."""
    found = [(match.group().lower(), match.start()) for match in _WORD.finditer(text)]
    bare = [word for word, _ in found]
    starts = range(len(bare) - len(wanted) + 1) if wanted else ()
    return [found[i][1] for i in starts if bare[i : i + len(wanted)] == wanted]


def _holder(spans: list[Span], character: int) -> int | None:
    return next((i for i, span in enumerate(spans) if span.start <= character < span.end), None)


@dataclass(frozen=True)
class Note:
    """One line of working memory and where it came from."""

    text: str
    """The line as the reasoner reads it: blanks folded."""
    quote: str
    """The source text at ``span``, to the letter."""
    chunk_id: str
    document_id: str
    span: Span
    """Characters of the document that say it."""
    gate: float
    """P(open) of the chunk when it was opened."""
    heading: str | None = None
    """What stands over it in the chunk: often the one thing that says whom it is about."""
    told: bool = True
    """Whether the reasoner told of it; else only the tagger of evidence did."""
    odds: float | None = None
    """P(evidence) by the tagger when the answer was made; ``None``: it did not judge."""

    @property
    def line(self) -> str:
        """The text behind its heading, unless it names that itself."""
        return titled(self.heading, self.text)


@dataclass(frozen=True)
class WorkingMemory:
    """Notes in the order they were made, and those that left to make room."""

    notes: tuple[Note, ...] = ()
    past: tuple[Note, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(note.text for note in self.notes)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def updated(self, notes: Iterable[Note], fits: Callable[[str], bool]) -> "WorkingMemory":
        """Return the memory with ``notes`` added; the oldest leave until the text ``fits`` its budget."""
        held = {(note.text, note.document_id, note.span): note for note in (*self.notes, *notes)}
        kept, left = list(held.values()), list(self.past)
        while kept and not fits("\n".join(note.text for note in kept)):
            left.append(kept.pop(0))
        return WorkingMemory(tuple(kept), tuple(left))

    def chosen(self, notes: Iterable[Note], fits: Callable[[str], bool]) -> "WorkingMemory":
        """Return the memory with nothing but ``notes``, the first of which matter most, as far as they fit.

        What is held now and not among them leaves.
        """
        kept = list[Note]()
        for note in notes:
            if fits("\n".join(held.line for held in (*kept, note))):
                kept.append(note)
        places = {(note.document_id, note.span) for note in kept}
        left = (note for note in self.notes if (note.document_id, note.span) not in places)
        return WorkingMemory(tuple(kept), (*self.past, *left))

    def search_past(self, query: str, floor: float) -> Note | None:
        """Return the note that left and holds most of the words of ``query``, the latest of equals.

        The notes still held are in the prompt already, so they are not searched. Below ``floor``
        nothing is returned: what hardly matches would only mislead.
        """
        ranked = max(
            ((word_recall(query, note.text), order, note) for order, note in enumerate(self.past)), default=None
        )
        return ranked[2] if ranked and ranked[0] >= max(floor, 1e-9) else None
