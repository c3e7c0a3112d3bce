"""One question's run as one HTML page: no request leaves it, and nothing that a document says can run in it.

Everything shown goes through Jinja's autoescape, and a Content-Security-Policy admits the page's own
script and style, by their hashes, and nothing else.
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from .errors import InputError, StorageError
from .recall import Step
from .trace import Scoring, Trace
from .working_memory import Note

MAX_CELLS = 12_000
"""Cells of the strip; more chunks than this share one, so that the page's size is bounded."""
TABLE_ROWS = 20

_TEMPLATES = Path(__file__).parent / "templates"
_Key = tuple[str, int, int]


class Segment(NamedTuple):
    """A stretch of an opened chunk's text that the same notes quote throughout."""

    text: str
    notes: tuple[int, ...]
    """Numbers of the notes that quote it; none: it is only shown."""
    begins: tuple[int, ...]
    """Those of them that begin here."""
    source: bool
    """Whether one of them is among the answer's sources."""


def write_page(trace: Trace, path: Path) -> None:
    """Write the page to ``path``; see :meth:`core.trace.Trace.write`."""
    check_target(path)
    page = render(trace).encode("utf-8", "xmlcharrefreplace")
    scratch = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            scratch = Path(file.name)
            file.write(page)
        scratch.chmod(0o644)
        os.replace(scratch, path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error}; name another place with --out") from error


def check_target(path: Path) -> None:
    """Refuse a place that no page can be put in, before anything is computed.

    Raises:
        InputError: naming ``path``.
    """
    if path.suffix.lower() not in (".html", ".htm"):  # so that a slip overwrites no document
        raise InputError(f"the trace is an HTML page, and {str(path)!r} does not end in .html: name one that does")
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else f"lies in {str(path.parent)!r}, which is no folder"
        raise InputError(f"the trace cannot be written: {str(path)!r} {wrong}. Name a file in a folder that is there")


def render(trace: Trace) -> str:
    """Return the page as text."""
    style, script = ((_TEMPLATES / f"trace.{kind}").read_text("utf-8") for kind in ("css", "js"))
    numbers = _numbers(trace)
    return (
        _environment()
        .get_template("trace.html")
        .render(
            trace=trace,
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'",
            strip=_strip(trace),
            likeliest=_likeliest(trace),
            sources=[(numbers[_key(note)], note) for note in trace.answer.sources],
            chosen=[note for note in trace.answer.memory.notes if note.odds is not None],
            steps=[_step(trace, row, numbers) for row in range(len(trace.answer.steps))],
            numbers=numbers,
            key=_key,
            documents=len({chunk.document_id for chunk in trace.chunks}),
            release=_release(),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _release() -> str:
    try:
        return version("compressed-memory")
    except PackageNotFoundError:  # run from a checkout
        return ""


def _key(note: Note) -> _Key:
    return note.document_id, note.span.start, note.span.end


def _numbers(trace: Trace) -> dict[_Key, int]:
    """Number every note of the run: the answer's sources first, as they are listed."""
    written = (note for step in trace.answer.steps for note in step.written)
    shown = (*trace.answer.sources, *trace.answer.memory.notes, *written)
    return {key: n for n, key in enumerate(dict.fromkeys(map(_key, shown)), 1)}


def _step(trace: Trace, row: int, numbers: dict[_Key, int]) -> dict[str, object]:
    step = trace.answer.steps[row]
    before = trace.answer.steps[row - 1].memory if row else None
    return {
        "number": row + 1,
        "step": step,
        "view": trace.chosen_by[row] + 1,
        "segments": list(_segments(trace, step, numbers)),
        "new": {_key(note) for note in step.memory.notes} - {_key(note) for note in (before.notes if before else ())},
        "asked": step.recalled.query != " ".join(note.text for note in step.written),
        "left": step.memory.past[len(before.past) if before else 0 :],
    }


def _segments(trace: Trace, step: Step, numbers: dict[_Key, int]) -> Iterable[Segment]:
    """Cut the chunk's text where a quotation begins or ends; quotations may overlap."""
    text, start = trace.texts[step.chunk.chunk_id], step.chunk.span.start
    notes = {_key(n) for s in trace.answer.steps for n in s.written if n.chunk_id == step.chunk.chunk_id}
    answered = (*trace.answer.sources, *trace.answer.memory.notes)
    notes |= {_key(n) for n in answered if n.chunk_id == step.chunk.chunk_id}
    spans = {key: (max(0, key[1] - start), min(len(text), key[2] - start)) for key in notes}
    cited = {_key(note) for note in trace.answer.sources}
    for begin, end in pairwise(sorted({0, len(text)}.union(*spans.values()))):
        over = sorted((key for key in spans if spans[key][0] <= begin < spans[key][1]), key=lambda key: numbers[key])
        yield Segment(
            text[begin:end],
            tuple(numbers[key] for key in over),
            tuple(numbers[key] for key in over if spans[key][0] == begin),
            any(key in cited for key in over),
        )


def _likeliest(trace: Trace) -> list[tuple[float, object, int]]:
    """Return (highest P(open), chunk, step that read it or 0) of the chunks that came nearest to being read."""
    highest, steps = trace.highest, {step.chunk.chunk_id: n for n, step in enumerate(trace.answer.steps, 1)}
    rows = np.argsort(-highest, kind="stable")[:TABLE_ROWS]
    return [(float(highest[row]), c := trace.chunks[row], steps.get(c.chunk_id, 0)) for row in rows]


def _strip(trace: Trace) -> dict[str, object]:
    """Return what the page's script draws the strip from: columns, one value a cell, and bytes of probability."""
    chunks = trace.chunks
    share = max(1, -(-len(chunks) // MAX_CELLS))
    first, last = chunks[::share], [chunks[min(row + share, len(chunks)) - 1] for row in range(0, len(chunks), share)]
    names = list(dict.fromkeys(c.document_id for pair in zip(first, last, strict=True) for c in pair))
    place = {name: number for number, name in enumerate(names)}
    cell = {chunk.chunk_id: row // share for row, chunk in enumerate(chunks)}
    return {
        "documents": names,
        "share": share,
        "first": [place[c.document_id] for c in first],
        "last": [place[c.document_id] for c in last] if share > 1 else None,
        "start": [c.span.start for c in first],
        "end": [c.span.end for c in last],
        "views": [
            {"label": "highest of the run", "done": len(trace.answer.steps), "p": _bytes(trace.highest, share)},
            *(
                {"label": _label(s, trace.question), "done": s.chunks_read, "p": _bytes(s.scored.probabilities, share)}
                for s in trace.scorings
            ),
        ],
        "opened": [
            {"cell": cell[step.chunk.chunk_id], "view": view + 1, "gate": round(step.gate, 4)}
            for step, view in zip(trace.answer.steps, trace.chosen_by, strict=True)
        ],
        "sources": sorted({cell[note.chunk_id] for note in trace.answer.sources}),
    }


def _label(scoring: Scoring, question: str) -> str:
    notes, query = len(scoring.scored.notes), scoring.scored.query
    known = f"with {notes} note{'s' if notes > 1 else ''}" if notes else "no notes"
    if scoring.stage == "gate":
        return f"scan for step {scoring.chunks_read + 1}, {known}"
    return f"callback after step {scoring.chunks_read}, " + (known if query == question else f"for “{query}”")


def _bytes(probabilities: NDArray[np.float32], share: int) -> str:
    """Return the highest probability of every ``share`` chunks as bytes, 255 for 1, in base64."""
    padded = np.pad(probabilities, (0, -len(probabilities) % share))
    return base64.b64encode(np.rint(255 * padded.reshape(-1, share).max(axis=1)).astype(np.uint8).tobytes()).decode()
