"""The probability of written tokens, with gradient: what losses are made of, and what answers are weighed by.

Turns over the same chunk begin alike. Their common beginning is read once, as a prefix that every turn's
rest attends to, which for a lesson of eight turns saves about two thirds of the tokens and changes no result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from .backbone import Backbone, Role
from .kv_cache import Prefix, Slots, empty_prefix, expand_prefix, open_slots

_BLOCK = 32
"""Lengths are multiples of this, because a CPU compiles its kernels anew for each shape it has not met."""


@dataclass(frozen=True)
class Row:
    """One prompt and what was written, or should be, after it."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]


def target_log_probs(
    backbone: Backbone,
    rows: Sequence[Row],
    slots: Slots | Sequence[Slots] | None = None,
    role: Role | None = "reasoner",
    begun: Prefix | None = None,
) -> list[Tensor]:
    """Return log p of each row's target tokens, float32 [target tokens] for each row.

    Args:
        rows: none of prompts and targets may be empty.
        slots: of the chunk that is open for all rows, or of one chunk for each; with gradient where the compressor is
            to learn.
        role: whose adapter reads.
        begun: first tokens that all prompts share, one row, read already, where there are no slots.
    """
    log_probs = target_distributions(backbone, rows, slots, role, begun)
    targets = torch.tensor([token for row in rows for token in row.target], device=backbone.device)
    chosen = log_probs.gather(1, targets[:, None]).squeeze(1)
    return list(chosen.split([len(row.target) for row in rows]))


def target_distributions(
    backbone: Backbone,
    rows: Sequence[Row],
    slots: Slots | Sequence[Slots] | None = None,
    role: Role | None = "reasoner",
    begun: Prefix | None = None,
) -> Tensor:
    """Return log p of every token where a target stands, float32 [target tokens of all rows, vocabulary].

    The arguments are those of :func:`target_log_probs`.
    """
    device = backbone.device
    alike = slots is None or isinstance(slots, Slots)  # what stands behind different chunks is different
    shared = common_beginning([row.prompt for row in rows]) // _BLOCK * _BLOCK if alike else 0
    with backbone.using(role):
        prefix = _opened(backbone, slots)
        if begun is not None:
            prefix, shared = begun, begun.slots
        elif shared:
            ids = torch.tensor([rows[0].prompt[:shared]], device=device)
            positions = prefix.next_positions[:, None] + torch.arange(shared, device=device)
            mask = torch.cat((prefix.mask, torch.ones_like(ids)), dim=1)
            _, prefix = backbone.hidden(ids, mask, positions, prefix)
        prefix = expand_prefix(prefix, len(rows)) if alike else prefix
        # The last target token predicts nothing, so it is not read.
        rests = [[*row.prompt[shared:], *row.target[:-1]] for row in rows]
        longest = -(-max(map(len, rests)) // _BLOCK) * _BLOCK
        ids = torch.tensor([rest + [0] * (longest - len(rest)) for rest in rests], device=device)
        mask = torch.tensor([[1] * len(rest) + [0] * (longest - len(rest)) for rest in rests], device=device)
        positions = prefix.next_positions[:, None] + torch.arange(longest, device=device)
        hidden, _ = backbone.hidden(ids, torch.cat((prefix.mask, mask), dim=1), positions, prefix)
        # Only what predicts a target goes through the head, which is a fifth of a small model.
        starts = [len(row.prompt) - shared - 1 for row in rows]
        predicting = torch.cat(
            [
                hidden[i, start : start + len(row.target)]
                for i, (row, start) in enumerate(zip(rows, starts, strict=True))
            ]
        )
        logits = backbone.logits(predicting).float()
    return log_softmax(logits, dim=-1)


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all ``prompts`` share, leaving each at least its last."""
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
    return min(same, min(map(len, prompts)) - 1)


def _opened(backbone: Backbone, slots: Slots | Sequence[Slots] | None) -> Prefix:
    if slots is None:
        return empty_prefix(1, backbone.device)
    groups = [[slots]] if isinstance(slots, Slots) else [[own] for own in slots]
    return open_slots(groups, backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype)
