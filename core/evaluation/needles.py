"""Needle tasks as RULER defines them (Hsieh et al., arXiv 2404.06654, section 3), made from a seed.

Each needle is a document of one line among the pool's. RULER's own words are not used: keys and names
are drawn from the lists below.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ..questions import Paragraph, Question
from .haystack import generator

NEEDLES = 4
"""Keys of a multi-key task, values of a multi-value one."""
HOPS = 4
"""Assignments after the first in a chain of variables."""

# fmt: off
_ADJECTIVES = (
    "amber", "brisk", "calm", "dusty", "eager", "faint", "gentle", "hollow", "icy", "jolly", "keen", "lofty",
    "mellow", "narrow", "oaken", "pale", "quiet", "rusty", "sandy", "tidy", "upright", "vivid", "woolly", "young",
    "zesty", "bitter", "copper", "distant", "early", "frosty", "golden", "humble", "idle", "little", "marble",
    "noble",
)
_NOUNS = (
    "anchor", "basket", "candle", "dragon", "engine", "feather", "garden", "harbour", "island", "jacket", "kettle",
    "ladder", "mirror", "needle", "orchard", "pencil", "quarry", "ribbon", "saddle", "tunnel", "umbrella", "valley",
    "window", "yard", "bridge", "castle", "desert", "envelope", "forest", "glacier", "hammer", "insect", "lantern",
    "meadow",
)
# fmt: on


def single(name: str, random: np.random.Generator) -> Question:
    """One key with one value."""
    (key,), (value,) = _keys(random, 1), _numbers(random, 1)
    return _asked(name, "single", _which(key), (value,), [_needle(key, value, wanted=True)])


def multi_key(name: str, random: np.random.Generator) -> Question:
    """Several keys with a value each, of which one is asked for."""
    keys, values = _keys(random, NEEDLES), _numbers(random, NEEDLES)
    needles = [_needle(k, v, wanted=place == 0) for place, (k, v) in enumerate(zip(keys, values, strict=True))]
    return _asked(name, "multi-key", _which(keys[0]), (values[0],), needles)


def multi_value(name: str, random: np.random.Generator) -> Question:
    """One key with several values, which are all asked for."""
    (key,), values = _keys(random, 1), _numbers(random, NEEDLES)
    question = f"What are all the secret numbers of the {key}?"
    return _asked(name, "multi-value", question, values, [_needle(key, v, wanted=True) for v in values], every=True)


def variable_tracking(name: str, random: np.random.Generator) -> Question:
    """A value that is handed from variable to variable; all that hold it are asked for."""
    letters = random.permutation(26 * 26 * 26)[: HOPS + 1]
    variables = tuple("".join(chr(65 + int(code) // 26**place % 26) for place in range(3)) for code in letters)
    (value,) = _numbers(random, 1)
    lines = [f"VAR {variables[0]} = {value}."]
    lines += [f"VAR {later} = VAR {earlier}." for earlier, later in pairwise(variables)]
    needles = [Paragraph(title="", sentences=(line,), support=(0,)) for line in lines]
    question = f"Which variables hold the value {value}, directly or from another variable? Name all of them."
    return _asked(name, "variable-tracking", question, variables, needles, every=True, ordered=True)


KINDS: dict[str, Callable[[str, np.random.Generator], Question]] = {
    "single": single,
    "multi-key": multi_key,
    "multi-value": multi_value,
    "variable-tracking": variable_tracking,
}
"""By the word after ``--needles``."""


def needle_questions(kind: str, count: int, seed: int = 0) -> list[Question]:
    """Make ``count`` questions of one kind; the same from the same seed, in any process."""
    names = [f"{kind}-{seed}-{number}" for number in range(count)]
    return [KINDS[kind](name, generator(seed, "needles", name)) for name in names]


def _needle(key: str, value: str, *, wanted: bool) -> Paragraph:
    return Paragraph(title="", sentences=(f"A secret number of the {key} is {value}.",), support=(0,) if wanted else ())


def _which(key: str) -> str:
    return f"What is the secret number of the {key}?"


def _asked(
    name: str,
    kind: str,
    question: str,
    answers: tuple[str, ...],
    needles: list[Paragraph],
    *,
    every: bool = False,
    ordered: bool = False,
) -> Question:
    return Question(
        id=name,
        dataset="needles",
        question=question,
        answers=answers,
        paragraphs=tuple(needles),
        type=kind,
        wanted="all" if every else "any",
        ordered=ordered,
    )


def _keys(random: np.random.Generator, count: int) -> tuple[str, ...]:
    codes = random.permutation(len(_ADJECTIVES) * len(_NOUNS))[:count]
    return tuple(f"{_ADJECTIVES[code % len(_ADJECTIVES)]} {_NOUNS[code // len(_ADJECTIVES)]}" for code in codes)


def _numbers(random: np.random.Generator, count: int) -> tuple[str, ...]:
    """Draw different numbers of seven digits."""
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        drawn[str(random.integers(1_000_000, 10_000_000))] = None
    return tuple(drawn)
