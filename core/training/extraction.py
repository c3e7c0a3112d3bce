"""Trains the extractor of :mod:`core.extraction`: where in some notes the answer to a question stands.

An example is a question and up to nine notes: its labelled evidence amid sentences of its own paragraphs and of those
that look like them, in any order, or only what does not say the answer, so that the extractor learns to find none. A
share of them may have notes as they are made in use instead (:mod:`core.training.noting`): the likeliest first, those
beside the evidence what the tagger took for it, and now and then without it.
Questions whose answer they offer themselves are left out: what a comparison comes to stands in no note. Everything is
drawn by (seed, index). The loss is -log p of the answer wherever the evidence says it (Devlin et al., arXiv 1810.04805,
section 4.2, summed over the places as in Clark and Gardner, arXiv 1710.10723).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ..backbone import Backbone
from ..chunking import Span
from ..embedder import Embedder
from ..errors import InputError
from ..evaluation.metrics import score_answer
from ..evaluation.withheld import names_answer, without_answer
from ..extraction import NOTES_TOKENS, Extractor, Layout, Place, extracted, lay_out, occurrences
from ..headings import titled
from ..questions import Question
from .ahead import Ahead
from .head import HeadPiece, HeadTraining
from .lessons import evidence, hops_oftener, usable_questions
from .material import Material
from .negatives import Negatives
from .noted import offered
from .noting import Noting
from .pretraining import spread
from .settings import TrainingSettings
from .shuffled import Shuffled

_EVIDENCE = 4
"""Most notes that are evidence."""
_OTHERS = (0, 1, 2, 3, 3, 4, 5)
"""Other notes, as many as is drawn from these."""
_OF_ITS_OWN = 0.5
"""Share of those that are of the question's gold paragraphs."""
_SILENT = 0.12
"""Share of the examples in which no note says the answer."""
_TITLED = 0.8
"""Share whose notes stand behind the titles of what they are from."""
_SHUFFLED = 0.5
"""Share in which evidence does not come first. In use the likeliest does."""
_TOGETHER = 8
"""Examples of like length that are read together: few, so that little is padded."""
_HELD_OUT = 384
_HELD_OUT_NOTED = 192
_DRAWS = 8
"""Times that notes are made for a place before the labels' take it."""
_BLOCK = 8
"""Examples with notes that are drawn together."""


@dataclass(frozen=True)
class Example:
    """A question and what it is answered from."""

    question: str
    notes: tuple[str, ...]
    answers: tuple[str, ...]
    """The gold answer and its aliases."""
    places: tuple[Place, ...]
    """Where the evidence says it; empty where no note does."""


class Examples:
    """An endless, seeded sequence of examples; questions of several hops come more often than others."""

    def __init__(self, questions: Sequence[Question], seed: int) -> None:
        """
        Raises:
            InputError: there is nothing to learn from.
        """
        usable = usable_questions(questions)
        self._plan = Shuffled(hops_oftener(_answered(usable)), seed)
        self._negatives = Negatives(usable)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._plan)

    def at(self, index: int) -> Example:
        """Return example ``index``; any index from 0 on has one."""
        question, epoch, place = self._plan.at(index)
        random = Random(f"{self._seed}:{epoch}:extraction:{place}")
        over, silent = random.random() < _TITLED, random.random() < _SILENT
        gold = [titled(title if over else None, said) for title, said in _evidence(question)]
        others = [self._other(question, random, over=over) for _ in range(random.choice(_OTHERS))]
        lines = list(dict.fromkeys([*gold, *(line for line in others if line)]))
        if silent:
            lines = [line for line in lines if not names_answer(question, line)]
        if random.random() < _SHUFFLED:
            random.shuffle(lines)
        return _example(question, lines, [line in gold for line in lines])

    def _other(self, question: Question, random: Random, *, over: bool) -> str | None:
        """Draw a sentence that is no evidence, of the question's own paragraphs or of others that look like them."""
        own = random.random() < _OF_ITS_OWN
        paragraph = random.choice(question.gold) if own else self._negatives.draw(question, random)
        others = [said for row, said in enumerate(paragraph.sentences) if row not in paragraph.support]
        return titled(paragraph.title if over else None, " ".join(random.choice(others).split())) if others else None


class NotedExamples:
    """An endless, seeded sequence of examples whose notes are made as in use, of the same questions as often."""

    def __init__(
        self,
        questions: Sequence[Question],
        embedder: Embedder,
        seed: int,
        *,
        withheld: float = 0.0,
        processes: int = 0,
    ) -> None:
        """
        Args:
            embedder: with a tagger.
            withheld: share of the questions whose answer is taken out of their gold paragraphs.
            processes: that make notes ahead, each with an embedder of its own; 0: a thread of this one does.

        Raises:
            InputError: it has none, or there is nothing to learn from.
        """
        usable = usable_questions(questions)
        self._noting = Noting(usable, embedder)
        self._plan = Shuffled(hops_oftener(_answered(usable)), seed, "noted")
        self._labelled = Examples(questions, seed)
        self._seed, self._withheld = seed, withheld
        device = str(embedder.model.device)
        anew = partial(_block_of, tuple(questions), embedder.name, embedder.tagger, device, seed, withheld)
        self._blocks = Ahead(self._block, processes, anew)

    def __len__(self) -> int:
        return len(self._plan)

    def at(self, index: int) -> Example:
        """Return example ``index``; any index from 0 on has one."""
        block, place = divmod(index, _BLOCK)
        return self._blocks.at(block)[place]

    def _block(self, block: int) -> list[Example]:
        return [self._drawn(block * _BLOCK + place) for place in range(_BLOCK)]

    def _drawn(self, index: int) -> Example:
        question, epoch, place = self._plan.at(index)
        random = Random(f"{self._seed}:{epoch}:noted:{place}")
        for _ in range(_DRAWS):
            withheld = random.random() < self._withheld
            gold = without_answer(question, random) if withheld else question.gold
            noted = self._noting.read(question, gold, random)
            example = _example(question, noted.lines, noted.right)
            # A note that names the answer and is not labelled may say it all the same.
            if noted.lines and (example.places or not any(names_answer(question, line) for line in noted.lines)):
                return example
        return self._labelled.at(index)


def _block_of(
    questions: Sequence[Question], embedder: str, tagger: Path | None, device: str, seed: int, withheld: float
) -> Callable[[int], list[Example]]:
    """Return what draws a block in a process that makes notes."""
    reading = Embedder(embedder, device=device, tagger=tagger)
    return NotedExamples(questions, reading, seed, withheld=withheld)._block


def _example(question: Question, lines: Sequence[str], right: Sequence[bool]) -> Example:
    """Return what there is to learn from ``lines``, of which some are ``right``."""
    places = tuple(
        Place(number, span)
        for number, line in enumerate(lines)
        if right[number]
        for span in dict.fromkeys(span for answer in question.answers for span in occurrences(answer, line))
    )
    return Example(question.question, tuple(lines), question.answers, places)


def _answered(usable: Sequence[Question]) -> list[Question]:
    """Return those whose evidence says their answer, which they do not offer themselves.

    Raises:
        InputError: there are none.
    """
    chosen = [q for q in usable if not offered(q) and _said(q, _evidence(q))]
    if not chosen:
        raise InputError("no question whose labelled evidence says its answer: see --data")
    return chosen


def _evidence(question: Question) -> list[tuple[str, str]]:
    """Return the evidence of a question, each sentence with the title over it."""
    found = [(p.title, " ".join(said.split())) for p in question.gold for said in evidence(question, p)]
    return found[:_EVIDENCE]


def _said(question: Question, found: Sequence[tuple[str, str]]) -> bool:
    return any(occurrences(answer, said) for answer in question.answers for _, said in found)


class ExtractionTraining(HeadTraining[Extractor, Example]):
    """Minimises -log p of what is labelled."""

    kind, drawn, alike, row_tokens, held_out = Extractor, Examples, _TOGETHER, NOTES_TOKENS, _HELD_OUT

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        settings: TrainingSettings,
        material: Material,
        start: Path | None = None,
    ) -> None:
        """See :class:`core.training.head.HeadTraining`.

        Args:
            embedder: with the tagger that makes the notes of the ``noted`` share of examples; needed where there is
                one.

        Raises:
            InputError: it has none, or there is nothing to learn from.
        """
        super().__init__(backbone, embedder, settings, material, start)
        self._noted: NotedExamples | None = None
        self._held_out_noted: Sequence[Example] = ()
        if settings.noted > 0:
            withheld, processes = settings.withheld, settings.noting_processes
            self._noted = NotedExamples(material.train, embedder, settings.seed, withheld=withheld, processes=processes)
            held_out = NotedExamples(material.held_out, embedder, 0, withheld=withheld)
            # Kept for all measurements, since the tagger reads to make them.
            self._held_out_noted = [held_out.at(i) for i in range(min(_HELD_OUT_NOTED, len(held_out)))]

    def _example(self, place: int) -> Example:
        noted, number = spread(place, self.settings.noted)
        return self._noted.at(number) if noted and self._noted is not None else self._examples.at(number)

    def _length(self, example: Example) -> int:
        return sum(map(len, example.notes))

    def forward(self, piece: HeadPiece[Example]) -> tuple[Tensor, dict[str, float]]:
        """See :class:`core.training.stage.Stage`."""
        laid = [lay_out(self._tokenizer, example.question, example.notes) for example in piece.examples]
        found = self.head(laid)
        losses = [loss(*one) for one in zip(found, laid, piece.examples, strict=True)]
        return torch.stack(losses).sum() / piece.in_step, {"examples": float(len(losses))}

    def evaluate(self) -> dict[str, float]:
        """Measure on held-out questions.

        Loss; F1 of the likeliest span where there is an answer; the share of those in which none is found likelier, and
        the same share where there is none. The same again where the notes were made as in use.
        """
        noted = self._measured(self._held_out_noted) if self._held_out_noted else {}
        return self._measured(self._held_out) | {f"{name}_noted": value for name, value in noted.items()}

    def _measured(self, examples: Sequence[Example]) -> dict[str, float]:
        losses, scores, silent = list[float](), list[float](), {True: list[float](), False: list[float]()}
        for example in examples:
            found = extracted(self.head, self._tokenizer, example.question, example.notes)
            losses.append(float(loss(found.log_probs, found.layout, example)))
            best, odds = found.spans[0] if found.spans else ("", found.unsaid)
            silent[bool(example.places)].append(float(found.unsaid >= odds))
            if example.places:
                scores.append(score_answer(best, example.answers).f1)
        return {
            "loss": sum(losses) / len(losses),
            "f1": sum(scores) / max(1, len(scores)),
            "declined": sum(silent[True]) / max(1, len(silent[True])),
            "declined_silent": sum(silent[False]) / max(1, len(silent[False])),
        }


def loss(log_probs: Tensor, layout: Layout, example: Example) -> Tensor:
    """Return -log p of what an example's answer is: any of its places, or that there is none.

    Args:
        log_probs: float32 [tokens, 2], of beginning and end.
    """
    read = [tokens for place in example.places if (tokens := layout.tokens(*place))]
    ends = read or [Span(0, 0)]  # what was cut off is not said either
    first, last = (torch.tensor(side, device=log_probs.device) for side in zip(*ends, strict=True))
    return -(log_probs[first, 0] + log_probs[last, 1]).logsumexp(0)
