"""Log-probabilities of written tokens against the plain model, and where their gradient goes."""

import pytest
import torch
from torch import Tensor

from core.backbone import Backbone, Role
from core.compressor import Compressor
from core.kv_cache import Slots
from core.settings import CompressionSettings
from core.teacher_forcing import Row, common_beginning, target_distributions, target_log_probs
from tests.tiny_models import backbone, causal_lm, logits_after, random_ids, randomize_adapter

# Logits of the tiny models reach 20; fp32 differs between batch shapes by the order of its sums.
TOLERANCE = 2e-4


def row(shared: int, own: int, written: int, seed: int) -> Row:
    prompt = [*random_ids(shared, seed=0), *random_ids(own, seed=seed)]
    return Row(tuple(prompt), tuple(random_ids(written, seed=seed + 100)))


# A beginning of several blocks and unequal ends; one of less than a block; one row; equal prompts.
BATCHES = {
    "long beginning": [row(70, 5, 9, 1), row(70, 40, 3, 2), row(70, 1, 1, 3)],
    "short beginning": [row(20, 7, 4, 1), row(20, 30, 12, 2)],
    "nothing shared": [row(0, 11, 4, 1), row(0, 35, 6, 2)],
    "one row": [row(70, 5, 9, 1)],
    "equal prompts": [Row(tuple(random_ids(64)), tuple(random_ids(n, seed=n))) for n in (3, 8)],
}


def plain(slots_ids: list[int], given: Row, log_probs: bool = True) -> Tensor:
    """Read a row alone through the plain Hugging Face model, after the ids that its slots came from."""
    ids = [*slots_ids, *given.prompt, *given.target]
    with torch.no_grad():
        logits = causal_lm()(torch.tensor([ids])).logits[0, -len(given.target) - 1 : -1]
    found = torch.log_softmax(logits, dim=-1)
    return found.gather(1, torch.tensor(given.target)[:, None]).squeeze(1) if log_probs else found


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbone()


@pytest.mark.parametrize("name", BATCHES)
def test_rows_read_together_are_as_the_plain_model_reads_each_alone(tiny: Backbone, name: str) -> None:
    found = target_log_probs(tiny, BATCHES[name], role=None)
    for one, given in zip(found, BATCHES[name], strict=True):
        torch.testing.assert_close(one, plain([], given), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", BATCHES)
def test_behind_slots_that_keep_every_token_it_is_as_behind_the_text(tiny: Backbone, name: str) -> None:
    chunk = random_ids(45, seed=9)
    (slots,) = Compressor(tiny, CompressionSettings(ratio=1)).compress([chunk])
    found = target_log_probs(tiny, BATCHES[name], slots, role=None)
    for one, given in zip(found, BATCHES[name], strict=True):
        torch.testing.assert_close(one, plain(chunk, given), atol=TOLERANCE, rtol=0)


def test_behind_compressed_slots_with_an_adapter_rows_together_are_as_each_alone() -> None:
    model = trained_pair()
    (slots,) = Compressor(model, CompressionSettings(ratio=4)).compress([random_ids(45, seed=9)])
    rows = BATCHES["long beginning"]
    for one, given in zip(target_log_probs(model, rows, slots), rows, strict=True):
        (alone,) = target_log_probs(model, [given], slots)
        torch.testing.assert_close(one, alone, atol=TOLERANCE, rtol=0)
        logits = logits_after(model, [slots], [*given.prompt, *given.target], "reasoner")[-len(given.target) - 1 : -1]
        expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(given.target)[:, None]).squeeze(1)
        torch.testing.assert_close(one, expected, atol=TOLERANCE, rtol=0)


def test_distributions_are_those_of_the_plain_model_in_the_order_of_the_rows(tiny: Backbone) -> None:
    rows = BATCHES["long beginning"]
    expected = torch.cat([plain([], given, log_probs=False) for given in rows])
    torch.testing.assert_close(target_distributions(tiny, rows, role=None), expected, atol=TOLERANCE, rtol=0)


def test_the_role_says_whose_adapter_reads() -> None:
    model, rows = trained_pair(), BATCHES["one row"]
    roles: tuple[Role | None, ...] = ("reasoner", "compressor", None)
    found = [target_log_probs(model, rows, role=role)[0] for role in roles]
    assert (found[0] - found[1]).abs().max() > 0.01
    torch.testing.assert_close(found[2], plain([], rows[0]), atol=TOLERANCE, rtol=0)


def test_the_gradient_reaches_the_compressor_through_the_slots_and_the_reasoner() -> None:
    model = trained_pair()
    (slots,) = Compressor(model, CompressionSettings(ratio=4)).forward([random_ids(45, seed=9)])
    torch.cat(target_log_probs(model, BATCHES["long beginning"], slots)).sum().backward()
    for role in ("compressor", "reasoner"):
        gradients = [p.grad for p in model.adapter_parameters(role)]
        assert all(g.isfinite().all() for g in gradients if g is not None), role
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0, role
    assert all(p.grad is None for name, p in model.causal_lm.named_parameters() if "lora" not in name)


def test_the_bare_base_lets_the_gradient_through_to_the_compressor_only() -> None:
    model = trained_pair()
    (slots,) = Compressor(model, CompressionSettings(ratio=4)).forward([random_ids(45, seed=9)])
    torch.cat(target_log_probs(model, BATCHES["one row"], slots, role=None)).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.adapter_parameters("compressor"))
    assert all(p.grad is None for p in model.adapter_parameters("reasoner"))


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2, 3), (1, 2, 3)], 2),  # the last token is left to each
        ([(1, 2), (1, 2, 3)], 1),
        ([(5,), (5, 6)], 0),
        ([(1, 2), (3, 2)], 0),
    ],
)
def test_a_common_beginning_leaves_each_prompt_its_last_token(prompts: list[tuple[int, ...]], shared: int) -> None:
    assert common_beginning(prompts) == shared


def trained_pair() -> Backbone:
    """Return a model whose two adapters change something, both open to gradients."""
    model = backbone()
    for seed, role in enumerate(("compressor", "reasoner")):
        model.add_adapter(role, rank=4, alpha=8)
        randomize_adapter(model, role, seed)
    return model


def test_slots_given_are_left_as_they_were(tiny: Backbone) -> None:
    (slots,) = Compressor(tiny, CompressionSettings(ratio=4)).compress([random_ids(45, seed=9)])
    before = Slots(slots.keys.clone(), slots.values.clone(), slots.positions.clone(), slots.span)
    target_log_probs(tiny, BATCHES["long beginning"], slots, role=None)
    assert torch.equal(slots.keys, before.keys)
    assert torch.equal(slots.values, before.values)
