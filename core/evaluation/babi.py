"""Reads bAbI (Weston et al., arXiv 1502.05698) in its original text form, from a file or a ``.tar.gz`` of files.

A line is numbered from the story's start; a question has its answer and the numbers of the
supporting lines behind tabs. Each question becomes one of :class:`core.questions.Question`, the
story's lines up to it being its paragraphs, in order.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..questions import Paragraph, Question


def read_babi(path: Path) -> Iterator[Question]:
    """Read the questions of every file.

    Raises:
        InputError: the file is missing, or a line is not in the form; it names file and line.
    """
    for name, text in _files(path):
        yield from _questions(name, text)


def _files(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        raise InputError(f"{path} is no file: give bAbI's text, or a .tar.gz of it")
    if not tarfile.is_tarfile(path):
        yield path.name, path.read_text(encoding="utf-8")
        return
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            content = archive.extractfile(member) if member.name.endswith(".txt") else None
            if content:
                yield Path(member.name).name, content.read().decode()


def _questions(name: str, text: str) -> Iterator[Question]:
    """Yield one file's questions. ``qa2_two-supporting-facts_test.txt`` gives ids ``qa2-1``, ``qa2-2``, …"""
    story: dict[int, str] = {}
    task, asked = name.partition("_")[0], 0
    for row, line in enumerate(text.splitlines(), 1):
        number, _, said = line.partition(" ")
        if not number.isdigit() or not said.strip():
            raise InputError(f"{name} line {row}: {line[:80]!r} is no line of bAbI: a number, a blank, a sentence")
        if int(number) == 1:
            story = {}
        if "\t" not in said:
            story[int(number)] = said.strip()
            continue
        asked += 1
        yield _question(f"{task}-{asked}", task, said, story, f"{name} line {row}")


def _question(name: str, task: str, said: str, story: dict[int, str], where: str) -> Question:
    question, answer, supporting = [*said.split("\t"), "", ""][:3]
    numbers = set(supporting.split())
    if unknown := numbers - {str(number) for number in story}:
        raise InputError(f"{where}: supporting line {min(unknown)} is not in the story before it")
    return Question(
        id=name,
        dataset="babi",
        question=question.strip(),
        answers=(answer.strip(),),
        paragraphs=tuple(
            Paragraph(title="", sentences=(line,), support=(0,) if str(number) in numbers else ())
            for number, line in story.items()
        ),
        type=task,
        ordered=True,
    )
