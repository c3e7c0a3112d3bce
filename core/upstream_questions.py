"""Reads data sets as their authors publish them into :class:`core.questions.Question`: from a file."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from .chunking import sentences
from .errors import InputError
from .questions import Paragraph, Question

_Kind = TypeVar("_Kind")


class _HotpotQA(BaseModel):
    id: str = ""
    question: str
    answer: str
    type: str | None = None
    context: list[tuple[str, list[str]]]
    supporting_facts: list[tuple[str, int]] = []


class _MuSiQueParagraph(BaseModel):
    title: str
    paragraph_text: str
    is_supporting: bool = False


class _MuSiQueStep(BaseModel):
    question: str
    answer: str


class _MuSiQue(BaseModel):
    id: str
    question: str
    answer: str
    answer_aliases: list[str] = []
    paragraphs: list[_MuSiQueParagraph]
    question_decomposition: list[_MuSiQueStep] = []


class _SQuADAnswer(BaseModel):
    text: str
    answer_start: int


class _SQuADQuestion(BaseModel):
    id: str
    question: str
    answers: list[_SQuADAnswer]
    is_impossible: bool = False


class _SQuADParagraph(BaseModel):
    context: str
    qas: list[_SQuADQuestion]


class _SQuADArticle(BaseModel):
    title: str
    paragraphs: list[_SQuADParagraph]


class _SQuAD(BaseModel):
    data: list[_SQuADArticle]


def read_hotpotqa(path: Path) -> Iterator[Question]:
    """Read HotpotQA or 2WikiMultiHopQA: one JSON list.

    Raises:
        InputError: the file is missing or is not in the form; it names the first field that is not.
    """
    for number, raw in enumerate(_parsed(list[dict[str, object]], _text(path), path)):
        example = _valid(
            _HotpotQA, {**raw, "id": raw.get("_id", raw.get("id", str(number)))}, f"{path} example {number}"
        )
        support: dict[str, list[int]] = {}
        for title, sentence in example.supporting_facts:
            support.setdefault(title, []).append(sentence)
        yield Question(
            id=example.id,
            dataset=path.name.partition(".")[0],
            question=example.question,
            answers=(example.answer,),
            type=example.type,
            paragraphs=tuple(
                # A few published supporting facts name a sentence that is not there.
                Paragraph(title=t, sentences=tuple(s), support=tuple(i for i in support.get(t, ()) if i < len(s)))
                for t, s in example.context
            ),
        )


def read_musique(path: Path) -> Iterator[Question]:
    """Read MuSiQue: JSON lines. All sentences of a supporting paragraph support.

    Raises:
        InputError: the file is missing or is not in the form; it names the first field that is not.
    """
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        example = _valid(_MuSiQue, _parsed(dict[str, object], line, path), f"{path} line {number}")
        yield Question(
            id=example.id,
            dataset="musique",
            question=example.question,
            answers=tuple(dict.fromkeys((example.answer, *example.answer_aliases))),
            type=example.id.partition("__")[0],
            paragraphs=tuple(_musique_paragraph(paragraph) for paragraph in example.paragraphs),
            decomposition=tuple((step.question, step.answer) for step in example.question_decomposition),
        )


def read_squad(path: Path) -> Iterator[Question]:
    """Read SQuAD: one JSON object. The sentence of the answer supports; questions without an answer are left out.

    Raises:
        InputError: the file is missing or is not in the form; it names the first field that is not.
    """
    for article in _valid(_SQuAD, _parsed(dict[str, object], _text(path), path), str(path)).data:
        title = article.title.replace("_", " ")
        for paragraph in article.paragraphs:
            spans = sentences(paragraph.context)
            texts = tuple(paragraph.context[span.start : span.end] for span in spans)
            for asked in paragraph.qas:
                starts = {answer.answer_start for answer in asked.answers}
                support = tuple(i for i, s in enumerate(spans) if any(s.start <= start < s.end for start in starts))
                if asked.is_impossible or not support:
                    continue
                yield Question(
                    id=asked.id,
                    dataset="squad",
                    question=asked.question.strip(),
                    answers=tuple(dict.fromkeys(answer.text for answer in asked.answers)),
                    paragraphs=(Paragraph(title=title, sentences=texts, support=support),),
                )


def _musique_paragraph(paragraph: _MuSiQueParagraph) -> Paragraph:
    texts = tuple(paragraph.paragraph_text[span.start : span.end] for span in sentences(paragraph.paragraph_text))
    support = tuple(range(len(texts))) if paragraph.is_supporting else ()
    return Paragraph(title=paragraph.title, sentences=texts, support=support)


def _text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is no file: give JSON, gzipped or not")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode()
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: {error}; give JSON in UTF-8, gzipped or not") from error


def _parsed(kind: type[_Kind], text: str, path: Path) -> _Kind:
    try:
        return TypeAdapter(kind).validate_python(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raise InputError(f"{path} is not in the published form: {str(error).splitlines()[0]}") from error


_Model = TypeVar("_Model", bound=BaseModel)


def _valid(kind: type[_Model], value: object, where: str) -> _Model:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {field} is {str(first['input'])[:80]!r}: {first['msg']}") from error
