"""A small data folder out of the text that Python itself carries: ``python -m core.training.sample_data DIR``.

For trying the training commands where no data is at hand. The questions are gaps to fill in
sentences of the Python reference (``pydoc_data.topics``), alone and in pairs, in the schema of
``training/data.md``; the pool is the reference's other paragraphs. What is learned from them is of no use.
"""

import gzip
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from random import Random
from typing import Annotated

import typer

from ..chunking import sentences
from ..questions import Paragraph, Question

_log = logging.getLogger(__name__)

_NAME = re.compile(r'"([A-Za-z_][\w.]*(?:\(\))?)"')
_WORDS_AROUND = 8
"""Words shown on each side of a gap."""
_PARAGRAPHS = 6
"""That a question comes with, its gold ones among them."""
_SHORTEST, _LONGEST = 12, 120
"""Words of a paragraph that is used."""


def sample_questions(seed: int = 0) -> tuple[list[Question], list[Paragraph]]:
    """Return single questions followed by pairs of them, and the paragraphs that no question is about.

    The same on every machine with the same release of Python.
    """
    random = Random(seed)
    paragraphs = list(_paragraphs())
    singles = [single for paragraph in paragraphs for single in _singles(paragraph, paragraphs, random)]
    asked = {single.gold[0].text for single in singles}
    order = random.sample(singles, len(singles))
    pairs = [
        _pair(a, b, paragraphs, random)
        for a, b in zip(order[::2], order[1::2], strict=False)
        if a.gold[0].text != b.gold[0].text
    ]
    return [*singles, *pairs], [p for p in paragraphs if p.text not in asked]


def write_sample(folder: Path, seed: int = 0) -> None:
    """Write ``train/reference.jsonl.gz`` and ``pool/wikipedia.jsonl.gz``, under the names that training looks for."""
    questions, pool = sample_questions(seed)
    rows = [question.model_dump(mode="json") | {"split": "train"} for question in questions]
    _write(folder / "train" / "reference.jsonl.gz", rows)
    _write(folder / "pool" / "wikipedia.jsonl.gz", [p.model_dump(mode="json", exclude={"support"}) for p in pool])


def _write(file: Path, rows: Iterable[object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # No time stamp, so that the same data is the same file.
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


def _paragraphs() -> Iterable[Paragraph]:
    seen = set()
    for title in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[title]):
            text = " ".join(block.split())
            # Indented blocks are code and grammar.
            prose = not block.startswith((" ", "*", "-", "[")) and "***" not in block and "===" not in block
            if prose and _SHORTEST <= len(text.split()) <= _LONGEST and text not in seen:
                seen.add(text)
                yield Paragraph(title=title, sentences=tuple(text[s.start : s.end] for s in sentences(text)))


def _singles(paragraph: Paragraph, others: Sequence[Paragraph], random: Random) -> Iterable[Question]:
    """Ask, of each sentence of ``paragraph`` that has names in quotes, for one of them."""
    if len(paragraph.sentences) < 2:
        return
    for index, sentence in enumerate(paragraph.sentences):
        found = list(_NAME.finditer(sentence))
        if not found:
            continue
        match = random.choice(found)
        before, after = sentence[: match.start()].split(), sentence[match.end() :].split()
        shown = " ".join([*before[-_WORDS_AROUND:], "____", *after[:_WORDS_AROUND]])
        gold = paragraph.model_copy(update={"support": (index,)})
        yield Question(
            id=f"{paragraph.title}-{len(paragraph.text)}-{index}",
            dataset="python-reference",
            question=f"Which name fills the gap in: {shown}?",
            answers=(match.group(1),),
            paragraphs=_among([gold], others, random),
        )


def _pair(first: Question, second: Question, others: Sequence[Paragraph], random: Random) -> Question:
    return Question(
        id=f"{first.id}+{second.id}",
        dataset="python-reference-pairs",
        question=f"{first.question} And: {second.question}",
        answers=(f"{first.answers[0]} and {second.answers[0]}",),
        type="pair",
        paragraphs=_among([first.gold[0], second.gold[0]], others, random),
    )


def _among(gold: list[Paragraph], others: Sequence[Paragraph], random: Random) -> tuple[Paragraph, ...]:
    texts = {paragraph.text for paragraph in gold}
    strangers = [p for p in random.sample(list(others), _PARAGRAPHS) if p.text not in texts]
    mixed = [*gold, *strangers[: _PARAGRAPHS - len(gold)]]
    random.shuffle(mixed)
    return tuple(mixed)


def main(
    folder: Annotated[Path, typer.Argument(help="Where to put train/ and pool/.")],
    seed: Annotated[int, typer.Option(help="Of gaps, pairs and distractors.")] = 0,
) -> None:
    """Write a small data folder made from the text that Python carries."""
    write_sample(folder, seed)
    _log.info("%s: %d questions", folder, len(sample_questions(seed)[0]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
