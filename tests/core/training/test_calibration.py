"""The scale and shift that make P(open) = 0.5 mean what is said."""

import pytest
import torch

from core.training.calibration import fitted, weighted_loss


def drawn(scale: float, shift: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw chunks whose true probability is sigmoid(scale · logit + shift)."""
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, generator=random)
    holds = torch.bernoulli(torch.sigmoid(scale * logits + shift), generator=random)
    return logits, holds


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, -1.0), (2.0, 1.0)])
def test_the_true_scale_and_shift_are_found(scale: float, shift: float) -> None:
    found = fitted(*drawn(scale, shift), positive_weight=1.0)
    assert (found.scale, found.shift) == (pytest.approx(scale, rel=0.1), pytest.approx(shift, abs=0.1))


def test_weighted_a_half_is_where_one_in_four_holds_something() -> None:
    found = fitted(*drawn(1.0, 0.0), positive_weight=3.0)
    at_half = -found.shift / found.scale
    assert torch.sigmoid(torch.tensor(at_half)).item() == pytest.approx(0.25, abs=0.03)


def test_chunks_told_apart_without_error_take_a_finite_scale_and_keep_their_order() -> None:
    logits, holds = torch.tensor([-1.0, -0.5, 0.2, 0.7]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    found = fitted(logits, holds, 3.0)
    assert 1 < found.scale < 1000
    applied = found.applied(logits)
    assert (applied[1:] > applied[:-1]).all()
    assert applied[1] < 0 < applied[2]


def test_logits_the_wrong_way_round_keep_a_positive_scale() -> None:
    assert 0 < fitted(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0]), 1.0).scale < 1


def test_the_loss_counts_positives_by_their_weight() -> None:
    logits, holds = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    expected = 3 * torch.tensor(2.0).log() + (1 + torch.tensor(2.0).exp()).log()
    torch.testing.assert_close(weighted_loss(logits, holds, 3.0), expected)
