"""In which order a question's gold paragraphs are needed, as far as the data tells."""

from itertools import permutations

from ..questions import Paragraph, Question
from ..working_memory import word_recall


def reasoning_order(question: Question) -> list[Paragraph]:
    """Return the gold paragraphs, the one needed first coming first.

    With a decomposition (MuSiQue) of as many steps as there are gold paragraphs, the order in which
    each step finds its answer and its words in its paragraph best. Without one, paragraphs that hold
    the final answer come last, because the last hop gives it. Ties keep the order of the data.
    """
    gold, steps = question.gold, question.decomposition
    if len(steps) == len(gold):
        orders = permutations(gold)
        best = max(orders, key=lambda order: sum(_fit(*step, p) for step, p in zip(steps, order, strict=True)))
        return list(best)
    return sorted(gold, key=lambda paragraph: any(_holds(paragraph, answer) for answer in question.answers))


def _fit(asked: str, answer: str, paragraph: Paragraph) -> float:
    return _holds(paragraph, answer) + word_recall(asked, paragraph.document)


def _holds(paragraph: Paragraph, answer: str) -> bool:
    return answer.casefold() in paragraph.document.casefold()
