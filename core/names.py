"""Finds the names in a text: what a note leads on to is seldom more than a name in it."""

import re
import unicodedata
from difflib import SequenceMatcher

_WORD = re.compile(r"[^\W_]+")
_LINK = re.compile(r"of|the|for|d[aeiou]|dos|del|della|des|l[ae]|van|von|de[rn]|zu|[ae]l|bin|ibn|y")
"""Words without a capital that stand within names."""
_SPELT_ALIKE = 0.75
"""Ratio of what two spellings share (Ratcliff and Obershelp) from which they are taken to be one name."""
_MOST_WORDS = 10
"""Of a name. What is longer is a line in capitals."""


def names(text: str) -> list[str]:
    """Return the names of two words or more in ``text``, each once, in order: words with capitals, side by side.

    One word alone is left out: it begins a sentence, or names a country or a month, far oftener than it leads anywhere.
    A script without capitals has no names.
    """
    runs: list[list[re.Match[str]]] = [[]]
    for word in _WORD.finditer(text):
        if runs[-1] and not _joined(runs[-1][-1], word):
            runs.append([])
        if word.group()[0].isupper() or (runs[-1] and _LINK.fullmatch(word.group())):
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    found = []
    for run in runs:
        while run and _LINK.fullmatch(run[-1].group()):
            run.pop()
        if 1 < sum(not _LINK.fullmatch(word.group()) for word in run) <= _MOST_WORDS:
            found.append(text[run[0].start() : run[-1].end()])
    return list(dict.fromkeys(found))


def folded(text: str) -> str:
    """Return the words of ``text`` with a blank around each, without case and accents: one name is written variously.

    One text stands in another, as whole words, where ``folded`` of it does.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return f" {' '.join(_WORD.findall(plain))} "


def nearest(name: str, text: str) -> str | None:
    """Return the words of ``text``, side by side, that are likeliest to be ``name`` spelt rightly; ``None``: none."""
    wanted, spelt, found = folded(name), list(_WORD.finditer(text)), dict[str, float]()
    compared = SequenceMatcher(None, b=wanted, autojunk=False)
    size = len(wanted.split())
    for count in range(max(1, size - 1), size + 2):
        for first, last in zip(spelt, spelt[count - 1 :], strict=False):
            words = text[first.start() : last.end()]
            compared.set_seq1(folded(words))
            found[words] = compared.ratio()
    best = max(found, key=found.__getitem__, default=None)
    return best if best is not None and found[best] >= _SPELT_ALIKE else None


def entitled(heading: str) -> str:
    """Return, folded, what ``heading`` names, without what tells it apart from others, as ``(actor)`` behind a name."""
    return folded(re.sub(r"\s*\([^()]*\)\s*$", "", heading))


def _joined(word: re.Match[str], following: re.Match[str]) -> bool:
    between = word.string[word.end() : following.start()]
    return between in {" ", "-", "'", "’"} or (len(word.group()) == 1 and between in {".", ". "})
