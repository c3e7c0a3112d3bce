r"""Reads the answer out of ``\boxed{…}``, as the agents are asked to write it."""

_OPENING = "\\boxed{"


def boxed(reply: str) -> str:
    r"""Return what stands in the last ``\boxed{…}``, braces inside it matched; the whole reply where there is none.

    A box that the token limit cut off counts up to where it was cut.
    """
    start = reply.rfind(_OPENING)
    if start < 0:
        return reply.strip()
    inside, depth = reply[start + len(_OPENING) :], 1
    for place, character in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return inside[:place].strip()
    return inside.strip()
