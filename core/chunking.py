"""Cuts text into token windows that end where sentences and paragraphs do. No character is lost or repeated."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

# Where a window may end, best first; each pattern's match ends on the cut.
_BREAKS = (
    re.compile(r"\n[ \t\r]*\n\s*"),
    re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]\s*|\n"),
    re.compile(r"\s+"),
)


class Span(NamedTuple):
    """A half-open range of characters of one document."""

    start: int
    end: int


def chunk_id(namespace: str, text: str) -> str:
    """Name a chunk by its content and namespace, 32 hex digits: the same text is stored once, never across walls."""
    return hashlib.sha256(f"{len(namespace)}:{namespace}{text}".encode()).hexdigest()[:32]


def token_ends(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the character at which each token of ``text`` ends, nothing in it taken as a control token."""
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    return [end for _, end in encoded["offset_mapping"]]


def split_text(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Iterator[Span]:
    """Yield spans of at most ``max_tokens`` tokens that together are exactly ``text``.

    A window ends at the last paragraph end in its second half, else at the last sentence or line
    end there, else between words, else between tokens. Text is tokenized a window at a time, so
    memory does not grow with its length.
    """
    start = 0
    while start < len(text):
        end = _window_end(text, start, tokenizer, max_tokens)
        yield Span(start, end)
        start = end


def _window_end(text: str, start: int, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> int:
    reach = max_tokens * 6
    while True:
        ends = token_ends(text[start : start + reach], tokenizer)
        if start + reach >= len(text) or len(ends) > max_tokens:
            break
        reach *= 2  # long tokens, such as runs of blanks: look further
    if len(ends) <= max_tokens:
        return len(text)
    limit = start + max(1, ends[max_tokens - 1])
    end = _last_break(text, start, limit)
    # A cut can make tokens that the uncut text did not have; give ground until the window fits alone.
    while end > start + 1 and (over := len(token_ends(text[start:end], tokenizer)) - max_tokens) > 0:
        end = _last_break(text, start, end - over)
    return end


def _last_break(text: str, start: int, limit: int) -> int:
    half = start + (limit - start) // 2
    for pattern in _BREAKS:
        ends = [m.end() for m in pattern.finditer(text, half, limit) if m.end() > half]
        if ends:
            return ends[-1]
    return limit


_SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])[.!?…][\"'”’)\]]*\s+|[。！？]\s*|"  # an initial such as "J. Smith" ends none
    r"\n[ \t\r]*\n\s*|\n(?=[ \t]*(?:[-*•#]|\d+[.)])\s)"
)


def sentences(text: str) -> list[Span]:
    """Return the sentences of ``text`` as spans without the blanks around them, in order.

    A line end alone ends none, since text is often wrapped. A blank line does, and so does the start of a list item.
    """
    cuts = [0, *(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]
    spans = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if stripped := piece.strip():
            lead = start + len(piece) - len(piece.lstrip())
            spans.append(Span(lead, lead + len(stripped)))
    return spans
