"""Finds what a run learns from in a data folder, and keeps a part of it out."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..questions import Paragraph, Question, read_pool, read_questions

HELD_OUT_SHARE = 0.02
_LEAST_HELD_OUT = 8
"""Gold paragraphs that are held out, about, of a data set too small for the share."""


@dataclass(frozen=True)
class Material:
    """Questions to learn from, questions to measure on, and paragraphs without questions."""

    train: tuple[Question, ...]
    held_out: tuple[Question, ...]
    pool: tuple[Paragraph, ...]


def read_material(folder: Path) -> Material:
    """Read ``train/*.jsonl[.gz]`` and, where there is one, ``pool/wikipedia.jsonl[.gz]`` of ``folder``.

    What is held out is chosen by gold paragraph, and does not change when other files are added. A
    question that shares a gold paragraph with a held-out one is left out, so that none is on both sides.

    Raises:
        InputError: there is no training file, or a line is no question.
    """
    questions = [question for file in question_files(folder) for question in read_questions(file) if question.gold]
    train, held_out = _split(questions)
    pool = pool_file(folder)
    return Material(train, held_out, tuple(read_pool(pool)) if pool else ())


def question_files(folder: Path) -> list[Path]:
    """Return the files of a data folder that hold questions, by name.

    Raises:
        InputError: there is none.
    """
    files = sorted(p for p in (folder / "train").glob("*.jsonl*") if p.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise InputError(f"{folder} has no train/*.jsonl or train/*.jsonl.gz: see training/data.md for the schema")
    return files


def pool_file(folder: Path) -> Path | None:
    """Return the file of a data folder that holds paragraphs without questions; ``None``: it has none."""
    return next(iter(sorted((folder / "pool").glob("wikipedia.jsonl*"))), None)


def write_questions(file: Path, questions: Iterable[Question]) -> int:
    """Write ``questions`` to learn from as JSON lines, gzipped, the same bytes for the same questions.

    Returns:
        how many there are.
    """
    lines = [json.dumps(question.model_dump(mode="json") | {"split": "train"}) + "\n" for question in questions]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return len(lines)


def _split(questions: Sequence[Question]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    paragraphs = {question.gold[0].text for question in questions}
    share = max(HELD_OUT_SHARE, _LEAST_HELD_OUT / max(1, len(paragraphs)))
    chosen = {text for text in paragraphs if is_held_out(text, share)}
    held_out = tuple(question for question in questions if question.gold[0].text in chosen)
    seen = {paragraph.text for question in held_out for paragraph in question.gold}
    train = tuple(q for q in questions if not any(paragraph.text in seen for paragraph in q.gold))
    return train, held_out


def is_held_out(text: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether a paragraph is kept for measuring: chosen by its hash, the same on every machine."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32
