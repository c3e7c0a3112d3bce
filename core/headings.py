"""Finds the heading over a place in a text: what a sentence is about often stands above it and not in it."""

import re

_CHARACTERS = 60
_MARKED_CHARACTERS = 120
"""Of a Markdown heading, which may be of any length; the rest of a longer one is left out."""
_MARK = re.compile(r"#{1,6}[ \t]+(?=\S)")
_RULE = re.compile(r"([=~^-])\1{2,}\s*")
_ITEM = re.compile(r"(?:[-*•>|]|\d+[.)])\s")
_WORD = re.compile(r"\w+")
_NO_HEADING_ENDS_IN = ".!?…:;,。！？"


def heading(text: str, place: int) -> str | None:
    """Return the nearest heading above character ``place`` of ``text``; ``None``: none stands there.

    A heading is a line of Markdown's kind; or a short line at the margin that ends like no sentence, below a blank line
    or first of all, with a blank line, a rule or a much longer line under it, as a title over its text.
    """
    lines = text[:place].split("\n")
    for row in range(len(lines) - 2, -1, -1):  # the last one is that of ``place`` itself
        line, after = lines[row].rstrip(), lines[row + 1]
        if row + 2 == len(lines):
            after += text[place:].split("\n", 1)[0]
        if mark := _MARK.match(line):
            return line[mark.end() :].strip("# \t")[:_MARKED_CHARACTERS]
        if not _could_be(line):
            continue
        apart = row == 0 or not lines[row - 1].strip()
        long = len(after) > max(_CHARACTERS, 2 * len(line))
        if apart and (long or not after.strip() or _RULE.fullmatch(after)):
            return line
    return None


def heading_of(text: str, start: int, end: int) -> str | None:
    """Return the heading of ``text[start:end]``: that which it begins with or is itself, else the nearest above."""
    line_end = text.find("\n", max(start, end - 1))
    return heading(text, line_end + 1 if line_end >= 0 else len(text))


def behind_heading(text: str, start: int, end: int) -> str:
    """Return ``text[start:end]``, blanks folded, behind its heading unless it names that itself."""
    return titled(heading_of(text, start, end), " ".join(text[start:end].split()))


def titled(heading: str | None, said: str) -> str:
    """Return ``said`` behind ``heading``, which tells whom or what it is about, unless it names that itself."""
    if not heading or set(_WORD.findall(heading.lower())) <= set(_WORD.findall(said.lower())):
        return said
    return f"{heading}: {said}"


def _could_be(line: str) -> bool:
    short = 0 < len(line) <= _CHARACTERS and not line[0].isspace()
    return short and any(c.isalpha() for c in line) and line[-1] not in _NO_HEADING_ENDS_IN and not _ITEM.match(line)
