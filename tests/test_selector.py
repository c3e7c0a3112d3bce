"""The selector: what it reads, what it chooses, and its file."""

from pathlib import Path

import pytest
import torch

from core.backbone import Backbone
from core.errors import WeightsError
from core.selector import (
    SELECTOR,
    Selector,
    best_positions,
    load_selector,
    new_selector,
    save_selector,
    token_states,
    unrotated,
)

from .tiny_models import CONFIGS, backbone, causal_lm, random_ids


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "qwen3"])  # which has a norm between the two
def test_keys_are_given_back_as_they_were_before_they_were_rotated(kind: str) -> None:
    model, ids = backbone(kind), torch.tensor([random_ids(30)])
    with torch.no_grad():
        first = causal_lm(kind).model.layers[0]
        plain = first.self_attn.k_proj(first.input_layernorm(model.embeddings(ids)))
        keys = model.prefill(ids).layers[0].keys
    expected = plain.view(1, 30, 2, 16).transpose(1, 2)
    torch.testing.assert_close(unrotated(keys, model.inverse_frequencies), expected, atol=1e-4, rtol=0)
    assert unrotated(keys.bfloat16(), model.inverse_frequencies).dtype == torch.float32


def test_a_tokens_state_is_what_it_left_in_all_heads() -> None:
    keys = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    states = token_states(keys, -keys)
    assert states.shape == (2, 4, 30)
    assert states[1, 2].tolist() == torch.cat([torch.cat((k, -k)) for k in keys[1, :, 2]]).tolist()


@pytest.mark.parametrize(
    ("scores", "count", "sink", "positions"),
    [
        ([0.1, 0.4, 0.2, 0.9, 0.3], 2, 0, [1, 3]),
        ([0.1, 0.4, 0.2, 0.9, 0.3], 3, 2, [0, 1, 3]),
        ([0.1, 0.4, 0.2, 0.9, 0.3], 5, 2, [0, 1, 2, 3, 4]),
        ([0.5, 0.5, 0.5, 0.5], 2, 0, [0, 1]),  # of equals the earlier
        ([0.5, 0.5, 0.5, 0.5], 2, 1, [0, 1]),
        ([-3.0], 1, 1, [0]),
    ],
)
def test_the_sink_and_the_best_of_the_others_are_kept_in_order(
    scores: list[float], count: int, sink: int, positions: list[int]
) -> None:
    given = torch.tensor([scores, [-1.0 * s for s in scores]])
    found = best_positions(given, count, sink)
    assert found[0].tolist() == positions
    assert found.dtype == torch.int64
    assert given[0].tolist() == torch.tensor(scores).tolist()  # left as it was


def test_layers_are_scored_by_weights_of_their_own() -> None:
    selector, numbers = Selector(2, 30), torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    same = numbers.expand(2, -1, -1, -1)
    first, second = selector(same, same)
    assert not torch.allclose(first, second)
    swapped = Selector(2, 30)
    swapped.load_state_dict({name: tensor.flip(0) for name, tensor in selector.state_dict().items()})
    torch.testing.assert_close(torch.stack((second, first)), swapped(same, same))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = backbone()
    selector = new_selector(model, seed=3)
    selector.mean.normal_()
    selector.deviation.uniform_(1, 2)
    save_selector(selector, tmp_path)
    held = load_selector(model, tmp_path).state_dict()
    assert held.keys() == selector.state_dict().keys()
    assert all(torch.equal(tensor, held[name]) for name, tensor in selector.state_dict().items())


def test_a_selector_that_is_missing_damaged_or_of_another_model_is_refused(tmp_path: Path) -> None:
    model = backbone()
    with pytest.raises(WeightsError, match=r"selector\.safetensors cannot be read .* --stage selector"):
        load_selector(model, tmp_path)
    save_selector(new_selector(model), tmp_path)
    whole = (tmp_path / SELECTOR).read_bytes()
    (tmp_path / SELECTOR).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"selector\.safetensors cannot be read"):
        load_selector(model, tmp_path)
    save_selector(Selector(2, 64), tmp_path)
    with pytest.raises(
        WeightsError, match=r"holds .*'mean': \(2, 1, 64\).* tiny llama needs .*: it is of another model"
    ):
        load_selector(model, tmp_path)


def test_making_a_selector_leaves_the_random_numbers_of_others_alone(tmp_path: Path) -> None:
    model: Backbone = backbone()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    new_selector(model)
    assert torch.equal(torch.rand(1), expected)
