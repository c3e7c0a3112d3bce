"""One answer of two readers: what the reasoner writes and what the extractor finds, as likely as both find it.

A decoder and an extractive encoder are wrong in different places, so that together they are right more often than two
of a kind (R2-D2: Fajcik et al., arXiv 2109.03502, which scores the spans of the one with the other too). That the notes
do not say it is one of the answers, so what is declined is decided by both.
"""

from collections.abc import Callable, Sequence

from .extraction import Extraction
from .prompts import UNKNOWN


def likeliest(
    written: str,
    extraction: Extraction,
    log_probs: Callable[[Sequence[str]], Sequence[float]],
    weight: float,
    decline_bias: float,
) -> str:
    """Return which of the answer that is ``written`` and the spans both readers together find likeliest.

    Args:
        written: by the reasoner; empty where it declines.
        log_probs: of answers, by the reasoner.
        weight: of the extractor's log p beside the reasoner's, which counts once.
        decline_bias: nats by which declining is favoured.

    Returns:
        The answer; empty where the likeliest is that the notes do not say it.
    """
    answers = list(dict.fromkeys(answer for answer in (written, *(said for said, _ in extraction.spans)) if answer))
    if not answers:
        return ""
    *told, declining = log_probs([*answers, UNKNOWN])
    joint = [
        by_writing + weight * extraction.log_prob(answer) for answer, by_writing in zip(answers, told, strict=True)
    ]
    best = max(range(len(answers)), key=joint.__getitem__)
    return answers[best] if joint[best] >= declining + decline_bias + weight * extraction.unsaid else ""
