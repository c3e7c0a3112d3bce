"""How answers, sources and retrieval are scored.

Two habits of released scorers are left out, because both flatter: an empty output is not dropped but
scores 0, and containment counts in one direction only, the gold answer inside the prediction.
"""

import re
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..chunking import Span
from ..questions import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = frozenset({"yes", "no", "noanswer"})
"""Answers of which a part is worth nothing (the scorer of HotpotQA)."""
_NO_ANSWERS = frozenset({"", "none", "nothing", "unknown", "noanswer", "na", "unanswerable"})
_NO_ANSWER = re.compile(
    r"\b(no answer|no information|dont know|do not know|cannot (be )?(answer|determin)|(is|are|was|were) not "
    r"(mentioned|stated|given|provided|specified|found)|does not (mention|state|say|provide|specify)|unanswerable)"
)
HELD_SHARE = 0.5
"""A cited span holds a sentence if it covers this share of its characters: sentences are not cut alike everywhere."""


@dataclass(frozen=True)
class AnswerScores:
    """One prediction against the gold answers, each the maximum over them, from 0 to 1."""

    exact_match: float
    f1: float
    sub_exact_match: float


def score_answer(prediction: str, answers: Sequence[str]) -> AnswerScores:
    """Score ``prediction`` against the gold answer and its aliases."""
    return AnswerScores(
        *(max(score(prediction, answer) for answer in answers) for score in (exact_match, f1, sub_exact_match))
    )


def score_question(prediction: str, question: Question) -> AnswerScores:
    """Score ``prediction`` as ``question`` wants its answers.

    Where all answers are wanted, sub-EM is the share of them that the prediction holds (RULER, arXiv
    2404.06654, ``string_match_all``), and the others compare with the answers one after the other.
    """
    if question.wanted == "any":
        return score_answer(prediction, question.answers)
    joined = " ".join(question.answers)
    held = [sub_exact_match(prediction, answer) for answer in question.answers]
    return AnswerScores(exact_match(prediction, joined), f1(prediction, joined), sum(held) / len(held))


def declines(prediction: str) -> bool:
    """Return whether ``prediction`` is empty, or says that there is no answer."""
    plain = normalized(prediction)
    return plain in _NO_ANSWERS or bool(_NO_ANSWER.search(plain))


def normalized(text: str) -> str:
    """Lower the case, drop ASCII punctuation and English articles, fold blanks (SQuAD, arXiv 1606.05250).

    An answer that is nothing but articles or punctuation, such as "A", keeps them.
    """
    lowered = text.lower()
    plain = " ".join(_ARTICLES.sub(" ", lowered.translate(_PUNCTUATION)).split())
    return plain or " ".join(lowered.split())


def exact_match(prediction: str, answer: str) -> float:
    """Return 1.0 where both normalise to the same text that is not empty."""
    return float(normalized(prediction) == normalized(answer) != "")


def f1(prediction: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall of words; yes and no match whole or not at all."""
    predicted, gold = normalized(prediction), normalized(answer)
    if predicted != gold and (predicted in _CLOSED or gold in _CLOSED):
        return 0.0
    mine, theirs = predicted.split(), gold.split()
    shared = sum((Counter(mine) & Counter(theirs)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(mine), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


def sub_exact_match(prediction: str, answer: str) -> float:
    """Return 1.0 where the words of ``answer`` stand in ``prediction`` side by side, whole; never the other way round.

    This is sub-EM as LycheeMemory and MemAgent report it, with words in place of characters: "no" is
    not found in "nothing".
    """
    gold = normalized(answer)
    return float(bool(gold) and f" {gold} " in f" {normalized(prediction)} ")


def source_precision(
    cited: Sequence[tuple[str, Span]], supporting: Mapping[str, Sequence[Span]], extents: Mapping[str, Span]
) -> float | None:
    """Return the share of ``cited`` spans that hold a supporting sentence; ``None`` where nothing is cited.

    Args:
        cited: (document id, characters of the document).
        supporting: characters of the supporting sentences of each gold document.
        extents: the whole of each document; a citation outside it is worth nothing.
    """
    if not cited:
        return None
    held = [_inside(span, extents[name]) and _holds(span, supporting.get(name, ())) for name, span in cited]
    return sum(held) / len(held)


def _inside(span: Span, whole: Span) -> bool:
    return whole.start <= span.start < span.end <= whole.end


def _holds(span: Span, sentences: Sequence[Span]) -> bool:
    return any(
        min(span.end, sentence.end) - max(span.start, sentence.start) >= HELD_SHARE * (sentence.end - sentence.start)
        for sentence in sentences
    )


def recall_at(ranked: Sequence[int], gold: Collection[int], reach: int) -> float:
    """Return the share of ``gold`` that is among the first ``reach`` of ``ranked``."""
    return len(set(ranked[:reach]) & set(gold)) / len(gold)


def gold_read(read: Collection[str], gold: Collection[str]) -> float:
    """Return the share of the ``gold`` documents that are among those ``read``."""
    return len(set(read) & set(gold)) / len(gold)
