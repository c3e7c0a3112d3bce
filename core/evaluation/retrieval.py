"""How well gold paragraphs are found, by number of documents: ``python -m core.evaluation.retrieval``.

The check of the harness: BM25 and the embedding model find what a reader would expect of them on
HotpotQA, or something is wrong with the haystacks. And the question that the gate answers: what
working memory adds. A document is ranked by its best passage of 128 tokens, as a chunk is.

With memory, each gold paragraph is looked for once while a supporting sentence of one other gold
paragraph is known, and so without a reader's mistakes (as :mod:`core.benchmarks.gate`).
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..adapters import DEFAULT_ADAPTERS
from ..benchmarks.report import machine, progress, show
from ..chunking import Span
from ..embedder import Embedder
from ..errors import CompressedMemoryError
from ..gate import Gate, SimilarityGate
from ..ingest import Document
from ..naming_gate import NamingGate
from ..passage_index import PassageIndex, StoredChunk
from ..query_encoder import find_queries
from ..questions import Question
from ..weights import DEFAULT_EMBEDDER
from ..working_memory import Note, WorkingMemory
from .haystack import Haystack, Pool, own_haystack
from .metrics import recall_at
from .question_files import READERS, chosen, pool_paragraphs, task_name
from .summary import bootstrap
from .systems.bm25 import WordIndex

REACHES = (1, 4, 8)
_MISSING = "one known"


@dataclass(frozen=True)
class RetrievalRow:
    """Recall of one way of searching at one size: mean over questions, and the 95% bootstrap interval at 8."""

    data: str
    documents: int
    searcher: str
    questions: int
    gold: float
    """Paragraphs that are looked for, mean."""
    at_1: float
    at_4: float
    at_8: float
    at_8_low: float
    at_8_high: float


class PassageVectors:
    """Embeddings of documents by their text, made once, however many haystacks they stand in."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    def index(self, documents: Sequence[Document]) -> PassageIndex:
        """Return an index of ``documents``, one chunk for each."""
        new = list(dict.fromkeys(d.text for d in documents if d.text not in self._known))
        passages = [[text[start:end] for start, end in self._embedder.passages(text)] for text in new]
        if new:
            vectors = self._embedder.embed([passage for cut in passages for passage in cut])
            ends = np.cumsum([len(cut) for cut in passages])[:-1]
            self._known.update(zip(new, np.split(vectors, ends), strict=True))
        held = [self._known[d.text] for d in documents]
        chunks = [StoredChunk(d.document_id, d.document_id, Span(0, len(d.text)), 0, 0) for d in documents]
        return PassageIndex(chunks, np.repeat(np.arange(len(held)), [len(v) for v in held]), np.concatenate(held))


def measure(
    embedders: Mapping[str, Embedder],
    questions: Sequence[Question],
    pool: Pool,
    documents: Sequence[int],
    *,
    data: str = "",
    seed: int = 0,
    step: Callable[[], None] = lambda: None,
) -> list[RetrievalRow]:
    """Search for the gold paragraphs of every question at every size.

    Args:
        embedders: the gates' by name, alike but for how they read queries.
        step: called after each question at each size.
    """
    vectors, rows = PassageVectors(next(iter(embedders.values()))), list[RetrievalRow]()
    for size in documents:
        found: dict[str, list[dict[int, float]]] = {}
        golds: dict[str, list[int]] = {}
        for question in questions:
            haystack = own_haystack(question, pool, size, seed=seed)
            for searcher, recalls in _searched(embedders, vectors, question, haystack).items():
                found.setdefault(searcher, []).append(recalls)
                golds.setdefault(searcher, []).append(len(haystack.supporting[question.id]))
            step()
        rows += [_row(data, size, searcher, found[searcher], golds[searcher]) for searcher in found]
    return rows


def _searched(
    embedders: Mapping[str, Embedder], vectors: PassageVectors, question: Question, haystack: Haystack
) -> dict[str, dict[int, float]]:
    """Return recall by reach for each way of searching."""
    texts, asked = [document.text for document in haystack.documents], question.question
    index = vectors.index(haystack.documents)
    gold = [int(name) - 1 for name in haystack.supporting[question.id]]
    scores = {
        "BM25": WordIndex(texts).scores(asked),
        "embedding": index.similarities(next(iter(embedders.values())).embed([asked]), None),
    }
    recalls = {name: _recalls(score, gold) for name, score in scores.items()}
    text_of = {document.document_id: document.text for document in haystack.documents}
    for name, embedder in embedders.items():
        gate = SimilarityGate(embedder, None)
        recalls[f"{name}, question alone"] = _recalls(gate.probabilities(asked, WorkingMemory(), index), gold)
        if len(gold) > 1:
            recalls |= _missing(name, gate, question, haystack, index, gold)
            naming = NamingGate(gate, embedder, text_of.__getitem__)
            recalls[f"{name}, {_MISSING}, with memory and its names"] = _mean_recalls(
                _with_memory(naming, question, haystack, index, gold)
            )
    return recalls


def _missing(
    name: str,
    gate: Gate,
    question: Question,
    haystack: Haystack,
    index: PassageIndex,
    gold: Sequence[int],
) -> dict[str, dict[int, float]]:
    """Look for every gold paragraph but one, that one being known; mean over which is known."""
    return {
        f"{name}, {_MISSING}, question alone": _mean_recalls(
            _with_memory(gate, question, haystack, index, gold, noted=False)
        ),
        f"{name}, {_MISSING}, with memory": _mean_recalls(_with_memory(gate, question, haystack, index, gold)),
    }


def _with_memory(
    gate: Gate, question: Question, haystack: Haystack, index: PassageIndex, gold: Sequence[int], *, noted: bool = True
) -> list[dict[int, float]]:
    """Return the recalls of the other gold paragraphs as each of them is known, and ``noted`` or not."""
    recalls = []
    for known in gold:
        memory = WorkingMemory((_supporting_note(haystack, question, known),) if noted else ())
        scores = gate.probabilities(question.question, memory, index).copy()
        scores[known] = -1  # it was read, and so is no candidate
        recalls.append(_recalls(scores, [row for row in gold if row != known]))
    return recalls


def _supporting_note(haystack: Haystack, question: Question, row: int) -> Note:
    """Return the first supporting sentence of a gold document as working memory would hold it."""
    document = haystack.documents[row]
    span = haystack.supporting[question.id][document.document_id][0]
    quote = document.text[span.start : span.end]
    return Note(" ".join(quote.split()), quote, document.document_id, document.document_id, span, 1.0)


def _recalls(scores: NDArray[np.float32], gold: Sequence[int]) -> dict[int, float]:
    ranked = np.argsort(-scores, kind="stable").tolist()
    return {reach: recall_at(ranked, gold, reach) for reach in REACHES}


def _mean_recalls(recalls: Sequence[dict[int, float]]) -> dict[int, float]:
    return {reach: sum(r[reach] for r in recalls) / len(recalls) for reach in REACHES}


def _row(
    data: str, documents: int, searcher: str, recalls: Sequence[dict[int, float]], golds: Sequence[int]
) -> RetrievalRow:
    means, at_8 = _mean_recalls(recalls), bootstrap([recall[8] for recall in recalls])
    wanted = sum(golds) / len(golds) - (_MISSING in searcher)
    return RetrievalRow(
        data, documents, searcher, len(recalls), wanted, means[1], means[4], means[8], at_8.low, at_8.high
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after an error."""
    parser = argparse.ArgumentParser("python -m core.evaluation.retrieval", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--format", default="schema", choices=list(READERS))
    parser.add_argument("--pool", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--documents", nargs="+", type=int, default=[50, 200, 800], metavar="N")
    parser.add_argument("--questions", type=int, default=128, metavar="N", help="of each file [128]")
    parser.add_argument("--offset", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedder", default=DEFAULT_EMBEDDER)
    parser.add_argument(
        "--adapters", default=DEFAULT_ADAPTERS, help="whose queries the gate reads: default, none, or a folder"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    try:
        _measure_and_show(parser.parse_args(arguments))
    except CompressedMemoryError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _measure_and_show(parsed: argparse.Namespace) -> None:
    queries, rows = find_queries(parsed.adapters, parsed.embedder), list[RetrievalRow]()
    embedders = {"gate": Embedder(parsed.embedder, queries=queries)}
    if queries is not None:
        embedders["untrained gate"] = Embedder(parsed.embedder)
    with progress() as shown:
        for path in parsed.data:
            read = list(READERS[parsed.format](path))
            pool = Pool(pool_paragraphs(parsed.pool, read))
            asked = chosen(read, min(parsed.documents), parsed.offset, parsed.questions)
            task = shown.add_task(task_name(path), total=len(asked) * len(parsed.documents))
            rows += measure(
                embedders,
                asked,
                pool,
                parsed.documents,
                data=task_name(path),
                seed=parsed.seed,
                step=partial(shown.advance, task),
            )
    show("retrieval", vars(parsed), rows, parsed.json, where=machine())


if __name__ == "__main__":
    sys.exit(main())
