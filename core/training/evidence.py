"""Trains the tagger of :mod:`core.evidence`: which sentences of a paragraph support the answer to a question.

An example is a question, with a note or none, and one or two paragraphs: gold ones, the question's own distractors,
or neighbours of a gold one, so that the tagger learns to find nothing too. Everything is drawn by (seed, index).
The loss is the cross-entropy of each sentence's label, the mean over the sentences of an example, so that a long
paragraph counts as much as a short one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..chunking import Span
from ..errors import InputError
from ..evidence import WINDOW_TOKENS, Tagger, Window, windows
from ..headings import titled
from ..questions import Question
from .head import HeadPiece, HeadTraining
from .lessons import evidence, hops_oftener
from .negatives import Negatives
from .shuffled import Shuffled

_GOLD = 0.6
"""Share of the examples with a gold paragraph."""
_PAIRED = 0.4
"""Share with a second paragraph, before or behind, and of those the share with a third: a chunk of a manual holds
several entries."""
_KNOWN = 0.6
"""Share of the examples of several hops in which evidence of other gold paragraphs is noted already."""
_NOISE = 0.25
"""Share with a note that does not matter, mostly one that looks as if it did: in use some are made by mistake."""
_TITLED = 0.8
_HEADINGS = ("{title}\n{text}", "{title}\n\n{text}", "# {title}\n{text}", "### {title}\n\n{text}")
"""How titles stand over paragraphs."""
_TOGETHER = 4
"""Examples of like length, and windows of them, that are read together at least: few, so that little is padded."""
_HELD_OUT = 192


@dataclass(frozen=True)
class Example:
    """A text to find evidence in."""

    question: str
    notes: tuple[str, ...]
    text: str
    evidence: frozenset[str]
    """Sentences that are evidence, blanks folded; empty where there is none."""


class Examples:
    """An endless, seeded sequence of examples; questions of several hops come more often than others."""

    def __init__(self, questions: Sequence[Question], seed: int) -> None:
        """
        Raises:
            InputError: there is nothing to learn from.
        """
        chosen = [question for question in questions if question.gold]
        if not chosen:
            raise InputError("no question with supporting sentences: see --data")
        self._plan = Shuffled(hops_oftener(chosen), seed)
        self._negatives = Negatives(chosen)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._plan)

    def at(self, index: int) -> Example:
        """Return example ``index``; any index from 0 on has one."""
        question, epoch, place = self._plan.at(index)
        random = Random(f"{self._seed}:{epoch}:evidence:{place}")
        gold = list({p.text: p for p in question.gold}.values())
        shown = [random.choice(gold)] if random.random() < _GOLD else [self._negatives.draw(question, random)]
        while len(shown) < 3 and random.random() < _PAIRED:
            shown.insert(random.randrange(len(shown) + 1), self._negatives.draw(question, random))
        others = [p for p in gold if all(p.text != s.text for s in shown)]
        over = random.choice(_HEADINGS) if random.random() < _TITLED else None
        notes: tuple[str, ...] = ()
        if len(gold) > 1 and others and random.random() < _KNOWN:
            known = random.choice(others)
            notes = tuple(titled(known.title if over else None, said) for said in evidence(question, known)[:2])
        if random.random() < _NOISE:
            negative = self._negatives.draw(question, random)
            mistaken = titled(negative.title if over else None, random.choice(negative.sentences).strip())
            notes = (*notes, mistaken) if random.random() < 0.5 else (mistaken, *notes)
        text = "\n\n".join(over.format(title=p.title, text=p.text) if over and p.title else p.text for p in shown)
        wanted = {
            " ".join(sentence.split())
            for p in gold
            if any(p.text == q.text for q in shown)
            for sentence in evidence(question, p)
        }
        # What is noted by chance may be of this very question.
        noted = tuple(note for note in notes if not any(said in " ".join(note.split()) for said in wanted))
        return Example(question.question, noted, text, frozenset(wanted))


def labels(example: Example, sentences: Sequence[Span]) -> Tensor:
    """Return float32 [sentences]: 1 for one that holds a sentence of the evidence, or is a part of one."""
    said = [" ".join(example.text[start:end].split()) for start, end in sentences]
    return torch.tensor([float(any(s in e or e in s for e in example.evidence)) for s in said])


class EvidenceTraining(HeadTraining[Tagger, Example]):
    """Minimises the cross-entropy of the sentences' labels."""

    kind, drawn, alike, row_tokens, held_out = Tagger, Examples, _TOGETHER, WINDOW_TOKENS, _HELD_OUT

    def _length(self, example: Example) -> int:
        return len(example.text)

    def forward(self, piece: HeadPiece[Example]) -> tuple[Tensor, dict[str, float]]:
        """See :class:`core.training.stage.Stage`."""
        losses = [binary_cross_entropy_with_logits(logits, wanted) for logits, wanted in self._tagged(piece.examples)]
        return torch.stack(losses).sum() / piece.in_step, {"examples": float(len(losses))}

    def evaluate(self) -> dict[str, float]:
        """Measure on held-out questions.

        Loss; precision and recall of the sentences that are taken at P > 0.5; and of the texts that hold evidence,
        the share whose likeliest sentence is.
        """
        read = [pair for part in self._parts(self._held_out) for pair in self._tagged(part)]
        loss = sum(float(binary_cross_entropy_with_logits(logits, wanted)) for logits, wanted in read) / len(read)
        logits, wanted = torch.cat([a for a, _ in read]), torch.cat([b for _, b in read])
        right = float(((logits > 0) & (wanted > 0)).sum())
        holding = [(a, b) for a, b in read if bool(b.any())]
        first = sum(float(b[a.argmax()]) for a, b in holding)
        return {
            "loss": loss,
            "precision": right / max(1.0, float((logits > 0).sum())),
            "recall": right / max(1.0, float(wanted.sum())),
            "first": first / max(1, len(holding)),
        }

    def _tagged(self, examples: Sequence[Example]) -> list[tuple[Tensor, Tensor]]:
        """Return logits and labels [sentences] of each example."""
        laid = [windows(self._tokenizer, e.question, e.notes, e.text) for e in examples]
        flat: list[Window] = [window for read in laid for window in read]
        count = self._together
        logits = iter([found for i in range(0, len(flat), count) for found in self.head(flat[i : i + count])])
        found = []
        for example, read in zip(examples, laid, strict=True):
            spans = [span for window in read for span in window.sentences]
            found.append((torch.cat([next(logits) for _ in read]), labels(example, spans).to(self.backbone.device)))
        return found
