"""The gate's cheap kind: what is trained is how a question with what is known so far is embedded, and nothing else.

The tuples are those of :mod:`core.training.gate`: question, a note or none, and the passages that hold what is still
missing. But passages keep their vectors, so a step compares every query with every passage there is at the price
of one matrix product, and need not choose which negatives are hard. The loss is the cross-entropy of the softmax over
all of them; what a cosine then says of one passage is fitted on held-out questions, as
:mod:`core.training.calibration` does for the other kinds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..adapters import save_adapters
from ..backbone import Backbone
from ..embedder import Embedder
from ..errors import InputError
from ..query_encoder import Trainable, save_queries, trainable
from ..questions import Paragraph, Question
from ..similarity import UNTRAINED, Odds
from ..vector_file import VectorFile
from .calibration import fitted
from .lessons import evidence
from .material import Material
from .settings import TrainingSettings
from .shuffled import Shuffled
from .stage import Stage

_NOTED, _NOISE = 0.6, 0.2
"""Share of the questions of several hops that are asked with one of them known; of the others, with a stray note."""
_HOPS_TWICE = 2
"""How often more than others a question of several hops comes: there are few, and they need a memory."""
_NOTE_CHARACTERS = 400
_TOGETHER = 16
_HELD_OUT = 128
_REACHES = (1, 4, 8)
_STRANGERS = 200
"""Passages beside what is wanted from which P(open) is fitted."""
_LOST = 0.05
"""Share of the held-out passages that are wanted to which the gate gives less than 0.5."""
_DEEP = 64
"""Passages that are looked at to find the nearest eight paragraphs, which have several each."""
_START_SCALE = 20.0
"""Of cosines before the softmax; it is trained too."""


@dataclass(frozen=True, eq=False)
class Passages:
    """Every passage of every paragraph that the questions came with."""

    vectors: Tensor
    """float32 [passages, dimension], unit vectors as a bank has them."""
    owners: NDArray[np.int64]
    """[passages], the paragraph that each is of."""
    rows: Mapping[str, tuple[int, ...]]
    """The passages of each paragraph, by its document."""
    texts: tuple[str, ...]
    """Blanks folded."""


def read_passages(
    questions: Sequence[Question], embedder: Embedder, file: Path, step: Callable[[int, int], None] = lambda *_: None
) -> Passages:
    """Cut and embed the paragraphs of ``questions``; vectors are kept in ``file``, so that it is done once.

    Args:
        step: called with how many passages are embedded, and of how many.
    """
    documents = list(dict.fromkeys(p.document for question in questions for p in question.paragraphs))
    cut = [[document[s.start : s.end] for s in embedder.passages(document)] for document in documents]
    texts = [text for passages in cut for text in passages]
    vectors, done = VectorFile(file, embedder.dimension), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        step(done, len(texts))

    vectors.fill(texts, embedder, advance)
    ends = np.cumsum([len(passages) for passages in cut]).tolist()
    rows = {
        document: tuple(range(end - len(passages), end))
        for document, passages, end in zip(documents, cut, ends, strict=True)
    }
    return Passages(
        torch.from_numpy(np.stack([vectors[text] for text in texts])),
        np.repeat(np.arange(len(cut)), [len(passages) for passages in cut]),
        rows,
        tuple(" ".join(text.split()) for text in texts),
    )


@dataclass(frozen=True)
class Query:
    """What is asked, and which passages are right."""

    text: str
    wanted: tuple[int, ...]
    aside: tuple[int, ...]
    """Passages that count neither way: read already, or beside the evidence in a gold paragraph."""


class Queries:
    """An endless, seeded sequence of queries; those of several hops come more often than others."""

    def __init__(self, questions: Sequence[Question], passages: Passages, seed: int) -> None:
        """
        Raises:
            InputError: there is nothing to learn from.
        """
        self._questions = [question for question in questions if question.gold]
        if not self._questions:
            raise InputError("no question with supporting sentences: see --data")
        several = [question for question in self._questions if len(question.gold) > 1]
        self._plan = Shuffled([*self._questions, *_HOPS_TWICE * several], seed)
        self._passages, self._seed = passages, seed

    def at(self, index: int) -> Query:
        """Return query ``index``; any index from 0 on has one."""
        question, epoch, place = self._plan.at(index)
        random = Random(f"{self._seed}:{epoch}:query:{place}")
        gold = list({p.document: p for p in question.gold}.values())
        if len(gold) > 1 and random.random() < _NOTED:
            known = random.choice(gold)
            return noted_query(self._passages, question, known, sentences=1 + (random.random() >= 0.7))
        stray = random.choice(random.choice(self._questions).gold[0].supporting) if random.random() < _NOISE else None
        return query(self._passages, question, gold, stray)


def noted_query(passages: Passages, question: Question, known: Paragraph, sentences: int = 1) -> Query:
    """Return what is asked once ``known``, one of several gold paragraphs, is read: the others are wanted."""
    missing = [p for p in question.gold if p.document != known.document]
    return query(passages, question, missing, " ".join(evidence(question, known)[:sentences]))


def query(passages: Passages, question: Question, wanted: Sequence[Paragraph], note: str | None = None) -> Query:
    """Return ``question`` with a note, as :func:`core.gate.nearness` joins them, and the passages of ``wanted``."""
    right = tuple(row for p in wanted for row in _holding(passages, question, p))
    gold = (row for p in question.gold for row in passages.rows[p.document])
    text = f"{question.question} {note[:_NOTE_CHARACTERS]}" if note else question.question
    return Query(text, right, tuple(dict.fromkeys(row for row in gold if row not in right)))


def _holding(passages: Passages, question: Question, paragraph: Paragraph) -> Sequence[int]:
    """Return the passages of ``paragraph`` that its evidence begins in; all, where none is found in them."""
    rows = passages.rows[paragraph.document]
    begun = [" ".join(sentence.split())[:60] for sentence in evidence(question, paragraph)]
    return [row for row in rows if any(start in passages.texts[row] for start in begun)] or rows


def _held_out(questions: Sequence[Question], passages: Passages) -> dict[str, list[Query]]:
    """Return what is measured: whole questions, and what is missing of those of several hops once one is known."""
    asked = _spread([question for question in questions if question.gold])
    several = _spread([q for q in questions if len({p.document for p in q.gold}) > 1])
    found = {
        "question": [query(passages, question, question.gold) for question in asked],
        "missing": [noted_query(passages, question, question.gold[0]) for question in several],
    }
    return {name: queries for name, queries in found.items() if queries}


def _spread(questions: Sequence[Question]) -> Sequence[Question]:
    """Return so many questions, of every file alike."""
    return questions[:: -(-len(questions) // _HELD_OUT) or 1]


@dataclass(frozen=True)
class QueryPiece:
    """Queries that are read together, and how many there are in the step."""

    queries: tuple[Query, ...]
    in_step: int


class QueryTraining(Stage[QueryPiece]):
    """Minimises the cross-entropy of the passages that a query wants among all passages."""

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        settings: TrainingSettings,
        material: Material,
        passages: Passages,
        start: Path | None = None,
    ) -> None:
        """
        Args:
            backbone: whose adapters are written beside the query's, for use; it reads nothing.
            embedder: as it comes.
            start: folder of a query's adapter to go on from.
        """
        super().__init__()
        trained = trainable(embedder.model, settings.rank, start)
        self.encoder = trained.encoder
        self.__dict__["trained"] = trained
        self.trained: Trainable
        self.log_scale = nn.Parameter(torch.tensor(_START_SCALE).log())
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings, self._embedder, self._passages = settings, embedder, passages
        self._queries = Queries(material.train, passages, settings.seed)
        self._held_out = _held_out(material.held_out, passages)
        self._odds: Odds | None = None
        self.to(backbone.device)
        # Not a buffer: every process has the same, and would be sent it at each step.
        self._vectors = passages.vectors.to(backbone.device)

    def work(self, step: int, process: int, processes: int) -> Sequence[QueryPiece]:
        """See :class:`core.training.stage.Stage`."""
        batch = self.settings.batch
        queries = [self._queries.at(step * batch + i) for i in range(batch)][process::processes]
        return [QueryPiece(tuple(queries[i : i + _TOGETHER]), batch) for i in range(0, len(queries), _TOGETHER)]

    def forward(self, piece: QueryPiece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`core.training.stage.Stage`."""
        read = self._read([q.text for q in piece.queries])
        with torch.autocast(read.device.type, enabled=False):
            scores = self.log_scale.exp() * (read @ self._vectors.T)
        right, aside = torch.zeros((2, *scores.shape), dtype=torch.bool, device=scores.device)
        for row, asked in enumerate(piece.queries):
            right[row, list(asked.wanted)] = True
            aside[row, list(asked.aside)] = True
        scores = scores.masked_fill(aside, -torch.inf)
        loss = scores.logsumexp(1) - scores.masked_fill(~right, -torch.inf).logsumexp(1)
        return loss.sum() / piece.in_step, {"queries": float(len(piece.queries))}

    def evaluate(self) -> dict[str, float]:
        """Measure on held-out questions, among the passages of all questions.

        Share of the wanted paragraphs among the first k, for the question alone and for what is missing once one gold
        paragraph is known; each beside the embedder as it comes.
        """
        found: dict[str, float] = {}
        for name, asked in self._held_out.items():
            texts = [q.text for q in asked]
            cosines = self._cosines(
                torch.cat([self._read(texts[i : i + _TOGETHER]) for i in range(0, len(texts), _TOGETHER)]).cpu()
            )
            plain = self._cosines(torch.from_numpy(self._embedder.embed(texts)))
            for k in _REACHES:
                found[f"{name}_recall_at_{k}"] = self._recall(cosines, asked, k)
                found[f"{name}_recall_at_{k}_untrained"] = self._recall(plain, asked, k)
        self._odds = self._fitted()
        return found

    def save(self, folder: Path) -> None:
        """Write the query's adapter, calibrated on what is held out, and every other there is."""
        if self._odds is None:
            self.eval()
            with torch.no_grad():
                self._odds = self._fitted()
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        save_queries(self.trained, self._embedder.name, self._odds, folder)

    def _read(self, texts: Sequence[str]) -> Tensor:
        """Embed queries with gradient, float32 [texts, dimension]."""
        limits = {"padding": True, "truncation": True, "max_length": self.encoder.max_seq_length}
        features = dict(self.encoder.tokenizer(list(texts), return_tensors="pt", **limits).to(self.backbone.device))
        return normalize(cast(Tensor, self.encoder(features)["sentence_embedding"]).float(), dim=1)

    def _cosines(self, read: Tensor) -> Tensor:
        return read @ self._passages.vectors.T

    def _recall(self, cosines: Tensor, asked: Sequence[Query], k: int) -> float:
        """Return the share of the wanted paragraphs that are among the ``k`` nearest, mean over queries."""
        owners, shares = self._passages.owners, list[float]()
        for row, query in zip(cosines, asked, strict=True):
            row[list(query.aside)] = -torch.inf
            nearest = owners[row.topk(min(len(row), _DEEP)).indices.numpy()]
            first = set(list(dict.fromkeys(nearest.tolist()))[:k])
            wanted = {int(owners[place]) for place in query.wanted}
            shares.append(len(first & wanted) / len(wanted))
        return sum(shares) / len(shares)

    def _fitted(self) -> Odds:
        """Return what a cosine says: the slope is fitted to tell wanted passages from a haystack's others, and the
        midpoint is low enough to lose few of them, because the rank is what keeps reading short."""
        cosines, holds = list[Tensor](), list[Tensor]()
        everything = range(len(self._passages.texts))
        for number, query in enumerate(q for asked in self._held_out.values() for q in asked):
            drawn = Random(f"odds:{number}").sample(everything, min(_STRANGERS, len(everything)))
            strangers = [row for row in drawn if row not in (*query.wanted, *query.aside)]
            cosines.append(self._cosines(self._read([query.text]).cpu())[0][[*query.wanted, *strangers]])
            holds.append(torch.tensor([1.0] * len(query.wanted) + [0.0] * len(strangers)))
        found, wanted = torch.cat(cosines), torch.cat(holds)
        scale = fitted(UNTRAINED.slope * found, wanted, self.settings.positive_weight).scale
        return Odds(scale * UNTRAINED.slope, float(found[wanted > 0].quantile(_LOST)))
