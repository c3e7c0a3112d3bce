"""Chooses the tokens of a chunk whose keys and values become slots: the placement ``selected``.

What a token is worth is how much of it the model looks at when it reads the text a second time, as KVzip
(arXiv 2505.23416) measures it, head by head. That costs a second pass over twice the context; here a small network
estimates it from the token's own key and value, once for each layer, so that encoding stays one pass.
:mod:`core.training.selector` trains it; the model that encodes and reads is not changed.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .backbone import Backbone
from .errors import WeightsError
from .kv_cache import rotate_keys

SELECTOR = Path("compressor", "selector.safetensors")
"""Where a folder of adapters keeps the selector, beside the compressor's adapter if there is one."""
_HIDDEN = 64


class Selector(nn.Module):
    """Scores each token of a chunk at each layer: a linear map and beside it one hidden layer, of its own each.

    Weights are stacked over layers and float32, whatever the model computes in.
    """

    mean: Tensor
    """float32 [layers, 1, width], subtracted from what is read."""
    deviation: Tensor
    """float32 [layers, 1, width], which it is then divided by."""

    def __init__(self, layers: int, width: int, seed: int = 0) -> None:
        """
        Args:
            layers: of the model.
            width: numbers that a token leaves at a layer: keys and values of all key heads.
            seed: of the weights that it begins with.
        """
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.register_buffer("mean", torch.zeros(layers, 1, width))
        self.register_buffer("deviation", torch.ones(layers, 1, width))
        self.linear = nn.Parameter(torch.zeros(layers, width, 1))
        self.inner = nn.Parameter(torch.randn(layers, width, _HIDDEN, generator=random) / width**0.5)
        self.inner_bias = nn.Parameter(torch.zeros(layers, 1, _HIDDEN))
        self.outer = nn.Parameter(torch.randn(layers, _HIDDEN, 1, generator=random) / _HIDDEN**0.5)
        self.outer_bias = nn.Parameter(torch.zeros(layers, 1, 1))

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        """Score the tokens of one chunk.

        Args:
            keys: [layers, kv_heads, tokens, head_dim], not rotated: see :func:`unrotated`.
            values: as ``keys``.

        Returns:
            float32 [layers, tokens]; within a layer, the more the better worth keeping.
        """
        return torch.stack([self.layer_scores(*read) for read in zip(range(len(keys)), keys, values, strict=True)])

    def layer_scores(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """Score the tokens of one chunk at one layer, as :meth:`forward` does, float32 [tokens].

        A layer at a time stays in a CPU's cache: that takes a third of the time of all at once.

        Args:
            layer: its number.
            keys, values: [kv_heads, tokens, head_dim].
        """
        # In float32 whatever the surroundings compute in: near scores decide between tokens.
        with torch.autocast(keys.device.type, enabled=False):
            read = (token_states(keys, values) - self.mean[layer]) / self.deviation[layer]
            hidden = torch.nn.functional.gelu(read @ self.inner[layer] + self.inner_bias[layer])
            return (read @ self.linear[layer] + hidden @ self.outer[layer] + self.outer_bias[layer]).squeeze(-1)


def token_states(keys: Tensor, values: Tensor) -> Tensor:
    """Return what each token left at each layer as one vector, float32 [..., tokens, width].

    Args:
        keys, values: [..., kv_heads, tokens, head_dim].
    """
    return torch.cat((keys.float(), values.float()), dim=-1).transpose(-3, -2).flatten(-2)


def unrotated(keys: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Return the keys of a whole chunk as they were before they were rotated to their positions, in float32.

    Args:
        keys: [..., tokens, head_dim], rotated to 0, 1, 2 and so on.
        inverse_frequencies: float32 [head_dim / 2].
    """
    return rotate_keys(keys.float(), -torch.arange(keys.shape[-2], device=keys.device), inverse_frequencies)


def best_positions(scores: Tensor, count: int, sink: int) -> Tensor:
    """Return the positions of the first ``sink`` tokens and of the best of the others, rising, int64 [layers, count].

    Args:
        scores: float [layers, tokens]. Of equal ones the earlier token is kept.
        count: positions to return, at least ``sink`` and at most all tokens.
    """
    ranked = scores.clone()
    ranked[:, :sink] = torch.inf
    return ranked.argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values


def new_selector(backbone: Backbone, seed: int = 0) -> Selector:
    """Return a selector for ``backbone``, on its device, with random weights: it is to be trained."""
    config = backbone.config
    width = 2 * int(config.num_key_value_heads) * 2 * len(backbone.inverse_frequencies)
    return Selector(int(config.num_hidden_layers), width, seed).to(backbone.device)


def save_selector(selector: Selector, folder: Path) -> None:
    """Write ``selector`` into the folder of adapters ``folder``, to be found by :func:`load_selector`."""
    (folder / SELECTOR).parent.mkdir(parents=True, exist_ok=True)
    save_file({n: t.detach().cpu().contiguous() for n, t in selector.state_dict().items()}, folder / SELECTOR)


def load_selector(backbone: Backbone, folder: Path) -> Selector:
    """Return the selector that is among the adapters in ``folder``, on the device of ``backbone``.

    Raises:
        WeightsError: it is missing, cannot be read, or is of another model.
    """
    file = folder / SELECTOR
    try:
        held = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file} cannot be read ({error}): train it with --stage selector") from error
    selector = new_selector(backbone)
    wanted, found = _shapes(selector.state_dict()), _shapes(held)
    if wanted != found:
        raise WeightsError(f"{file} holds {found}, {backbone.name} needs {wanted}: it is of another model")
    selector.load_state_dict(held)
    return selector


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in sorted(tensors.items())}
