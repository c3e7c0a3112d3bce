"""Where in the notes the answer to a question stands: the embedder's transformer as an extractive reader.

A small decoder that answers from several notes often takes the wrong one, or half of a name. This reads the question
and all notes in one pass with full attention and gives each span of them a probability, and one that none of them says
it (BERT for SQuAD 1.1 and 2.0: Devlin et al., arXiv 1810.04805, section 4). It is the embedder as it comes under a LoRA
adapter, with one linear layer that gives each token the logits that an answer begins and ends there. What both readers
together find likeliest is the answer (:mod:`core.reader_fusion`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .chunking import Span
from .embedder_head import AS_DATA, EmbedderHead, ids_of

QUESTION_TOKENS = 96
"""Of the question; what is over is not read."""
NOTES_TOKENS = 480
"""Of question and notes together, within BERT's 512 positions. The last notes are the least likely ones."""
SPAN_TOKENS = 24
"""Of the longest answer."""
CANDIDATES = 8
"""Spans that are taken into account."""
_ENDS = 16
"""Likeliest beginnings, and ends, that spans are made of."""
_UNSAID = -12.0
"""log p of an answer that stands in no note."""
_CLOSED = -1e4
"""Logit of what no answer can begin or end at."""


class Place(NamedTuple):
    """Where a token stands in the notes."""

    note: int
    span: Span


@dataclass(frozen=True)
class Layout:
    """A question and notes as they are read."""

    ids: tuple[int, ...]
    kinds: tuple[int, ...]
    """Token types: 0 for the question, 1 for the notes."""
    places: tuple[Place | None, ...]
    """Of each token; ``None`` for one of the question or between notes."""

    def tokens(self, note: int, span: Span) -> Span | None:
        """Return the first and the last token of ``span`` of a note; ``None``: it was not read, or cuts through one."""
        places = [(i, p.span) for i, p in enumerate(self.places) if p and p.note == note]
        held = [i for i, place in places if place.start < span.end and span.start < place.end]
        if not held:
            return None
        first, last = self.places[held[0]], self.places[held[-1]]
        whole = first and last and (first.span.start, last.span.end) == (span.start, span.end)
        return Span(held[0], held[-1]) if whole else None


def lay_out(tokenizer: PreTrainedTokenizerBase, question: str, notes: Sequence[str]) -> Layout:
    """Lay ``notes`` out behind the ``question``, as many as there is room for; the last one up to there."""
    (query,) = ids_of(tokenizer, [question])
    ids = [tokenizer.cls_token_id, *query[:QUESTION_TOKENS], tokenizer.sep_token_id]
    kinds, places = [0] * len(ids), list[Place | None]([None] * len(ids))
    for number, note in enumerate(notes):
        room = NOTES_TOKENS - len(ids) - 1
        if room <= 0:
            break
        read = tokenizer(note, return_offsets_mapping=True, **AS_DATA)
        ids += [*read["input_ids"][:room], tokenizer.sep_token_id]
        places += [*(Place(number, Span(*span)) for span in read["offset_mapping"][:room]), None]
        kinds += [1] * (len(ids) - len(kinds))
    return Layout(tuple(ids), tuple(kinds), tuple(places))


class Extractor(EmbedderHead):
    """Gives each token of the notes log p that the answer begins, and ends, there; the first one: that none does."""

    kind: ClassVar[str] = "extractor"
    noun: ClassVar[str] = "extractor"

    @classmethod
    def on(cls, transformer: nn.Module, width: int) -> Self:
        """See :meth:`core.embedder_head.EmbedderHead.on`."""
        return cls(transformer, nn.Linear(width, 2))

    def forward(self, read: Sequence[Layout]) -> list[Tensor]:
        """Return log p of beginning and end, float32 [tokens, 2], of each layout; each of the two sums to 1."""
        states = self.states(read)
        with torch.autocast(self.device.type, enabled=False):
            logits = self.head(states.to(self.head.weight.dtype)).float()
            found = []
            for row, layout in enumerate(read):
                shut = [number > 0 and place is None for number, place in enumerate(layout.places)]
                held = logits[row, : len(layout.ids)]
                held = held.masked_fill(torch.tensor(shut, device=held.device)[:, None], _CLOSED)
                found.append(torch.log_softmax(held, dim=0))
        return found


@dataclass(frozen=True)
class Extraction:
    """What an extractor finds in some notes."""

    notes: tuple[str, ...]
    spans: tuple[tuple[str, float], ...]
    """Up to :data:`CANDIDATES` answers as a note words them, the likeliest first, with log p, over all places where
    they were found."""
    unsaid: float
    """log p that no note says it."""
    layout: Layout
    log_probs: Tensor
    """float32 [tokens, 2]."""

    def log_prob(self, answer: str) -> float:
        """Return log p of ``answer`` wherever it stands in the notes, in any case; very little where it does not."""
        if (held := dict(self.spans).get(answer)) is not None:
            return held
        found = [
            self.log_probs[tokens.start, 0] + self.log_probs[tokens.end, 1]
            for number, note in enumerate(self.notes)
            for span in occurrences(answer, note)
            if (tokens := self.layout.tokens(number, span))
        ]
        return max(_UNSAID, float(torch.stack(found).logsumexp(0))) if found else _UNSAID


def occurrences(said: str, text: str) -> list[Span]:
    """Return where ``said`` stands in ``text`` as whole words, in any case, with any blanks."""
    wanted = r"\s+".join(re.escape(word) for word in said.split())
    found = re.finditer(rf"(?<!\w){wanted}(?!\w)", text, re.IGNORECASE) if wanted else ()
    return [Span(*match.span()) for match in found]


def extracted(
    extractor: Extractor, tokenizer: PreTrainedTokenizerBase, question: str, notes: Sequence[str]
) -> Extraction:
    """Find the likeliest answers to ``question`` in ``notes``."""
    layout = lay_out(tokenizer, question, notes)
    with torch.inference_mode():
        log_probs = extractor([layout])[0].cpu()
    begins, ends = (log_probs[:, side].topk(min(_ENDS, len(log_probs))).indices.tolist() for side in (0, 1))
    odds: dict[str, list[Tensor]] = {}
    for first in begins:
        for last in ends:
            begun, ended = layout.places[first], layout.places[last]
            if begun and ended and begun.note == ended.note and first <= last < first + SPAN_TOKENS:
                said = notes[begun.note][begun.span.start : ended.span.end]
                odds.setdefault(said, []).append(log_probs[first, 0] + log_probs[last, 1])
    whole = {said: float(torch.stack(found).logsumexp(0)) for said, found in odds.items()}
    best = sorted(whole.items(), key=lambda pair: -pair[1])[:CANDIDATES]
    return Extraction(tuple(notes), tuple(best), float(log_probs[0].sum()), layout, log_probs)
