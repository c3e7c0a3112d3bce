"""Scores chunks from their slots, after training: with the whole prompt, or with a few probe tokens.

Both put the cosine of the embeddings beside the hidden state, scaled as in
:class:`core.gate.SimilarityGate`, so that training starts where the retriever is.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .backbone import Backbone
from .errors import WeightsError
from .generation import left_padded
from .kv_cache import Slots, gather_slots, open_slots
from .similarity import UNTRAINED

HEAD = Path("gate", "head.safetensors")
"""Where a folder of adapters keeps what a gate has beside its adapter."""
_PROBES_START = " Does the text help to answer it?"

Batch = tuple[list[Slots], Tensor]
"""The slots of some chunks, and their cosines, float32 [chunks]."""


class SlotGate(nn.Module):
    """P(open | question, memory, slots) as in LycheeMemory, section 3: slots first, then the whole prompt; the last
    token's hidden state through a linear layer and a sigmoid."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        # Not registered as a submodule: the backbone's weights are not the gate's to move or save.
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.head = _starting_head(backbone)

    def scores(self, prompt: str, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Yield what :meth:`forward` returns for each of ``batches``."""
        for slots, cosines in batches:
            yield self.forward(slots, prompt, cosines)

    def forward(self, slots: list[Slots], prompt: str, cosines: Tensor) -> Tensor:
        """Score chunks together.

        Args:
            slots: of each chunk.
            prompt: the question and the notes, as :func:`core.prompts.gate_prompt` writes them.
            cosines: float32 [chunks].

        Returns:
            float32 [chunks], logits of P(open), the same as each chunk's alone.
        """
        backbone = self.backbone
        prefix = open_slots(
            [[s] for s in slots], backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype
        )
        ids, mask, positions = left_padded([backbone.encode(prompt)] * len(slots), prefix)
        with backbone.using("gate"):
            hidden, _ = backbone.hidden(ids, mask, positions, prefix)
        return _logits(self.head, hidden[:, -1], cosines)


class ProbeGate(nn.Module):
    """P(open | question, memory, slots) at a handful of tokens a chunk.

    The prompt is read once. A few learned probe tokens attend to its keys and values and, behind them, to a
    chunk's slots; the last probe's hidden state goes through a linear layer and a sigmoid.
    """

    def __init__(self, backbone: Backbone, probes: int = 4) -> None:
        """
        Args:
            probes: learned tokens, at least 1. They start as the first tokens of a plain question.
        """
        super().__init__()
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.head = _starting_head(backbone)
        ids = backbone.encode(_PROBES_START)
        first = backbone.embeddings.weight[[ids[i % len(ids)] for i in range(probes)]]
        self.probes = nn.Parameter(first.detach().float().clone())

    def scores(self, prompt: str, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Yield what :meth:`forward` returns for each of ``batches``; the prompt is read once for all."""
        backbone = self.backbone
        ids = backbone.encode(prompt)
        with backbone.using("gate"):
            cache = backbone.prefill(torch.tensor([ids], device=backbone.device))
        places = torch.arange(len(ids), device=backbone.device)
        # The prompt's keys and values are slots like any others, so that the chunk's are laid behind them.
        read = gather_slots(cache, 0, places, len(ids))
        for slots, cosines in batches:
            yield self._scored(read, slots, cosines)

    def forward(self, slots: list[Slots], prompt: str, cosines: Tensor) -> Tensor:
        """Score chunks together; see :meth:`SlotGate.forward`."""
        return next(self.scores(prompt, [(slots, cosines)]))

    def _scored(self, read: Slots, slots: list[Slots], cosines: Tensor) -> Tensor:
        backbone = self.backbone
        prefix = open_slots(
            [[read, s] for s in slots], backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype
        )
        inputs = self.probes.to(backbone.dtype).expand(len(slots), -1, -1)
        mask = torch.cat((prefix.mask, torch.ones(inputs.shape[:2], dtype=torch.long, device=backbone.device)), dim=1)
        positions = prefix.next_positions[:, None] + torch.arange(len(self.probes), device=backbone.device)
        with backbone.using("gate"):
            hidden, _ = backbone.hidden(inputs, mask, positions, prefix)
        return _logits(self.head, hidden[:, -1], cosines)


def save_gate(gate: SlotGate | ProbeGate, folder: Path, *, scale: float = 1.0, shift: float = 0.0) -> None:
    """Write what the gate has beside its adapter, which :func:`core.adapters.save_adapters` writes into ``folder``.

    Args:
        scale, shift: a calibration of the logits, which becomes part of the head that is written.
    """
    (folder / HEAD).parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: parameter.detach().cpu().clone() for name, parameter in gate.named_parameters()}
    tensors["head.weight"] *= scale
    tensors["head.bias"] = tensors["head.bias"] * scale + shift
    save_file(tensors, folder / HEAD)


def load_gate(backbone: Backbone, folder: Path) -> SlotGate | ProbeGate:
    """Return the gate that :func:`save_gate` wrote into ``folder``, its adapter loaded if it is not yet.

    Raises:
        WeightsError: there is no gate, or it is of another model.
    """
    try:
        held = load_file(folder / HEAD)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"no gate at {folder}: {folder / HEAD} cannot be read ({error})") from error
    gate = ProbeGate(backbone, len(held["probes"])) if "probes" in held else SlotGate(backbone)
    wanted = {name: tuple(parameter.shape) for name, parameter in gate.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in held.items()}
    if wanted != found:
        raise WeightsError(f"{folder / HEAD} holds {found}, {backbone.name} needs {wanted}: it is of another model")
    if "gate" not in backbone.adapters:
        backbone.load_adapter("gate", folder / "gate")
    gate.load_state_dict(held)
    return gate


def _starting_head(backbone: Backbone) -> nn.Linear:
    head = nn.Linear(backbone.hidden_size + 1, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.weight[:, -1], UNTRAINED.slope)
    nn.init.constant_(head.bias, -UNTRAINED.slope * UNTRAINED.midpoint)
    return head.to(backbone.device)


def _logits(head: nn.Linear, hidden: Tensor, cosines: Tensor) -> Tensor:
    """Return float32 [chunks] of the last hidden states [chunks, hidden] and the cosines float32 [chunks]."""
    features = torch.cat((hidden.float(), cosines.to(hidden.device)[:, None]), dim=1)
    # In float32 whatever the surroundings compute in: the cosine is multiplied by 16.
    with torch.autocast(hidden.device.type, enabled=False):
        return head(features).squeeze(1)
