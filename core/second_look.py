"""What an answer rests on, chosen when all is read: the sentences that bear on the question in the light of each other.

While chunks are read one by one, a sentence is judged by what was known then: the second of two hops is nothing when
it comes first. Before the answer the tagger of :mod:`core.evidence` reads what was opened again. The likeliest sentence
of all is noted, the others are judged anew with it known, and so on (greedy, as multi-hop retrieval with a beam of one:
Xiong et al., arXiv 2009.12756). ReMemR1 overwrites its memory whole at each step; this is the one step at which that
is worth its cost.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from .chunking import Span
from .embedder import Embedder
from .headings import behind_heading
from .similarity import raised

SENTENCES = 5
"""Most that an answer rests on."""
_LOOKS = 3
"""How often sentences are judged: two are found one by one, the others by the last look. More found no more."""
DOUBTFUL = 0.1
"""P(evidence) at which nothing more is taken."""
TOLD = 1.0
"""Nats by which a sentence is likelier that the reader told of."""
_AGAIN = 10_000
"""Characters that are judged again after each choice: those texts that hold the likeliest sentences."""


class Found(NamedTuple):
    """A sentence that an answer rests on."""

    text: int
    """Which of the texts it stands in."""
    span: Span
    odds: float
    """P(evidence), given the sentences that were found before it."""


def best_evidence(
    embedder: Embedder, question: str, texts: Sequence[str], told: Collection[tuple[int, Span]] = ()
) -> list[Found]:
    """Return up to five sentences of ``texts`` that bear on ``question`` together, in the order they are found.

    Args:
        embedder: with a tagger; without one nothing is found.
        told: sentences, each with the number of its text, that a reader told of.
    """
    found, said = list[Found](), list[str]()
    looked_at: Sequence[int] = range(len(texts))
    for looks in range(1, _LOOKS + 1):
        judged = sorted(
            (
                Found(row, span, raised(odds, TOLD) if (row, span) in told else odds)
                for row in looked_at
                for span, odds in embedder.evidence(question, said, texts[row]) or ()
            ),
            key=lambda sentence: -sentence.odds,
        )
        wanted = 1 if looks < _LOOKS else SENTENCES - len(found)
        for sentence in judged:
            line = behind_heading(texts[sentence.text], *sentence.span)
            if wanted and sentence.odds > DOUBTFUL and line not in said:
                found.append(sentence)
                said.append(line)
                wanted -= 1
        if len(found) < looks:
            break
        if looks == 1:
            looked_at = _worth_another_look(texts, judged)
    return found


def _worth_another_look(texts: Sequence[str], judged: Sequence[Found]) -> list[int]:
    """Return the texts with the likeliest sentences, as many as there is time for, in order."""
    best = {row: max(s.odds for s in judged if s.text == row) for row in {s.text for s in judged}}
    chosen, room = list[int](), _AGAIN
    for row in sorted(best, key=lambda row: -best[row]):
        if chosen and len(texts[row]) > room:
            break
        chosen.append(row)
        room -= len(texts[row])
    return sorted(chosen)
