"""What the benchmarks read beside questions: whole texts."""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..errors import InputError


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
    text = line.value.get("text")
    if not isinstance(text, str):
        raise InputError(f"{line.path} line {line.number}: 'text' is {text!r:.80}, not a str")
    return text
