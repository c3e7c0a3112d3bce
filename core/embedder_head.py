"""The embedder's transformer under a LoRA adapter with one linear layer on its states: what tagger and extractor share.

Each reads a question and text in one pass with full attention, for which a small encoder is better than a decoder of
several times its size.
"""

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .adapters import find_for_embedder
from .errors import WeightsError
from .query_encoder import WEIGHTS, save_lora
from .quiet_peft import quiet_peft

HEAD = "head.safetensors"
AS_DATA = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
"""How text is tokenized as data: nothing in it becomes a control token, no token is added."""
_BLOCK = 32
"""Lengths are multiples of this, because a CPU compiles its kernels anew for each shape it has not met."""


class HeadCard(BaseModel):
    """What a head fits."""

    model_config = ConfigDict(frozen=True)

    embedder: str


class Read(Protocol):
    """What is read in one row."""

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def kinds(self) -> tuple[int, ...]:
        """Token types: 0 for the query, 1 for the text."""
        ...


class EmbedderHead(nn.Module):
    """A transformer and a linear layer on its states; a kind of head says what the layer sees and says."""

    kind: ClassVar[str]
    """The folder of its weights, beside those of the reasoner and the others, and the name of its card."""
    noun: ClassVar[str]
    """What it is called in an error."""

    def __init__(self, transformer: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.transformer, self.head = transformer, head

    @classmethod
    @abstractmethod
    def on(cls, transformer: nn.Module, width: int) -> Self:
        """Return an untrained head on a ``transformer`` whose states are ``width`` wide."""

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def states(self, read: Sequence[Read]) -> Tensor:
        """Return the transformer's states [rows, tokens, width], as many tokens as the longest row has, or more."""
        longest = -(-max(len(row.ids) for row in read) // _BLOCK) * _BLOCK

        def padded(rows: Sequence[Sequence[int]]) -> Tensor:
            return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)

        states: Tensor = self.transformer(
            input_ids=padded([row.ids for row in read]),
            token_type_ids=padded([row.kinds for row in read]),
            attention_mask=padded([[1] * len(row.ids) for row in read]),
        ).last_hidden_state
        return states


_Head = TypeVar("_Head", bound=EmbedderHead)


def ids_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize ``texts`` as data, see :data:`AS_DATA`."""
    read: list[list[int]] = tokenizer(list(texts), **AS_DATA)["input_ids"]
    return read


def find_head(kind: type[EmbedderHead], adapters: str, embedder: str) -> Path | None:
    """Return the folder of the head of this ``kind`` for ``embedder``, or ``None`` where there is none.

    Args:
        adapters: as :func:`core.adapters.find_adapters` takes it. A folder without one for this embedder leaves the one
            that ships for it, if there is one.

    Raises:
        WeightsError: the folder's does not say what it fits.
    """

    return find_for_embedder(adapters, embedder, kind.kind, lambda folder: embedder_of(kind, folder) == embedder)


def embedder_of(kind: type[EmbedderHead], folder: Path) -> str | None:
    """Return what the head of this ``kind`` in its ``folder`` fits; ``None``: there is none.

    Raises:
        WeightsError: it does not say what it fits.
    """
    card = folder / _card(kind)
    if not card.is_file():
        return None
    try:
        return HeadCard.model_validate_json(card.read_text()).embedder
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{card} cannot be read: {error}") from error


def new_head(kind: type[_Head], model: SentenceTransformer, rank: int, start: Path | None = None) -> _Head:
    """Return a head to be trained, in float32: a copy of ``model`` with LoRA on all linear layers.

    Args:
        rank: of an adapter made anew; its alpha is twice that.
        start: folder of a head to go on from.

    Raises:
        WeightsError: that one cannot be read or is of another model.
    """
    transformer = copy.deepcopy(model[0].auto_model).float()
    # Its backward pass takes half the time of the fused attention's on a CPU.
    transformer.set_attn_implementation("eager")
    if start is not None:
        return _loaded(kind, transformer, start, trainable=True)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with quiet_peft():
        return kind.on(get_peft_model(transformer, config), transformer.config.hidden_size)


def load_head(kind: type[_Head], model: SentenceTransformer, folder: Path) -> _Head:
    """Return the head of ``folder`` merged into a copy of ``model``, which shares the word embeddings.

    Raises:
        WeightsError: it cannot be read or is of another model.
    """
    shared = model[0].auto_model.get_input_embeddings().weight
    head = _loaded(kind, copy.deepcopy(model[0].auto_model, {id(shared): shared}), folder)
    head.transformer = head.transformer.merge_and_unload()  # type: ignore[operator]
    return head.requires_grad_(False).eval()


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits of the head in ``folder``."""
    parts = [(folder / name).read_bytes() for name in (WEIGHTS, HEAD)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def save_head(head: EmbedderHead, embedder: str, folder: Path) -> None:
    """Write a head under training into ``folder``, its adapter in bf16, to be found by :func:`find_head`."""
    target, adapter = folder / head.kind, head.transformer
    assert isinstance(adapter, PeftModel)  # noqa: S101 - made by new_head
    save_lora(adapter, target)
    layer = {name: value.detach().cpu().contiguous() for name, value in head.head.state_dict().items()}
    save_file(layer, target / HEAD)
    (target / _card(type(head))).write_text(HeadCard(embedder=embedder).model_dump_json(indent=1) + "\n")


def _card(kind: type[EmbedderHead]) -> str:
    return f"{kind.kind}.json"


def _loaded(kind: type[_Head], transformer: PreTrainedModel, folder: Path, *, trainable: bool = False) -> _Head:
    for name in (WEIGHTS, HEAD):
        if not (folder / name).is_file():
            raise WeightsError(f"no {kind.noun} at {folder}: it needs adapter_config.json, {WEIGHTS} and {HEAD}")
    width = int(transformer.config.hidden_size)
    try:
        with quiet_peft():
            head = kind.on(PeftModel.from_pretrained(transformer, str(folder), is_trainable=trainable), width)
        head.head.load_state_dict(load_file(folder / HEAD))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"the {kind.noun} in {folder} is of another model, or damaged: {error}") from error
    return head.to(next(transformer.parameters()).device)
