"""The attention that trains is the attention that reads."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from core.backbone import Backbone
from core.teacher_forcing import Row, target_log_probs
from core.training.attention import attend_for_training, grouped_attention

from .small_runs import backbone


def tensors(keys: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(keys)
    query = torch.randn(2, 6, 5, 8, requires_grad=True)
    key, value = (torch.randn(2, 3, keys, 8, requires_grad=True) for _ in range(2))
    return query, key, value


@pytest.mark.parametrize("keys", [5, 9])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.2])
def test_values_and_gradients_are_those_of_the_fused_kernel(keys: int, masked: bool, scaling: float | None) -> None:
    seen = torch.rand(2, 1, 5, keys) > 0.4
    seen[..., 0] = True
    causal = torch.ones(5, keys, dtype=torch.bool).tril(keys - 5)
    ours, theirs = tensors(keys), tensors(keys)
    out, _ = grouped_attention(nn.Identity(), *ours, seen if masked else None, scaling=scaling)
    mask: Any = seen if masked else causal
    expected = scaled_dot_product_attention(*theirs, attn_mask=mask, scale=scaling, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(expected)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


def losses(model: Backbone) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(3)
    model.add_adapter("reasoner", rank=4, alpha=8)
    for name, parameter in model.causal_lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    rows = [Row((1, 2, 3, 4, 5), (6, 7)), Row((1, 2, 8), (9, 10, 11, 12))]
    loss = -torch.cat(target_log_probs(model, rows)).sum()
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.causal_lm.named_parameters() if p.grad is not None}


def test_a_model_that_attends_for_training_has_the_same_loss_and_gradient() -> None:
    fast = backbone()
    attend_for_training(fast)
    (loss, gradient), (expected, reference) = losses(fast), losses(backbone())
    torch.testing.assert_close(loss, expected)
    assert gradient.keys() == reference.keys()
    for name, value in gradient.items():
        torch.testing.assert_close(value, reference[name], rtol=1e-4, atol=1e-6, msg=name)
