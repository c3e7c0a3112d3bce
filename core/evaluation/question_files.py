"""Reads the questions of a run from files of any known form, and chooses those that every length can hold."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..questions import Paragraph, Question, read_pool, read_questions
from ..upstream_questions import read_hotpotqa, read_musique, read_squad
from .babi import read_babi
from .haystack import usable

READERS: dict[str, Callable[[Path], Iterator[Question]]] = {
    "schema": read_questions,
    "hotpotqa": read_hotpotqa,
    "2wiki": read_hotpotqa,
    "musique": read_musique,
    "squad": read_squad,
    "babi": read_babi,
}
"""By the word after ``--format``."""


def chosen(questions: Sequence[Question], fewest_documents: int, offset: int, count: int) -> tuple[Question, ...]:
    """Return ``count`` questions from the ``offset``-th usable one on.

    A question without gold paragraphs, or with more paragraphs than the smallest haystack has, is left
    out, so that every length asks the same.

    Raises:
        InputError: two questions have one id, or none is left.
    """
    ids = [question.id for question in questions]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"question id {twice!r} comes twice: give each question its own")
    found = [question for question in questions if usable(question, fewest_documents)][offset : offset + count]
    if not found:
        raise InputError(
            f"none of {len(questions)} questions can be asked: with --offset {offset}, gold paragraphs are needed, and "
            f"at most {fewest_documents} paragraphs a question. Give other --data, or raise --documents"
        )
    return tuple(found)


def pool_paragraphs(paths: Sequence[Path], questions: Sequence[Question]) -> Iterator[Paragraph]:
    """Yield what distractors are drawn from: ``paths``, and the contexts of ``questions`` but for stories' lines."""
    for path in paths:
        yield from read_pool(path)
    for question in questions:
        if not question.ordered:
            yield from question.paragraphs


def task_name(path: Path) -> str:
    """Return a file's name without its endings."""
    return path.name.partition(".")[0]


def identity(path: Path) -> str:
    """Return a file's name and 16 hex digits of its SHA-256: what a run is known by.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file: give JSON lines, gzipped or not")
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
