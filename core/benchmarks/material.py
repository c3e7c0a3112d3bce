"""What the benchmarks read: plain text files and the JSON lines of the question answering data."""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

from transformers import PreTrainedTokenizerBase

from ..errors import InputError

_Kind = TypeVar("_Kind")


class Paragraph(TypedDict):
    """A paragraph as the data has it; one with ``support`` is gold."""

    title: str
    sentences: list[str]
    support: list[int]


class Question(TypedDict):
    """What the gate's calibration needs of an example."""

    question: str
    paragraphs: list[Paragraph]


@dataclass(frozen=True)
class _Line:
    """One JSON object of a file, for errors that say where."""

    path: Path
    number: int
    value: dict[str, object]


def texts(paths: Sequence[Path]) -> list[str]:
    """Read whole texts: the field ``text`` of each line of ``.jsonl`` or ``.jsonl.gz``, any other file as it is.

    Raises:
        InputError: a file is missing, or a line has no text.
    """
    found: list[str] = []
    for path in paths:
        if ".jsonl" in path.suffixes:
            found += [_text(line) for line in _lines(path)]
        elif path.is_file():
            found.append(path.read_text(encoding="utf-8"))
        else:
            raise InputError(f"{path} is no file: give plain text, or JSON lines with a field 'text'")
    return found


def questions(path: Path) -> list[Question]:
    """Read question answering examples with their paragraphs.

    Raises:
        InputError: the file is missing, or a line is no example.
    """
    return [
        Question(question=_field(line, "question", str), paragraphs=_field(line, "paragraphs", list))
        for line in _lines(path)
    ]


def pool(path: Path) -> list[Paragraph]:
    """Read paragraphs that belong to no question.

    Raises:
        InputError: the file is missing, or a line is no paragraph.
    """
    return [
        Paragraph(title=_field(line, "title", str), sentences=_field(line, "sentences", list), support=[])
        for line in _lines(path)
    ]


def numbered_files(sources: Sequence[str], tokenizer: PreTrainedTokenizerBase, tokens: int, folder: Path) -> list[Path]:
    """Write ``tokens`` tokens into files of at most about 50,000 each, a paragraph at a time.

    The sources are repeated; each paragraph begins with a number of its own, so that no two chunks are the same.
    """
    paragraphs = [p.strip() for source in sources for p in re.split(r"\n\s*\n", source) if p.strip()]
    if not paragraphs:
        raise InputError("the source texts hold no paragraph")
    files: list[Path] = []
    written, number = 0, 0
    while written < tokens:
        wanted, held, parts = min(50_000, tokens - written), 0, []
        while held < wanted:
            parts.append(f"[{number}] {paragraphs[number % len(paragraphs)]}\n\n")
            held += len(tokenizer(parts[-1], add_special_tokens=False)["input_ids"])
            number += 1
        files.append(folder / f"{len(files):05}.txt")
        files[-1].write_text("".join(parts), encoding="utf-8")
        written += held
    return files


def _lines(path: Path) -> Iterator[_Line]:
    if not path.is_file():
        raise InputError(f"{path} is no file: give JSON lines, gzipped or not")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            yield _Line(path, number, json.loads(line))


def _text(line: _Line) -> str:
    return _field(line, "text", str)


def _field(line: _Line, name: str, kind: type[_Kind]) -> _Kind:
    value = line.value.get(name)
    if not isinstance(value, kind):
        raise InputError(f"{line.path} line {line.number}: {name!r} is {value!r:.80}, not a {kind.__name__}")
    return value
