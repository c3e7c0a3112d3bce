"""What the similarity gate's constants rest on: how well cosines tell gold paragraphs, and what a note adds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..chunking import Span
from ..embedder import Embedder
from ..errors import InputError
from ..gate import nearness
from ..passage_index import PassageIndex, StoredChunk
from ..questions import Paragraph, Question
from ..working_memory import Note, WorkingMemory

_DISTRACTORS = 800
_REACH = 4
_NOTE_CHARACTERS = 400


@dataclass(frozen=True)
class GateRow:
    """Figures of one data set, or of all together. A question counts if it has two gold paragraphs or more."""

    data: str
    questions: int
    paragraphs: float
    """Searched for each question, mean."""
    slope: float
    """Of the logistic regression of "is gold" on cosine."""
    midpoint: float
    """Cosine at which the regression says 0.5."""
    above_02: float
    """Share of gold paragraphs with a cosine to the question above 0.2; and so on."""
    above_03: float
    above_04: float
    above_05: float
    above_06: float
    above_07: float
    alone_at_4: float
    """Share of the gold paragraphs still missing that are among the 4 nearest to the question, once the gold one
    nearest to it is found."""
    with_note_at_4: float
    """The same by question and note, the note being the found paragraph's supporting sentences."""


@dataclass(frozen=True)
class _Scored:
    """One question's paragraphs."""

    cosines: NDArray[np.float32]
    gold: NDArray[np.bool_]
    alone: float
    with_note: float


def measure(
    embedder: Embedder,
    data: Mapping[str, Sequence[Question]],
    pool: Sequence[Paragraph],
    step: Callable[[], None] = lambda: None,
) -> list[GateRow]:
    """Calibrate on each set of ``data``, and on all together.

    Args:
        pool: from which 800 paragraphs are drawn that every question is searched among, beside its own.
        step: called after each question.
    """
    drawn = np.random.default_rng(0).choice(len(pool), min(_DISTRACTORS, len(pool)), replace=False)
    distractors = [_embedded(embedder, pool[row]) for row in drawn]
    scored: dict[str, list[_Scored]] = {}
    for name, questions in data.items():
        for question in questions:
            if len(question.gold) >= 2:
                scored.setdefault(name, []).append(_score(embedder, question, distractors))
            step()
    if not scored:
        raise InputError("no question has two gold paragraphs: give multi-hop data")
    rows = [_row(name, found) for name, found in scored.items()]
    return rows if len(rows) == 1 else [*rows, _row("all", [s for found in scored.values() for s in found])]


def logistic_fit(cosines: NDArray[np.float32], gold: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit P(gold) = sigmoid(slope * (cosine - midpoint)) by maximum likelihood; return slope and midpoint."""
    x, y = torch.from_numpy(cosines).double(), torch.from_numpy(gold).double()
    weights = torch.tensor([10.0, -5.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(weights[0] * x + weights[1], y)
        loss.backward()
        return loss

    optimizer.step(closure)
    slope, intercept = weights.tolist()
    return slope, -intercept / slope


def _row(name: str, scored: Sequence[_Scored]) -> GateRow:
    cosines = np.concatenate([s.cosines for s in scored])
    gold = np.concatenate([s.gold for s in scored])
    slope, midpoint = logistic_fit(cosines, gold)
    above = [float((cosines[gold] > level).mean()) for level in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)]
    return GateRow(
        data=name,
        questions=len(scored),
        paragraphs=len(cosines) / len(scored),
        slope=slope,
        midpoint=midpoint,
        above_02=above[0],
        above_03=above[1],
        above_04=above[2],
        above_05=above[3],
        above_06=above[4],
        above_07=above[5],
        alone_at_4=float(np.mean([s.alone for s in scored])),
        with_note_at_4=float(np.mean([s.with_note for s in scored])),
    )


def _score(embedder: Embedder, question: Question, distractors: Sequence[NDArray[np.float32]]) -> _Scored:
    own = [_embedded(embedder, paragraph) for paragraph in question.paragraphs]
    index = _index([*own, *distractors])
    gold = np.zeros(len(index.chunks), dtype=np.bool_)
    gold[[row for row, paragraph in enumerate(question.paragraphs) if paragraph.support]] = True
    cosines = nearness(question.question, WorkingMemory(), index, embedder, None)
    found = int(np.argmax(np.where(gold, cosines, -2)))
    missing = [int(row) for row in np.flatnonzero(gold) if row != found]
    paragraph = question.paragraphs[found]
    note = " ".join(paragraph.supporting)[:_NOTE_CHARACTERS]
    held = Note(text=note, quote=note, chunk_id="", document_id="", span=Span(0, len(note)), gate=1.0)
    noted = nearness(question.question, WorkingMemory((held,)), index, embedder, None)
    return _Scored(cosines, gold, _recall(cosines, found, missing), _recall(noted, found, missing))


def _recall(cosines: NDArray[np.float32], found: int, missing: Sequence[int]) -> float:
    others = cosines.copy()
    others[found] = -2
    nearest = np.argsort(-others, kind="stable")[:_REACH]
    return float(np.mean([row in nearest for row in missing]))


def _index(embedded: Sequence[NDArray[np.float32]]) -> PassageIndex:
    chunks = [StoredChunk(str(row), "", Span(0, 0), 0, 0) for row in range(len(embedded))]
    owners = np.repeat(np.arange(len(embedded)), [len(vectors) for vectors in embedded])
    return PassageIndex(chunks, owners, np.concatenate(embedded))


def _embedded(embedder: Embedder, paragraph: Paragraph) -> NDArray[np.float32]:
    """Embed a paragraph as an ingest embeds a chunk, float32 [passages, dimension]."""
    text = paragraph.document
    return embedder.embed([text[start:end] for start, end in embedder.passages(text)])
