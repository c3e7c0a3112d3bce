"""One answer of two readers: what the reasoner writes and what the extractor finds, as likely as both find it.

A decoder and an extractive encoder are wrong in different places, so that together they are right more often than two
of a kind (R2-D2: Fajcik et al., arXiv 2109.03502, which scores the spans of the one with the other too). That the notes
do not say it is one of the answers, so what is declined is decided by both.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .extraction import Extraction
from .prompts import UNKNOWN


class Candidate(NamedTuple):
    """What may be answered."""

    text: str
    """:data:`core.prompts.UNKNOWN`: that the notes do not say it."""
    prior: float
    """Nats that count beside the reasoner's log p of it."""


def candidates(written: str, extraction: Extraction, weight: float, decline_bias: float) -> list[Candidate]:
    """Return what is ``written``, the spans that were extracted, and that the notes do not say it; or nothing.

    Args:
        written: by the reasoner; empty where it declines.
        weight: of the extractor's log p beside the reasoner's, which counts once.
        decline_bias: nats by which declining is favoured.

    Returns:
        Each answer once. Nothing where nothing is written or extracted.
    """
    answers = dict.fromkeys(answer for answer in (written, *(said for said, _ in extraction.spans)) if answer)
    if not answers:
        return []
    told = [Candidate(answer, weight * extraction.log_prob(answer)) for answer in answers]
    return [*told, Candidate(UNKNOWN, decline_bias + weight * extraction.unsaid)]


def likeliest(found: Sequence[Candidate], log_probs: Sequence[float]) -> str:
    """Return which of the candidates ``found`` both readers together find likeliest.

    Args:
        log_probs: of each, by the reasoner.

    Returns:
        The answer; empty where the likeliest is that the notes do not say it.
    """
    joint = [by_writing + candidate.prior for candidate, by_writing in zip(found, log_probs, strict=True)]
    best = found[max(range(len(found)), key=joint.__getitem__)].text
    return "" if best == UNKNOWN else best
