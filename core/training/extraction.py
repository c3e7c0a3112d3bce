"""Trains the extractor of :mod:`core.extraction`: where in some notes the answer to a question stands.

An example is a question and up to nine notes: its labelled evidence amid sentences of its own paragraphs and of those
that look like them, in any order, or only what does not say the answer, so that the extractor learns to find none.
Questions whose answer they offer themselves are left out: what a comparison comes to stands in no note. Everything is
drawn by (seed, index). The loss is -log p of the answer wherever the evidence says it (Devlin et al., arXiv 1810.04805,
section 4.2, summed over the places as in Clark and Gardner, arXiv 1710.10723).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from ..chunking import Span
from ..errors import InputError
from ..evaluation.metrics import score_answer
from ..evaluation.withheld import names_answer
from ..extraction import NOTES_TOKENS, Extractor, Layout, Place, extracted, lay_out, occurrences
from ..headings import titled
from ..questions import Question
from .head import HeadPiece, HeadTraining
from .lessons import evidence, hops_oftener, usable_questions
from .negatives import Negatives
from .noted import offered
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
        chosen = [q for q in usable if not offered(q) and _said(q, _evidence(q))]
        if not chosen:
            raise InputError("no question whose labelled evidence says its answer: see --data")
        self._plan = Shuffled(hops_oftener(chosen), seed)
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
        places = tuple(
            Place(number, span)
            for number, line in enumerate(lines)
            if line in gold
            for span in dict.fromkeys(span for answer in question.answers for span in occurrences(answer, line))
        )
        return Example(question.question, tuple(lines), question.answers, places)

    def _other(self, question: Question, random: Random, *, over: bool) -> str | None:
        """Draw a sentence that is no evidence, of the question's own paragraphs or of others that look like them."""
        own = random.random() < _OF_ITS_OWN
        paragraph = random.choice(question.gold) if own else self._negatives.draw(question, random)
        others = [said for row, said in enumerate(paragraph.sentences) if row not in paragraph.support]
        return titled(paragraph.title if over else None, " ".join(random.choice(others).split())) if others else None


def _evidence(question: Question) -> list[tuple[str, str]]:
    """Return the evidence of a question, each sentence with the title over it."""
    found = [(p.title, " ".join(said.split())) for p in question.gold for said in evidence(question, p)]
    return found[:_EVIDENCE]


def _said(question: Question, found: Sequence[tuple[str, str]]) -> bool:
    return any(occurrences(answer, said) for answer in question.answers for _, said in found)


class ExtractionTraining(HeadTraining[Extractor, Example]):
    """Minimises -log p of what is labelled."""

    kind, drawn, alike, row_tokens, held_out = Extractor, Examples, _TOGETHER, NOTES_TOKENS, _HELD_OUT

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
        the same share where there is none.
        """
        losses, scores, silent = list[float](), list[float](), {True: list[float](), False: list[float]()}
        for example in self._held_out:
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
