"""Finds what a run learns from in a data folder, and keeps a part of it out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..questions import Paragraph, Question, read_pool, read_questions

HELD_OUT_SHARE = 0.02


@dataclass(frozen=True)
class Material:
    """Questions to learn from, questions to measure on, and paragraphs without questions."""

    train: tuple[Question, ...]
    held_out: tuple[Question, ...]
    pool: tuple[Paragraph, ...]


def read_material(folder: Path) -> Material:
    """Read ``train/*.jsonl[.gz]`` and, where there is one, ``pool/wikipedia.jsonl[.gz]`` of ``folder``.

    What is held out is chosen by gold paragraph, so that none is on both sides, and never changes
    when other files are added.

    Raises:
        InputError: there is no training file, or a line is no question.
    """
    files = sorted(p for p in (folder / "train").glob("*.jsonl*") if p.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise InputError(f"{folder} has no train/*.jsonl or train/*.jsonl.gz: see training/data.md for the schema")
    questions = [question for file in files for question in read_questions(file) if question.gold]
    held_out = [_is_held_out(question) for question in questions]
    pools = sorted((folder / "pool").glob("wikipedia.jsonl*"))
    return Material(
        _chosen(questions, held_out, False),
        _chosen(questions, held_out, True),
        tuple(read_pool(pools[0])) if pools else (),
    )


def _chosen(questions: Sequence[Question], held_out: Sequence[bool], wanted: bool) -> tuple[Question, ...]:
    return tuple(q for q, out in zip(questions, held_out, strict=True) if out == wanted)


def _is_held_out(question: Question) -> bool:
    digest = hashlib.sha256(question.gold[0].text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32
