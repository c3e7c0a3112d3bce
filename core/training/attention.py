"""Attention as two matrix products, which on a CPU trains faster than the fused kernel.

PyTorch's fused attention is made for reading: its backward pass took a fifth of a profiled step on a CPU. Query
heads that share a key head are one matrix here, so that keys and values are not repeated either.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from ..backbone import Backbone

_NAME, _RECORDED = "grouped", "recorded"


def grouped_attention(
    module: nn.Module,  # noqa: ARG001 - transformers hands it over
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Return softmax(q kᵀ · scaling) v; see :func:`torch.nn.functional.scaled_dot_product_attention`.

    Args:
        query: [batch, heads, tokens, head_dim].
        key: [batch, kv_heads, keys, head_dim], ``heads`` a multiple of ``kv_heads``.
        value: as ``key``.
        attention_mask: bool [batch, 1, tokens, keys], true where a key is seen; ``None``: all keys up to a token,
            the last of which is its own.

    Returns:
        [batch, tokens, heads, head_dim], and no weights.
    """
    return _weighted(_weights(query, key, attention_mask, scaling), value), None


def _weights(query: Tensor, key: Tensor, attention_mask: Tensor | None, scaling: float | None) -> Tensor:
    """Return softmax(q kᵀ · scaling), [batch, kv_heads, heads / kv_heads, tokens, keys]."""
    batch, heads, tokens, size = query.shape
    shared, keys = key.shape[1], key.shape[2]
    grouped = query.reshape(batch * shared, heads // shared * tokens, size)
    scores = torch.bmm(grouped, key.reshape(batch * shared, keys, size).transpose(1, 2))
    seen = attention_mask
    if seen is None:
        seen = torch.ones(tokens, keys, dtype=torch.bool, device=query.device).tril(keys - tokens)[None, None]
    unseen = torch.zeros(seen.shape, dtype=scores.dtype, device=query.device).masked_fill_(~seen, -1e9)
    scores = scores.view(batch, shared, heads // shared, tokens, keys)
    scale = size**-0.5 if scaling is None else scaling
    return torch.softmax(torch.add(unseen[:, :, None], scores, alpha=scale), dim=-1)


def _weighted(weights: Tensor, value: Tensor) -> Tensor:
    """Return sums of ``value`` [batch, kv_heads, keys, head_dim] by weight, [batch, tokens, heads, head_dim]."""
    batch, shared, group, tokens, keys = weights.shape
    rows = weights.to(value.dtype).view(batch * shared, group * tokens, keys)
    out = torch.bmm(rows, value.reshape(batch * shared, keys, -1))
    return out.view(batch, shared * group, tokens, -1).transpose(1, 2).contiguous()


@contextmanager
def attention_received(backbone: Backbone, keys: int) -> Iterator[list[Tensor]]:
    """Record how much of what is read within is looked at, one layer's weights being kept at a time.

    Args:
        keys: how many keys to record, from the first on.

    Yields:
        A list that grows by each layer of each pass, in order, by the largest weight that a key gets from any token
        and any of the query heads that share it, float32 [batch, kv_heads, keys].
    """
    received = list[Tensor]()

    def recorded_attention(
        module: nn.Module,  # noqa: ARG001
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **_: Any,  # noqa: ANN401
    ) -> tuple[Tensor, None]:
        weights = _weights(query, key, attention_mask, scaling)
        received.append(weights[..., :keys].amax(dim=(2, 3)).float())
        return _weighted(weights, value), None

    before = backbone.config._attn_implementation
    AttentionInterface.register(_RECORDED, recorded_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_RECORDED, sdpa_mask)
    backbone.causal_lm.set_attn_implementation(_RECORDED)
    try:
        yield received
    finally:
        backbone.causal_lm.set_attn_implementation(before)


def attend_for_training(backbone: Backbone) -> None:
    """Let ``backbone`` attend in the way that trains fastest on its device."""
    if backbone.device.type != "cpu":
        return
    AttentionInterface.register(_NAME, grouped_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, sdpa_mask)
    backbone.causal_lm.set_attn_implementation(_NAME)
