"""What the working before an answer comes to: which of two comes first or last, and whether two are the same.

It is computed, as a program's result would be (PAL: Gao et al., arXiv 2211.10435): a small model that has learned from
thousands of comparisons copies the facts rightly and still draws the conclusion by chance.
"""

import re

from .names import folded, nearest

FIRST, LAST = "first", "last"
"""Which of two is asked for, at the end of a working of two years: ``Anna: 1858; Jens: 1860; first``."""
_THROUGH = " -> "
_LINK = re.compile(rf"({_THROUGH}|: | - | by )")
"""What a reader writes between what is asked about and what it is known by."""
_YEAR = r"(?:[^;:]*\D)?"
"""Before a year: the rest of a date."""
# What the question asks for by its own words needs no third part, and none other stands in its way.
_COMPARED = re.compile(
    rf"(?P<one>[^;]+): {_YEAR}(?P<year>\d{{1,4}}); "
    rf"(?P<other>.+?): {_YEAR}(?P<other_year>\d{{1,4}})(?:; (?:(?P<wanted>{FIRST}|{LAST})|.*))?"
)
_ALIKE = re.compile(r"[^;]+: (?P<one>[^;:]+); .+: (?P<other>[^;:]+)")
_SAME = re.compile(r"\bsame\b")
# Names have capitals, so that those of a question are not among these.
_EARLIER = re.compile(r"\b(?:first|earlier|earliest|older|oldest|elder|eldest|before)\b")
_LATER = re.compile(r"\b(?:last|later|latest|younger|youngest|newer|newest|recent|recently|after)\b")


def through(name: str, other: str) -> str:
    """Return how a working says that of ``name`` something is known by way of ``other``, such as its director."""
    return f"{name}{_THROUGH}{other}"


def worked_out(working: str, said: str, question: str) -> str:
    """Return what ``working`` comes to; where it is no comparison, what the reader ``said`` after it.

    Args:
        question: tells by its words whether two are to be the same, or which of two is asked for, and how they are
            called.
    """
    alike, compared = _ALIKE.fullmatch(working.strip()), _COMPARED.fullmatch(working.strip())
    if said.strip(" .\n").lower() in {"yes", "no"}:
        if alike is None or not _SAME.search(question):
            return said
        return "yes" if folded(alike["one"]) == folded(alike["other"]) else "no"
    if compared is None or int(compared["year"]) == int(compared["other_year"]):
        return said
    earlier = int(compared["year"]) < int(compared["other_year"])
    wanted = _wanted(question) or compared["wanted"]
    if wanted is None:
        return said
    return _named(compared["one"] if earlier == (wanted == FIRST) else compared["other"], question)


def _wanted(question: str) -> str | None:
    """Return which of two the words of ``question`` ask for; ``None``: they do not say, or say both."""
    earlier, later = _EARLIER.search(question), _LATER.search(question)
    if bool(earlier) == bool(later):
        return None
    return FIRST if earlier else LAST


def _named(said: str, question: str) -> str:
    """Return the longest beginning of ``said`` that ``question`` names: what is known by way of another is the first of
    the two. Where it names none, the reader may have written it down wrongly: then what comes nearest."""
    parts = _LINK.split(said)
    begun = ["".join(parts[:end]).strip() for end in range(len(parts), 0, -2)]
    for name in begun:
        if folded(name) in folded(question):
            return name
    near = (nearest(name, question) for name in begun)
    return next(filter(None, near), said.split(_THROUGH)[0].strip())
