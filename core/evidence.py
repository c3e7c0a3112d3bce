"""Which sentences of an opened chunk bear on a question, given what is noted: the embedder's transformer as a tagger.

A small reasoner tells that a text helps more surely than which of its sentences does. This reads the question and the
notes before a window of whole sentences, all in one pass with full attention, and gives each sentence a probability
(supporting facts, as the HotpotQA baseline tags them, arXiv 1809.09600, section 5.1). It is the embedder as it comes
under a LoRA adapter, with one linear layer on the mean of a sentence's states and its product with the query's.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .adapters import find_for_embedder
from .chunking import Span, sentences
from .errors import WeightsError
from .headings import behind_heading
from .query_encoder import WEIGHTS, save_lora
from .quiet_peft import quiet_peft

EVIDENCE = "evidence"
"""The folder of the tagger, beside those of the reasoner and the others."""
CARD, HEAD = "evidence.json", "head.safetensors"

QUERY_TOKENS = 160
"""Of the question and the notes together, the question first and the latest note next; what is over is not read."""
WINDOW_TOKENS = 288
"""Of a window of sentences. With the query and what separates them it stays within BERT's 512 positions."""
_TOGETHER = 16
_START_SLOPE, _START_MIDPOINT = 12.0, 0.85
"""Of P(evidence) by the cosine of sentence and query, for all-MiniLM-L6-v2: evidence lies near the midpoint, other
sentences mostly well below it, and there are several of them for each that is evidence."""
_BLOCK = 32
"""Lengths are multiples of this, because a CPU compiles its kernels anew for each shape it has not met."""


class EvidenceCard(BaseModel):
    """What a tagger fits."""

    model_config = ConfigDict(frozen=True)

    embedder: str


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


def find_tagger(adapters: str, embedder: str) -> Path | None:
    """Return the folder of the tagger for ``embedder``, or ``None`` where there is none.

    Args:
        adapters: as :func:`core.adapters.find_adapters` takes it. A folder without a tagger for this embedder leaves
            the one that ships for it, if there is one.

    Raises:
        WeightsError: the folder's tagger does not say what it fits.
    """

    def fits(folder: Path) -> bool:
        return (folder / CARD).is_file() and _read_card(folder).embedder == embedder

    return find_for_embedder(adapters, embedder, EVIDENCE, fits)


def _read_card(folder: Path) -> EvidenceCard:
    try:
        return EvidenceCard.model_validate_json((folder / CARD).read_text())
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{folder / CARD} cannot be read: {error}") from error


def windows(tokenizer: PreTrainedTokenizerBase, question: str, notes: Sequence[str], text: str) -> list[Window]:
    """Lay the sentences of ``text`` out in windows, each sentence in one, behind the question and the notes.

    Each is read behind the heading over it, which says whom or what it is about, unless it names that itself. What is
    longer than a window is read up to the window's end.
    """
    spans = sentences(text)
    if not spans:
        return []
    said = [behind_heading(text, start, end) for start, end in spans]
    query, *read = _ids(tokenizer, [" ".join((question, *reversed(notes))), *said])
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


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    read: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    return read


class Tagger(nn.Module):
    """Gives each sentence of a window the logit that it is evidence.

    The head sees the mean of a sentence's states and its product with the mean of the query's. It starts as the cosine
    of the two, which tells evidence before any training: started at zero, a head and an adapter found nothing but
    that first sentences are likelier, in 270 steps of 16 examples.
    """

    def __init__(self, transformer: nn.Module, width: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = nn.Linear(2 * width, 1)
        with torch.no_grad():
            self.head.weight[:, :width] = 0
            self.head.weight[:, width:] = _START_SLOPE / width
            self.head.bias.fill_(-_START_SLOPE * _START_MIDPOINT)

    def forward(self, read: Sequence[Window]) -> list[Tensor]:
        """Return float32 logits [sentences] of each window."""
        device = self.head.weight.device
        longest = -(-max(len(w.ids) for w in read) // _BLOCK) * _BLOCK

        def padded(rows: Sequence[Sequence[int]]) -> Tensor:
            return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)

        states = self.transformer(
            input_ids=padded([w.ids for w in read]),
            token_type_ids=padded([w.kinds for w in read]),
            attention_mask=padded([[1] * len(w.ids) for w in read]),
        ).last_hidden_state
        asked = [states[row, 1 : w.kinds.index(1) - 1].mean(0) for row, w in enumerate(read) for _ in w.tokens]
        said = [states[row, start:end].mean(0) for row, w in enumerate(read) for start, end in w.tokens]
        with torch.autocast(device.type, enabled=False):
            queries, means = (self._unit(torch.stack(vectors)) for vectors in (asked, said))
            logits = self.head(torch.cat((means, means * queries), dim=1)).squeeze(1)
        return list(logits.split([len(w.tokens) for w in read]))

    def _unit(self, vectors: Tensor) -> Tensor:
        """Scale to a mean square of one, so that the mean of a product is a cosine."""
        vectors = vectors.to(self.head.weight.dtype)
        return normalize(vectors, dim=1) * vectors.shape[1] ** 0.5


def new_tagger(model: SentenceTransformer, rank: int, start: Path | None = None) -> Tagger:
    """Return a tagger to be trained, in float32: a copy of ``model`` with LoRA on all linear layers.

    Args:
        rank: of an adapter made anew; its alpha is twice that.
        start: folder of a tagger to go on from.

    Raises:
        WeightsError: that tagger cannot be read or is of another model.
    """
    transformer = copy.deepcopy(model[0].auto_model).float()
    # Its backward pass takes half the time of the fused attention's on a CPU.
    transformer.set_attn_implementation("eager")
    if start is not None:
        return _loaded(transformer, start, trainable=True)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with quiet_peft():
        return Tagger(get_peft_model(transformer, config), transformer.config.hidden_size)


def load_tagger(model: SentenceTransformer, folder: Path) -> Tagger:
    """Return the tagger of ``folder`` merged into a copy of ``model``, which shares the word embeddings.

    Raises:
        WeightsError: it cannot be read or is of another model.
    """
    shared = model[0].auto_model.get_input_embeddings().weight
    tagger = _loaded(copy.deepcopy(model[0].auto_model, {id(shared): shared}), folder)
    tagger.transformer = tagger.transformer.merge_and_unload()  # type: ignore[operator]
    return tagger.requires_grad_(False).eval()


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits of the tagger in ``folder``."""
    parts = [(folder / name).read_bytes() for name in (WEIGHTS, HEAD)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _loaded(transformer: PreTrainedModel, folder: Path, *, trainable: bool = False) -> Tagger:
    for name in (WEIGHTS, HEAD):
        if not (folder / name).is_file():
            raise WeightsError(f"no tagger at {folder}: it needs adapter_config.json, {WEIGHTS} and {HEAD}")
    width = int(transformer.config.hidden_size)
    try:
        with quiet_peft():
            tagger = Tagger(PeftModel.from_pretrained(transformer, str(folder), is_trainable=trainable), width)
        tagger.head.load_state_dict(load_file(folder / HEAD))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"the tagger in {folder} is of another model, or damaged: {error}") from error
    return tagger.to(next(transformer.parameters()).device)


def save_tagger(tagger: Tagger, embedder: str, folder: Path) -> None:
    """Write a tagger under training into ``folder``, bf16, to be found by :func:`find_tagger`."""
    target, adapter = folder / EVIDENCE, tagger.transformer
    assert isinstance(adapter, PeftModel)  # noqa: S101 - made by new_tagger
    save_lora(adapter, target)
    head = {name: value.detach().cpu().contiguous() for name, value in tagger.head.state_dict().items()}
    save_file(head, target / HEAD)
    (target / CARD).write_text(EvidenceCard(embedder=embedder).model_dump_json(indent=1) + "\n")


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
