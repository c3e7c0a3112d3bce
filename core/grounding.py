"""Whether an answer keeps to what it was answered from: a small model that does not find it there invents one.

The words of a few-word answer stand in the notes or in the question, unless it was made up or misspelt; then it has no
source, however surely it is said (faithfulness to the evidence: Maynez et al., arXiv 2005.00661, whose "extrinsic"
hallucinations these are).
"""

from collections.abc import Sequence

from .names import folded

JUDGED_WORDS = 3
"""First words of an answer, which are judged: so it can be shown while it is written."""
_FREE = frozenset({"yes", "no", "a", "an", "the"})
"""What need not be read anywhere."""
_STEM, _ENDING = 4, 3
"""Letters that two forms of a word share, at least, and that one has more than the other, at most."""


def is_grounded(answer: str, read: Sequence[str]) -> bool:
    """Return whether more than half of the first :data:`JUDGED_WORDS` words of ``answer`` are words of ``read``.

    Case and accents do not count, nor does an ending, as of a plural. In Chinese, say, a word may be part of another.
    Articles, *yes* and *no* need not be read anywhere; an answer without words is grounded.

    Args:
        read: question and notes that it was answered from.
    """
    judged = folded(answer).split()[:JUDGED_WORDS]
    return not judged or 2 * _known(judged, read) > len(judged)


def stays_grounded(begun: str, read: Sequence[str]) -> bool:
    """Return whether an answer that begins so is grounded however it goes on; its last word may be half a word."""
    return 2 * _known(folded(begun).split()[:-1][:JUDGED_WORDS], read) > JUDGED_WORDS


def _known(judged: Sequence[str], read: Sequence[str]) -> int:
    known = set(folded(" ".join(read)).split()) | _FREE
    return sum(word in known or any(_alike(word, other) for other in known) for word in judged)


def _alike(word: str, other: str) -> bool:
    if word.upper() == word.lower() and not word.isdecimal():
        return word in other  # a script without capitals may have no blanks between words either
    shorter, longer = sorted((word, other), key=len)
    return len(shorter) >= _STEM and len(longer) - len(shorter) <= _ENDING and longer.startswith(shorter)
