"""Questions on technical text that need no download: ``python -m core.evaluation.reference_questions DIR``.

Writes ``python-reference.jsonl``, hand-written questions on the language reference that CPython carries
(``pydoc_data.topics``, PSF licence), and ``python-reference-pool.jsonl``, its other sections to hide them among::

    python -m core.evaluation --data DIR/python-reference.jsonl --pool DIR/python-reference-pool.jsonl …

The other sets are encyclopaedic, and say little about what a reader makes of an interface's description. No
adapter may be trained on this text (:mod:`core.training.docstring_data` leaves it out).
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics

from pydantic import BaseModel

from ..chunking import sentences
from ..questions import Paragraph, Question

_ASKED = Path(__file__).with_suffix(".jsonl")

_log = logging.getLogger(__name__)

_SIGNATURE = re.compile(r"^(?:class |classmethod )?[\w.]+\(.*\)$")
_SHORTEST, _LONGEST = 8, 160
"""Words of a section that is used as a distractor."""


class _Asked(BaseModel):
    """A line of ``reference_questions.jsonl``."""

    topic: str
    question: str
    answers: tuple[str, ...]
    evidence: str
    """Words of the one sentence that answers it, blanks folded."""


def reference_questions() -> tuple[list[Question], list[Paragraph]]:
    """Return the questions, each with its one gold section, and the sections that answer none.

    A question whose sentence is not in this Python's release is left out.
    """
    sections = list(_sections())
    questions = []
    for number, line in enumerate(_ASKED.read_text(encoding="utf-8").splitlines()):
        asked = _Asked.model_validate_json(line)
        found = [
            section.model_copy(update={"support": (index,)})
            for topic, section in sections
            if topic == asked.topic
            for index, sentence in enumerate(section.sentences)
            if asked.evidence in sentence
        ]
        if len(found) != 1:
            _log.warning("%s: %d sentences of this release have %r", asked.question, len(found), asked.evidence)
            continue
        questions.append(
            Question(
                id=f"python-reference-{number}",
                dataset="python-reference",
                question=asked.question,
                answers=asked.answers,
                paragraphs=(found[0],),
            )
        )
    gold = {paragraph.text for question in questions for paragraph in question.paragraphs}
    rest = (section for _, section in sections if section.text not in gold)
    return questions, [s for s in rest if _SHORTEST <= len(s.text.split()) <= _LONGEST]


def _sections() -> Iterator[tuple[str, Paragraph]]:
    """Yield (topic, section): an entry under its signature, or a block of prose under the topic's heading."""
    for topic in sorted(topics):
        over, under, entry = "", 0, list[str]()
        heading = topics[topic].strip().partition("\n")[0]
        for block in [*re.split(r"\n\s*\n", topics[topic]), ""]:
            text, indent = " ".join(block.split()), len(block) - len(block.lstrip(" "))
            if entry and (not text or indent <= under):
                yield topic, _paragraph(over, " ".join(entry))
                entry = []
            if _SIGNATURE.match(text):
                over, under = text, indent
            elif over and indent > under:
                if not text.startswith(">>>"):
                    entry.append(text)
            else:
                over = ""
                if text and indent == 0 and "***" not in text and "===" not in text:
                    yield topic, _paragraph(heading, text)


def _paragraph(title: str, text: str) -> Paragraph:
    return Paragraph(title=title, sentences=tuple(text[s.start : s.end].strip() for s in sentences(text)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files; return 0."""
    parser = argparse.ArgumentParser("python -m core.evaluation.reference_questions", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    questions, pool = reference_questions()
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Question] | list[Paragraph]] = {
        "python-reference.jsonl": questions,
        "python-reference-pool.jsonl": pool,
    }
    for name, items in rows.items():
        text = "".join(json.dumps(item.model_dump(mode="json"), ensure_ascii=False) + "\n" for item in items)
        (folder / name).write_text(text, encoding="utf-8")
    _log.info("%s: %d questions, %d other sections", folder, len(questions), len(pool))
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
