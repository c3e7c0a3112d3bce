"""The trained side of the similarity gate: the embedder with an adapter that only queries are read through.

A question with what is noted so far is laid near the passage that is still missing, which is another one than the
passage that says the same. Passages keep the vectors of the embedder as it comes (as in RAG, arXiv 2005.11401,
which trains the query's encoder and leaves the document's alone), so no bank changes when queries are trained anew.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from .adapters import find_for_embedder
from .errors import WeightsError
from .quiet_peft import quiet_peft
from .similarity import Odds

QUERIES = "queries"
"""The folder of a query's adapter, beside those of the reasoner and the others."""
_CARD, WEIGHTS = "queries.json", "adapter_model.safetensors"


class QueryCard(BaseModel):
    """What a query's adapter fits, and what its cosines say."""

    model_config = ConfigDict(frozen=True)

    embedder: str
    slope: float
    midpoint: float

    @property
    def odds(self) -> Odds:
        """P(open) by the trained cosines."""
        return Odds(self.slope, self.midpoint)


def find_queries(adapters: str, embedder: str) -> Path | None:
    """Return the folder of the query's adapter for ``embedder``, or ``None`` where queries are read as they come.

    Args:
        adapters: as :func:`core.adapters.find_adapters` takes it. A folder without a query's adapter for this embedder
            leaves the one that ships for it, if there is one.

    Raises:
        WeightsError: the folder's adapter does not say what it fits.
    """

    def fits(folder: Path) -> bool:
        return (folder / _CARD).is_file() and read_query_card(folder).embedder == embedder

    return find_for_embedder(adapters, embedder, QUERIES, fits)


def read_query_card(folder: Path) -> QueryCard:
    """Return what the adapter in ``folder`` fits.

    Raises:
        WeightsError: the folder does not say so.
    """
    try:
        return QueryCard.model_validate_json((folder / _CARD).read_text())
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{folder / _CARD} cannot be read: {error}") from error


def query_encoder(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    """Return a copy of ``model`` with the adapter of ``folder`` merged into it, which shares the word embeddings.

    Raises:
        WeightsError: the adapter cannot be read or is of another model.
    """
    shared = model[0].auto_model.get_input_embeddings().weight
    encoder = copy.deepcopy(model, {id(shared): shared})
    _adapted(encoder, folder).merge_and_unload()  # in place
    return encoder


@dataclass(frozen=True)
class Trainable:
    """A copy of an embedder in float32 whose adapter alone takes gradients."""

    encoder: SentenceTransformer
    adapter: PeftModel
    """Around the encoder's transformer, whose linear layers it has replaced in place."""


def trainable(model: SentenceTransformer, rank: int, start: Path | None = None) -> Trainable:
    """Return a copy of ``model`` to be trained, with LoRA on all linear layers.

    Args:
        rank: of an adapter made anew; its alpha is twice that.
        start: folder of an adapter to go on from.

    Raises:
        WeightsError: that adapter cannot be read or is of another model.
    """
    encoder = copy.deepcopy(model).float()
    if start is not None:
        return Trainable(encoder, _adapted(encoder, start, trainable=True))
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with quiet_peft():
        return Trainable(encoder, get_peft_model(encoder[0].auto_model, config))


def save_queries(trained: Trainable, embedder: str, odds: Odds, folder: Path) -> None:
    """Write the adapter into ``folder``, bf16, to be found by :func:`find_queries`."""
    target = folder / QUERIES
    save_lora(trained.adapter, target)
    card = QueryCard(embedder=embedder, slope=odds.slope, midpoint=odds.midpoint)
    (target / _CARD).write_text(card.model_dump_json(indent=1) + "\n")


def save_lora(adapter: PeftModel, folder: Path) -> None:
    """Write an adapter of the embedder's transformer as ``peft`` reads it, bf16, in safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.copy(adapter.peft_config["default"])
    config.base_model_name_or_path = None  # a place on this machine
    config.save_pretrained(str(folder))
    tensors = get_peft_model_state_dict(adapter)
    halved = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in tensors.items()}
    save_file(halved, folder / WEIGHTS)


def _adapted(encoder: SentenceTransformer, folder: Path, *, trainable: bool = False) -> PeftModel:
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(f"no adapter at {folder}: it needs adapter_config.json and {WEIGHTS}")
    try:
        with quiet_peft():
            return PeftModel.from_pretrained(encoder[0].auto_model, str(folder), is_trainable=trainable)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the query's adapter in {folder} is of another model: {error}") from error
