"""Hides a question's paragraphs among others: RULER-HQA as ReMemR1 (arXiv 2509.23040) and MemAgent build it.

The released builders keep the paragraphs of every question in the same places and draw new
distractors for each length. Here a question is the same at every length, a shorter haystack's
distractors are among a longer one's, and where the gold paragraphs stand is drawn for each question
and length. All of it follows from (seed, question id, number of documents), in any process.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from ..chunking import Span
from ..errors import InputError
from ..ingest import Document
from ..questions import Paragraph, Question
from .reasoning_order import reasoning_order
from .withheld import Lacking, without_answer


@dataclass(frozen=True)
class Haystack:
    """Documents, and where the evidence for each question stands in them."""

    documents: tuple[Document, ...]
    """Named "1", "2", … in order."""
    supporting: Mapping[str, Mapping[str, tuple[Span, ...]]]
    """By question id and document id of a gold document: the characters of its supporting sentences."""

    @property
    def text(self) -> str:
        """One text, as agents read it: ``Document {i}:``, the document, a blank line."""
        return as_one_text(self.documents)


class Pool:
    """Paragraphs to draw distractors from: each document once, in the order of their text."""

    def __init__(self, paragraphs: Iterable[Paragraph]) -> None:
        unique = {paragraph.document: paragraph for paragraph in paragraphs}
        self.paragraphs = tuple(unique[document] for document in sorted(unique))
        self._keys = [_Keys.of(paragraph) for paragraph in self.paragraphs]

    def drawn(self, count: int, own: Sequence[Paragraph], gold: Sequence[Paragraph], *seeds: object) -> list[Paragraph]:
        """Draw ``count`` paragraphs that are none of ``own`` and share no title and no text with ``gold``.

        With the same ``seeds``, a smaller draw is the beginning of a larger one.

        Raises:
            InputError: the pool is too small.
        """
        documents = {paragraph.document for paragraph in own}
        keys = [_Keys.of(paragraph) for paragraph in gold]
        titles, texts = {key.title for key in keys if key.title}, {key.text for key in keys}
        drawn: list[Paragraph] = []
        for row in generator(*seeds).permutation(len(self.paragraphs)):
            if len(drawn) == count:
                break
            paragraph, key = self.paragraphs[row], self._keys[row]
            if paragraph.document not in documents and key.title not in titles and key.text not in texts:
                drawn.append(paragraph)
        if len(drawn) < count:
            raise InputError(
                f"the pool has {len(drawn)} documents that can be distractors, {count} are needed: give more with "
                "--pool, or ask for fewer --documents"
            )
        return drawn


@dataclass(frozen=True)
class _Keys:
    """By what two paragraphs are the same, however they are written."""

    title: str
    text: str

    @classmethod
    def of(cls, paragraph: Paragraph) -> "_Keys":
        return cls(_folded(paragraph.title), _folded(paragraph.text))


def usable(question: Question, documents: int) -> bool:
    """Return whether ``question`` has gold paragraphs, and fits among so many documents with all of its own."""
    return bool(question.gold) and len(_own(question)) <= documents


def own_haystack(
    question: Question,
    pool: Pool,
    documents: int,
    *,
    seed: int = 0,
    gap: int | None = None,
    lacking: Lacking = None,
) -> Haystack:
    """Hide the paragraphs of ``question`` among ``documents`` in all.

    Args:
        lacking: ``absent`` leaves the gold documents out, with more distractors in their place: nothing says the
            answer. ``withheld`` takes what says the answer out of them
            (:func:`core.evaluation.withheld.without_answer`): what is left is near. A gold document from which nothing
            had to be taken, such as that of a first hop, is gold still.
        gap: puts the gold documents in the reverse order of reasoning, at least so many others between two of them.

    Raises:
        InputError: the question cannot be used, or the pool or ``documents`` is too small.
    """
    if not usable(question, documents):
        raise InputError(
            f"question {question.id!r} has {len(_own(question))} paragraphs, {len(question.gold)} of them gold: it "
            f"cannot be asked of {documents} documents"
        )
    own = [paragraph for paragraph in _own(question) if not (lacking and paragraph.support)]
    if lacking == "withheld":
        left = without_answer(question, Random(f"{seed}:{question.id}:withheld"))  # noqa: S311 - no secret
        own += [paragraph.model_copy(update={"support": ()}) for paragraph in left]
    others = pool.drawn(documents - len(own), own, question.gold, seed, question.id, "distractors")
    random = generator(seed, question.id, documents, "order")
    if gap is not None and question.ordered:
        raise InputError(f"question {question.id!r} is about a story, which cannot be reversed: leave out --gap")
    if gap is not None:
        placed = _with_gaps(question, own, others, gap, random)
    elif question.ordered:
        placed = _in_order(own, others, random)
    else:
        placed = _shuffled([*own, *others], random)
    return _haystack(placed, [question])


def shared_haystack(questions: Sequence[Question], pool: Pool, documents: int, *, seed: int = 0) -> Haystack:
    """Hide the gold paragraphs of all ``questions`` among ``documents`` in all: one text that is asked many times.

    Raises:
        InputError: there are more gold paragraphs than ``documents``, a question needs its order, or the pool is small.
    """
    gold = {paragraph.document: paragraph for question in questions for paragraph in question.gold}
    if ordered := [question.id for question in questions if question.ordered]:
        raise InputError(f"question {ordered[0]!r} is about a story of its own: leave out --shared-haystack")
    if len(gold) > documents:
        raise InputError(
            f"{len(questions)} questions have {len(gold)} gold paragraphs, which do not fit among {documents} "
            "documents: lower --questions or raise --documents"
        )
    own = list(gold.values())
    others = pool.drawn(documents - len(own), own, own, seed, "shared", "distractors")
    return _haystack(_shuffled([*own, *others], generator(seed, "shared", documents, "order")), questions)


def as_one_text(documents: Sequence[Document]) -> str:
    """Join ``documents`` as RULER-HQA does: ``Document {i}:`` from 1 on, the document, a blank line."""
    return "\n\n".join(f"Document {number}:\n{document.text}" for number, document in enumerate(documents, 1))


def generator(*seeds: object) -> np.random.Generator:
    """Return a random generator that follows from the text of ``seeds``, the same in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, seeds)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def supporting_spans(paragraph: Paragraph) -> tuple[Span, ...]:
    """Return where the supporting sentences stand in the paragraph's document, in characters.

    Raises:
        InputError: ``support`` names a sentence that is not there.
    """
    spans, start = [], len(paragraph.document) - len(paragraph.text)
    for sentence in paragraph.sentences:
        end = start + len(sentence.strip())
        spans.append(Span(start, end))
        start = end + 1
    if max(paragraph.support) >= len(spans):
        raise InputError(
            f"paragraph {paragraph.title!r} has {len(spans)} sentences, its support names sentence "
            f"{max(paragraph.support)}: count from 0"
        )
    return tuple(spans[index] for index in paragraph.support)


def _own(question: Question) -> list[Paragraph]:
    """Each of the question's documents once, as gold where one of its copies is."""
    unique: dict[str, Paragraph] = {}
    for paragraph in question.paragraphs:
        if question.ordered:  # a line of a story may come twice
            unique[str(len(unique))] = paragraph
        elif paragraph.support or paragraph.document not in unique:
            unique[paragraph.document] = paragraph
    return list(unique.values())


def _shuffled(paragraphs: Sequence[Paragraph], random: np.random.Generator) -> list[Paragraph]:
    return [paragraphs[row] for row in random.permutation(len(paragraphs))]


def _in_order(own: Sequence[Paragraph], others: Sequence[Paragraph], random: np.random.Generator) -> list[Paragraph]:
    places = np.sort(random.choice(len(own) + len(others), len(own), replace=False))
    return _placed(dict(zip(places.tolist(), own, strict=True)), others)


def _with_gaps(
    question: Question, own: Sequence[Paragraph], others: Sequence[Paragraph], gap: int, random: np.random.Generator
) -> list[Paragraph]:
    """Distant evidence (ReMemR1, section 4): the last step of reasoning stands first."""
    gold = [paragraph for paragraph in dict.fromkeys(reasoning_order(question)[::-1]) if paragraph in own]
    rest = _shuffled([*(paragraph for paragraph in own if paragraph not in gold), *others], random)
    room = len(gold) + len(rest) - gap * (len(gold) - 1)
    if room < len(gold):
        raise InputError(
            f"question {question.id!r} has {len(gold)} gold documents: with {gap} others between two of them they do "
            f"not fit among {len(gold) + len(rest)}; lower --gap or raise --documents"
        )
    # Places in a line without the gaps, each then moved back by the gaps before it.
    places = np.sort(random.choice(room, len(gold), replace=False)) + gap * np.arange(len(gold))
    return _placed(dict(zip(places.tolist(), gold, strict=True)), rest)


def _placed(at: Mapping[int, Paragraph], others: Sequence[Paragraph]) -> list[Paragraph]:
    rest: Iterator[Paragraph] = iter(others)
    return [at[place] if place in at else next(rest) for place in range(len(at) + len(others))]


def _haystack(placed: Sequence[Paragraph], questions: Sequence[Question]) -> Haystack:
    names = [str(number) for number in range(1, len(placed) + 1)]
    supporting: dict[str, dict[str, tuple[Span, ...]]] = {}
    for question in questions:
        gold = {id(p) if question.ordered else p.document: p for p in question.gold}
        supporting[question.id] = {
            name: supporting_spans(gold[key])
            for name, p in zip(names, placed, strict=True)
            if (key := id(p) if question.ordered else p.document) in gold
        }
    return Haystack(tuple(Document(n, p.document) for n, p in zip(names, placed, strict=True)), supporting)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
