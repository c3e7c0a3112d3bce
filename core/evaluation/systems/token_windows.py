"""Cuts a text into windows of so many tokens, wherever they end: what the agents read at a time."""

from collections.abc import Sequence

from ...backbone import Backbone
from ...generation import Prompt

_SLACK = 32
"""Tokens that a text can gain when it is tokenized again inside a prompt."""


def windows(text: str, ends: Sequence[int], tokens: int) -> list[str]:
    """Return ``text`` in pieces of ``tokens`` tokens, the last one shorter.

    Args:
        ends: the character at which each token of ``text`` ends.
    """
    cuts = [*(ends[place - 1] for place in range(tokens, len(ends), tokens)), len(text)]
    return [text[start:end] for start, end in zip([0, *cuts], cuts, strict=False) if end > start]


def window_tokens(backbone: Backbone, wanted: int, empty: Prompt, budgets: int) -> int:
    """Return how many tokens of text a prompt can show: ``wanted``, or what a short context leaves.

    Args:
        empty: the prompt with no text and no memory.
        budgets: most tokens of the memories that the prompt shows beside the text.
    """
    taken = len(backbone.encode_chat(empty.system, empty.user, empty.prefill)) + budgets + empty.max_tokens + _SLACK
    return max(1, min(wanted, backbone.context_tokens - taken))
