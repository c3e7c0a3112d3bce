"""Which sentences of an opened chunk bear on a question, given what is noted: the embedder's transformer as a tagger.

A small reasoner tells that a text helps more surely than which of its sentences does. This reads the question and the
notes before a window of whole sentences, all in one pass with full attention, and gives each sentence a probability
(supporting facts, as the HotpotQA baseline tags them, arXiv 1809.09600, section 5.1). It is the embedder as it comes
under a LoRA adapter, with one linear layer on the mean of a sentence's states and its product with the query's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from .chunking import Span, sentences
from .embedder_head import EmbedderHead, ids_of
from .headings import behind_heading

EVIDENCE = "evidence"
"""The folder of the tagger, beside those of the reasoner and the others."""
QUERY_TOKENS = 160
"""Of the question and the notes together, the question first and the latest note next; what is over is not read."""
WINDOW_TOKENS = 288
"""Of a window of sentences. With the query and what separates them it stays within BERT's 512 positions."""
_TOGETHER = 16
_START_SLOPE, _START_MIDPOINT = 12.0, 0.85
"""Of P(evidence) by the cosine of sentence and query, for all-MiniLM-L6-v2: evidence lies near the midpoint, other
sentences mostly well below it, and there are several of them for each that is evidence."""


@dataclass(frozen=True)
class Window:
    """Sentences that are read together, behind a query."""

    ids: tuple[int, ...]
    kinds: tuple[int, ...]
    """Token types: 0 for the query, 1 for the text."""
    sentences: tuple[Span, ...]
    """Characters of each in the text."""
    tokens: tuple[Span, ...]
    """Where each stands in ``ids``."""


def windows(tokenizer: PreTrainedTokenizerBase, question: str, notes: Sequence[str], text: str) -> list[Window]:
    """Lay the sentences of ``text`` out in windows, each sentence in one, behind the question and the notes.

    Each is read behind the heading over it, which says whom or what it is about, unless it names that itself. What is
    longer than a window is read up to the window's end.
    """
    spans = sentences(text)
    if not spans:
        return []
    said = [behind_heading(text, start, end) for start, end in spans]
    query, *read = ids_of(tokenizer, [" ".join((question, *reversed(notes))), *said])
    begun = [tokenizer.cls_token_id, *query[:QUERY_TOKENS], tokenizer.sep_token_id]
    found, group, used = list[Window](), list[int](), 0
    for row, ids in enumerate(read):
        size = min(len(ids), WINDOW_TOKENS)
        if group and used + size > WINDOW_TOKENS:
            found.append(_window(tokenizer, begun, spans, read, group))
            group, used = [], 0
        group.append(row)
        used += size
    return [*found, _window(tokenizer, begun, spans, read, group)]


def _window(
    tokenizer: PreTrainedTokenizerBase,
    begun: list[int],
    spans: Sequence[Span],
    read: Sequence[list[int]],
    group: Sequence[int],
) -> Window:
    ids, places = list(begun), list[Span]()
    for row in group:
        places.append(Span(len(ids), len(ids) + min(len(read[row]), WINDOW_TOKENS)))
        ids += read[row][:WINDOW_TOKENS]
    ids.append(tokenizer.sep_token_id)
    kinds = [0] * len(begun) + [1] * (len(ids) - len(begun))
    return Window(tuple(ids), tuple(kinds), tuple(spans[row] for row in group), tuple(places))


class Tagger(EmbedderHead):
    """Gives each sentence of a window the logit that it is evidence.

    The head sees the mean of a sentence's states and its product with the mean of the query's. It starts as the cosine
    of the two, which tells evidence before any training: started at zero, a head and an adapter found nothing but
    that first sentences are likelier, in 270 steps of 16 examples.
    """

    kind: ClassVar[str] = EVIDENCE
    noun: ClassVar[str] = "tagger"

    @classmethod
    def on(cls, transformer: nn.Module, width: int) -> Self:
        """See :meth:`core.embedder_head.EmbedderHead.on`."""
        head = nn.Linear(2 * width, 1)
        with torch.no_grad():
            head.weight[:, :width] = 0
            head.weight[:, width:] = _START_SLOPE / width
            head.bias.fill_(-_START_SLOPE * _START_MIDPOINT)
        return cls(transformer, head)

    def forward(self, read: Sequence[Window]) -> list[Tensor]:
        """Return float32 logits [sentences] of each window."""
        states = self.states(read)
        asked = [states[row, 1 : w.kinds.index(1) - 1].mean(0) for row, w in enumerate(read) for _ in w.tokens]
        said = [states[row, start:end].mean(0) for row, w in enumerate(read) for start, end in w.tokens]
        with torch.autocast(self.device.type, enabled=False):
            queries, means = (self._unit(torch.stack(vectors)) for vectors in (asked, said))
            logits = self.head(torch.cat((means, means * queries), dim=1)).squeeze(1)
        return list(logits.split([len(w.tokens) for w in read]))

    def _unit(self, vectors: Tensor) -> Tensor:
        """Scale to a mean square of one, so that the mean of a product is a cosine."""
        vectors = vectors.to(self.head.weight.dtype)
        return normalize(vectors, dim=1) * vectors.shape[1] ** 0.5


def tagged(
    tagger: Tagger, tokenizer: PreTrainedTokenizerBase, question: str, notes: Sequence[str], text: str
) -> list[tuple[Span, float]]:
    """Return each sentence of ``text``, in order, with the probability that it is evidence."""
    laid, found = windows(tokenizer, question, notes, text), list[tuple[Span, float]]()
    with torch.inference_mode():
        for first in range(0, len(laid), _TOGETHER):
            read = laid[first : first + _TOGETHER]
            for window, logits in zip(read, tagger(read), strict=True):
                found += zip(window.sentences, logits.sigmoid().tolist(), strict=True)
    return found
