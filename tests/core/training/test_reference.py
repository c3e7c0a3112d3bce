"""The frozen copy that RL stays near."""

import pytest
import torch
from torch import nn

from core.training.reference import Reference


def test_inside_the_start_computes_and_outside_what_was_learned() -> None:
    layer = nn.Linear(3, 2)
    reference = Reference(dict(layer.named_parameters()))
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.5
    learned = layer.weight.detach().clone()
    with reference.in_place():
        assert torch.equal(layer.weight, start)
        assert not layer(torch.ones(3)).requires_grad
    assert torch.equal(layer.weight, learned)
    assert layer(torch.ones(3)).requires_grad
    with reference.in_place():
        assert torch.equal(layer.weight, start)


def test_an_optimiser_goes_on_with_the_same_parameters() -> None:
    layer = nn.Linear(3, 2)
    reference = Reference(dict(layer.named_parameters()))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        with reference.in_place():
            layer(torch.ones(3))
        layer(torch.ones(3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    with reference.in_place():
        start = layer.weight.detach().clone()
    torch.testing.assert_close(layer.weight.detach(), start - 2 * 0.1)


def test_the_parameters_are_back_after_an_error() -> None:
    layer = nn.Linear(3, 2)
    reference = Reference(dict(layer.named_parameters()))
    with torch.no_grad():
        layer.weight += 1.5
    learned = layer.weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), reference.in_place():
        raise KeyboardInterrupt
    assert torch.equal(layer.weight, learned)
