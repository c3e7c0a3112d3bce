"""Makes a gate's probabilities mean something: a scale and a shift of its logits (Platt 1999, sections 2.1 and 2.2).

They are fitted on held-out chunks with the weights of training, so that P(open) = 0.5 is where
passing over a chunk that is needed costs, on average, what opening ``positive_weight`` needless ones does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_PULL = 1e-3
"""Towards leaving the logits as they are: without it, chunks told apart without error would take any scale."""


@dataclass(frozen=True)
class Calibration:
    """P(open) = sigmoid(scale · logit + shift)."""

    scale: float = 1.0
    shift: float = 0.0

    def applied(self, logits: Tensor) -> Tensor:
        """Return calibrated logits, float32 [chunks]."""
        return self.scale * logits + self.shift


def weighted_loss(logits: Tensor, holds: Tensor, positive_weight: float) -> Tensor:
    """Return the summed binary cross-entropy, positives counted ``positive_weight`` times (LycheeMemory, section 3.3).

    Args:
        logits, holds: float32 [chunks]; ``holds`` is 1 where the chunk holds a supporting sentence.
    """
    weight = torch.tensor(positive_weight, device=logits.device)
    return binary_cross_entropy_with_logits(logits, holds, pos_weight=weight, reduction="sum")


def fitted(logits: Tensor, holds: Tensor, positive_weight: float) -> Calibration:
    """Return the calibration of least weighted loss, by Newton's method in float64; the scale is above 0.

    Args:
        logits, holds: float32 [chunks], as :func:`weighted_loss` takes them.
    """
    given, wanted = logits.detach().double().cpu(), holds.detach().double().cpu()
    # The scale as a logarithm, which keeps the chunks' order.
    found = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        scaled = found[0].exp() * given + found[1]
        loss = weighted_loss(scaled, wanted, positive_weight) / len(wanted) + _PULL * found.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    return Calibration(float(found[0].exp().detach()), float(found[1].detach()))
