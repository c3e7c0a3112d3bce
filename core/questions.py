"""Questions over many paragraphs, as training and evaluation read them: one schema, gzipped JSON lines."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import InputError

_Model = TypeVar("_Model", bound=BaseModel)


class Paragraph(BaseModel):
    """A titled paragraph, in sentences. It is gold where ``support`` names sentences."""

    model_config = ConfigDict(frozen=True)

    title: str
    sentences: tuple[str, ...]
    support: tuple[int, ...] = ()
    """Indexes of the sentences that support the answer."""

    @property
    def text(self) -> str:
        """The sentences joined."""
        return " ".join(sentence.strip() for sentence in self.sentences)

    @property
    def supporting(self) -> tuple[str, ...]:
        """The sentences that support the answer, in order."""
        return tuple(self.sentences[index].strip() for index in self.support)

    @property
    def document(self) -> str:
        """Title, newline, sentences joined: a document of RULER-HQA (ReMemR1, appendix)."""
        return f"{self.title}\n{self.text}" if self.title else self.text


class Question(BaseModel):
    """A question with its gold answers and the paragraphs it came with."""

    model_config = ConfigDict(frozen=True)

    id: str
    dataset: str
    question: str
    answers: tuple[str, ...] = Field(min_length=1)
    """The gold answer, then its aliases."""
    paragraphs: tuple[Paragraph, ...]
    type: str | None = None
    """The dataset's own kind of question, such as ``bridge`` or ``comparison``."""
    decomposition: tuple[tuple[str, str], ...] = ()
    """Single-hop questions and their answers, in the order of reasoning, where the dataset has them."""
    working: str | None = None
    """The facts that the answer follows from, as a reader should write them down before it, where the data has them."""
    wanted: Literal["any", "all"] = "any"
    """Whether ``answers`` are one answer and its aliases, or several answers that are all wanted."""
    ordered: bool = False
    """Whether the paragraphs say what they say only in their order, as the lines of a story do."""

    @property
    def gold(self) -> tuple[Paragraph, ...]:
        """Paragraphs that support the answer."""
        return tuple(paragraph for paragraph in self.paragraphs if paragraph.support)


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    value: object


def read_questions(path: Path) -> Iterator[Question]:
    """Read questions from JSON lines, gzipped or not.

    Raises:
        InputError: the file is missing, or a line is no question; it names the file, the line and the field.
    """
    for line in _lines(path):
        yield _parsed(Question, line)


def read_pool(path: Path) -> Iterator[Paragraph]:
    """Read paragraphs that belong to no question from JSON lines, gzipped or not.

    Raises:
        InputError: the file is missing, or a line is no paragraph.
    """
    for line in _lines(path):
        yield _parsed(Paragraph, line)


def _lines(path: Path) -> Iterator[_Line]:
    if not path.is_file():
        raise InputError(f"{path} is no file: give JSON lines, gzipped or not")
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _Line(path, number, json.loads(line))
    except (UnicodeDecodeError, json.JSONDecodeError, EOFError, gzip.BadGzipFile) as error:
        # A line that was read is counted already; one that could not be read is the next.
        where = number if isinstance(error, json.JSONDecodeError) else number + 1
        raise InputError(f"{path} line {where}: {error}; give JSON lines in UTF-8, gzipped or not") from error


def _parsed(kind: type[_Model], line: _Line) -> _Model:
    try:
        return kind.model_validate(line.value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise InputError(
            f"{line.path} line {line.number}: {where} is {str(first['input'])[:80]!r}: {first['msg']}"
        ) from error
