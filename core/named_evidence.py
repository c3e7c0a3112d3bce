"""Judges sentences by the names that lead to them, beside the tagger of :mod:`core.evidence`.

A small transformer is weak at names, as embeddings are (Sciavolino et al., arXiv 2109.08535): of two directors either
may seem the one that a film's note names. Whether a sentence stands under a name, or holds it, is told by its letters.
"""

from collections.abc import Sequence

from .chunking import Span
from .headings import heading_of
from .names import entitled, folded, names
from .similarity import raised

HEADED, HELD, ASKED = 3.0, 2.0, 2.0
"""Nats that a sentence gains under a heading that a note names, if it holds a name that a note holds, and under a
heading that the question names. As logistic regressions on the tagger's logit gave them (docs/benchmarks.md, "Following
names")."""
OTHERWISE = -0.8
"""Nats that all under a heading lose where there are names: so as many are likelier than not as without them. Where
no heading stands none can be a name."""


def by_names(
    question: str, notes: Sequence[str], text: str, judged: Sequence[tuple[Span, float]]
) -> list[tuple[Span, float]]:
    """Return the sentences of ``text`` with P(evidence) as names change it.

    Names that the question says too are those of the question. Where neither it nor a note has a name nothing changes.

    Args:
        judged: sentences with P(evidence).
    """
    asked = folded(question)
    noted = {said for note in notes for name in names(note) if (said := folded(name)) not in asked}
    if not noted and not names(question):
        return list(judged)
    return [(span, raised(odds, _nats(text, span, asked, noted))) for span, odds in judged]


def _nats(text: str, span: Span, asked: str, noted: set[str]) -> float:
    heading = heading_of(text, *span)
    about, said = entitled(heading) if heading else "", folded(text[span.start : span.end])
    gained = OTHERWISE if about else 0.0
    if about in noted:
        gained += HEADED
    elif any(name in said for name in noted):
        gained += HELD
    if len(about.split()) > 1 and about in asked:
        gained += ASKED
    return gained
