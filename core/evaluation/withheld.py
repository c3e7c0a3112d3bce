"""Questions whose documents say all but the answer: near, and nothing to answer from.

The unanswerable questions of SQuAD 2.0 (arXiv 1806.03822) are written to fit a paragraph; here the paragraph is made
not to fit the question, which needs nobody to write anything.
"""

from collections.abc import Sequence
from random import Random
from typing import Literal

from ..questions import Paragraph, Question
from ..working_memory import words

Lacking = Literal["absent", "withheld"] | None
"""What the documents of a question do not have: the gold ones, or what says the answer in them."""

_ARTICLES = ("a", "an", "the")


def without_answer(question: Question, random: Random) -> list[Paragraph]:
    """Return the gold paragraphs of ``question`` without each sentence that names an answer, and one of them without
    its evidence.

    That one is drawn from those whose evidence names the answer, where there are such. What is left is near, and the
    first of two hops may be among it. A paragraph of which no sentence is left is left out, and a title that names an
    answer too.
    """
    gold = question.gold
    saying = [p for p in gold if any(names_answer(question, said) for said in p.supporting)]
    bare, left = random.choice(saying or list(gold)), list[Paragraph]()
    for paragraph in gold:
        gone = set(paragraph.support) if paragraph is bare else set[int]()
        gone |= {row for row, said in enumerate(paragraph.sentences) if names_answer(question, said)}
        kept = [row for row in range(len(paragraph.sentences)) if row not in gone]
        support = tuple(place for place, row in enumerate(kept) if row in paragraph.support)
        sentences = tuple(paragraph.sentences[row] for row in kept)
        title = "" if names_answer(question, paragraph.title) else paragraph.title
        left.append(Paragraph(title=title, sentences=sentences, support=support))
    return [paragraph for paragraph in left if paragraph.sentences]


def names_answer(question: Question, text: str) -> bool:
    """Return whether ``text`` has the words of an answer to ``question`` one after the other, articles left out."""
    said, bare = words(text), _bare(words(text))
    asked = [words(answer) for answer in question.answers]
    return any(_holds(said, answer) or _holds(bare, _bare(answer)) for answer in asked)


def _bare(found: Sequence[str]) -> list[str]:
    return [word for word in found if word not in _ARTICLES]


def _holds(said: Sequence[str], wanted: Sequence[str]) -> bool:
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(said)} "
