"""Slots and the cache they are read through. The only user of transformers' cache internals.

A slot is the key and value that one token left at every layer, or, where tokens are selected, that a token of each
layer's own choice left there. Keys are kept rotated to the slot's
position inside its own chunk; opening a chunk further back turns them on by the difference, which
for rotary embeddings is exact: R(p + d) k = R(d) R(p) k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache


@dataclass(frozen=True)
class Slots:
    """One chunk's slots, in order."""

    keys: Tensor
    """[layers, kv_heads, slots, head_dim], rotated to ``positions``."""
    values: Tensor
    """[layers, kv_heads, slots, head_dim]."""
    positions: Tensor
    """int32 [slots], or [layers, slots] where each layer keeps tokens of its own; rising, from the chunk's start."""
    span: int
    """Positions that the chunk takes up: what follows it starts here."""

    def __len__(self) -> int:
        return int(self.positions.shape[-1])

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self.positions.nbytes


@dataclass(frozen=True)
class Prefix:
    """Opened slots as a batch of caches to read a prompt after. A pass through the model fills the cache on."""

    cache: DynamicCache
    mask: Tensor
    """int64 [batch, slots]: 1 for a slot, 0 for padding."""
    next_positions: Tensor
    """int64 [batch]: the first position after what is open."""

    @property
    def slots(self) -> int:
        """Slots in the whole batch, padding not counted."""
        return int(self.mask.sum())


def empty_prefix(batch: int, device: torch.device) -> Prefix:
    """Return a prefix with nothing open, for a prompt that is read on its own."""
    nothing = torch.zeros(batch, 0, dtype=torch.long, device=device)
    return Prefix(DynamicCache(), nothing, torch.zeros(batch, dtype=torch.long, device=device))


def shortened(prefix: Prefix, tokens: int) -> Prefix:
    """Return ``prefix`` without the last ``tokens`` that were read into it; its cache is cut, not copied."""
    if not tokens:
        return prefix
    kept = prefix.mask[:, :-tokens]
    prefix.cache.crop(-tokens)
    return Prefix(prefix.cache, kept, prefix.next_positions - tokens)


def expand_prefix(prefix: Prefix, rows: int) -> Prefix:
    """Return a prefix of one row as one of ``rows`` equal rows; the gradient flows through."""
    cache = DynamicCache()
    for number, layer in enumerate(prefix.cache.layers):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return Prefix(cache, prefix.mask.expand(rows, -1), prefix.next_positions.expand(rows))


def taken_rows(prefix: Prefix, rows: Sequence[int]) -> Prefix:
    """Return the rows of ``prefix`` named, in that order and as often as named; its cache is changed, not copied."""
    index = torch.tensor(rows, device=prefix.mask.device)
    prefix.cache.batch_select_indices(index)
    return Prefix(prefix.cache, prefix.mask[index], prefix.next_positions[index])


def gather_slots(cache: DynamicCache, row: int, positions: Tensor, span: int) -> Slots:
    """Take the slots at ``positions`` (int64 [slots] or [layers, slots]) of batch row ``row`` out of ``cache``.

    The gradient flows through, so that a compressor can be trained on what was read from its slots.
    """
    places = list(zip(cache.layers, positions.expand(len(cache.layers), -1), strict=True))
    keys = torch.stack([layer.keys[row].index_select(1, there) for layer, there in places])
    values = torch.stack([layer.values[row].index_select(1, there) for layer, there in places])
    return Slots(keys, values, positions.to(torch.int32), span)


def rotate_keys(keys: Tensor, offset: int | Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Turn rotated ``keys`` on by ``offset`` positions (RoPE, arXiv 2104.09864, equation 34).

    Args:
        keys: [..., tokens, head_dim], the two halves of head_dim paired as Llama pairs them.
        offset: positions to move by, back where it is negative; one for all, or int [tokens], one for each.
        inverse_frequencies: float32 [head_dim / 2].
    """
    if isinstance(offset, int) and offset == 0:
        return keys
    # In float64 because offsets reach millions, where float32 angles are off by whole radians.
    turns = offset if isinstance(offset, int) else offset[:, None]
    half = inverse_frequencies.double() * turns
    angles = torch.cat((half, half), dim=-1)
    cos, sin = angles.cos().float(), angles.sin().float()
    first, second = keys.float().chunk(2, dim=-1)
    turned = keys.float() * cos + torch.cat((-second, first), dim=-1) * sin
    return turned.to(keys.dtype)


def open_slots(
    groups: Sequence[Sequence[Slots]], inverse_frequencies: Tensor, *, device: torch.device, dtype: torch.dtype
) -> Prefix:
    """Lay each group's chunks one after the other and batch the groups, padded on the left and masked.

    The chunks given are copied, never changed.

    Args:
        groups: for each row of the batch, the chunks to open together, in reading order; none may be empty.
        inverse_frequencies: float32 [head_dim / 2], of the model that reads.
        device: where the cache is to be.
        dtype: of the cache.
    """
    longest = max(sum(len(slots) for slots in group) for group in groups)
    rows_k, rows_v, masks, ends = [], [], [], []
    for group in groups:
        keys, values, offset = [], [], 0
        for slots in group:
            keys.append(rotate_keys(slots.keys.to(device), offset, inverse_frequencies))
            values.append(slots.values.to(device))
            offset += slots.span
        count = sum(len(slots) for slots in group)
        pad = (0, 0, longest - count, 0)
        rows_k.append(torch.nn.functional.pad(torch.cat(keys, dim=2), pad))
        rows_v.append(torch.nn.functional.pad(torch.cat(values, dim=2), pad))
        masks.append(torch.cat((torch.zeros(longest - count, dtype=torch.long), torch.ones(count, dtype=torch.long))))
        ends.append(offset)
    cache = DynamicCache()
    all_k, all_v = torch.stack(rows_k, dim=1).to(dtype), torch.stack(rows_v, dim=1).to(dtype)
    for layer in range(all_k.shape[0]):
        cache.update(all_k[layer], all_v[layer], layer)
    return Prefix(cache, torch.stack(masks).to(device), torch.tensor(ends, device=device))
