"""Finds the heading over a place in a text: what a sentence is about often stands above it and not in it."""

import re

_CHARACTERS = 60
_MARK = re.compile(r"#{1,6}[ \t]+(?=\S)")
_RULE = re.compile(r"([=~^-])\1{2,}\s*")
_ITEM = re.compile(r"(?:[-*•>|]|\d+[.)])\s")
_WORD = re.compile(r"\w+")
_NO_HEADING_ENDS_IN = ".!?…:;,。！？"


def heading(text: str, place: int) -> str | None:
    """Return the nearest heading above character ``place`` of ``text``; ``None``: none stands there.

    A heading is a line of Markdown's kind; or a short line at the margin that ends like no sentence, between blank
    lines or with a rule under it; or the first line, where what follows is longer, as a title over its text.
    """
    lines = text[:place].split("\n")
    for row in range(len(lines) - 2, -1, -1):  # the last one is that of ``place`` itself
        line, after = lines[row].rstrip(), lines[row + 1]
        if row + 2 == len(lines):
            after += text[place:].split("\n", 1)[0]
        if mark := _MARK.match(line):
            return line[mark.end() :].strip("# \t")
        if not _could_be(line):
            continue
        apart = row == 0 or not lines[row - 1].strip()
        if apart and (not after.strip() or _RULE.fullmatch(after)):
            return line
        if row == 0 and len(after) > max(_CHARACTERS, 2 * len(line)):
            return line
    return None


def under_heading(text: str, start: int, end: int) -> str:
    """Return ``text[start:end]`` with its heading before it, blanks folded."""
    said, over = " ".join(text[start:end].split()), heading(text, start)
    return f"{over}: {said}" if over else said


def titled(heading: str | None, said: str) -> str:
    """Return ``said`` behind ``heading``, which tells whom or what it is about, unless it names that itself."""
    if not heading or set(_WORD.findall(heading.lower())) <= set(_WORD.findall(said.lower())):
        return said
    return f"{heading}: {said}"


def _could_be(line: str) -> bool:
    short = 0 < len(line) <= _CHARACTERS and not line[0].isspace()
    return short and any(c.isalpha() for c in line) and line[-1] not in _NO_HEADING_ENDS_IN and not _ITEM.match(line)
