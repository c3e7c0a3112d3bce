"""Slots against an uncompressed reference: a plain Hugging Face model that reads everything in one pass."""

import math

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from core.backbone import Backbone
from core.compressor import Compressor
from core.kv_cache import Slots, empty_prefix, gather_slots, open_slots, rotate_keys, taken_rows
from core.settings import CompressionSettings

from .tiny_models import CONFIGS, backbone, causal_lm, default_backbone, default_causal_lm, logits_after, random_ids

EVERY_TOKEN = CompressionSettings(ratio=1, sink_tokens=0)
CPU = torch.device("cpu")

# Measured in fp32: the order of the sums changes a logit by 2e-5 at most (tiny models, standard deviation 1.7) or
# 5e-5 (default model, 6.3); a chunk that is one position off changes one by 2.8 and more, or 0.4.
TINY, REAL = 1e-4, 5e-4


def read_in_one_pass(model: PreTrainedModel, chunks: list[list[int]], prompt: list[int]) -> Tensor:
    """Return the prompt's logits, each chunk having seen only itself, the prompt everything."""
    ids = torch.tensor([[token for chunk in chunks for token in chunk] + prompt])
    total = ids.shape[1]
    seen = torch.zeros(total, total, dtype=torch.bool)
    start = 0
    for chunk in chunks:
        end = start + len(chunk)
        seen[start:end, start:end] = True
        start = end
    seen[start:] = True
    seen &= torch.ones(total, total, dtype=torch.bool).tril()
    additive = torch.zeros(1, 1, total, total).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=additive, position_ids=torch.arange(total)[None], use_cache=False)
    return out.logits[0, start:]


def through_slots(model: Backbone, chunks: list[list[int]], prompt: list[int]) -> Tensor:
    slots = Compressor(model, EVERY_TOKEN).compress(chunks)
    with torch.no_grad():
        return logits_after(model, slots, prompt)


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_chunk_at_ratio_1_reads_as_the_plain_model_reads_the_text(kind: str) -> None:
    chunk, prompt = random_ids(60, seed=1), random_ids(17, seed=2)
    with torch.no_grad():
        expected = causal_lm(kind)(torch.tensor([chunk + prompt]), use_cache=False).logits[0, 60:]
    torch.testing.assert_close(through_slots(backbone(kind), [chunk], prompt), expected, atol=TINY, rtol=0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_chunks_opened_together_read_as_a_block_diagonal_pass(kind: str) -> None:
    chunks, prompt = [random_ids(n, seed=n) for n in (33, 7, 50, 1)], random_ids(17, seed=2)
    expected = read_in_one_pass(causal_lm(kind), chunks, prompt)
    torch.testing.assert_close(through_slots(backbone(kind), chunks, prompt), expected, atol=TINY, rtol=0)


def test_one_chunk_at_ratio_1_reads_as_the_plain_default_model_reads_the_text() -> None:
    model = default_backbone()
    chunk = model.encode("The lighthouse at Skagen was built in 1858. Its keeper, Anna Holm, kept a diary. " * 6)
    prompt = model.encode("\nQuestion: who kept a diary at the lighthouse?\nAnswer:")
    with torch.no_grad():
        expected = default_causal_lm()(torch.tensor([chunk + prompt]), use_cache=False).logits[0, len(chunk) :]
    torch.testing.assert_close(through_slots(model, [chunk], prompt), expected, atol=REAL, rtol=0)


def test_chunks_opened_together_read_as_a_block_diagonal_pass_of_the_default_model() -> None:
    model = default_backbone()
    chunks = [
        model.encode("The lighthouse at Skagen was built in 1858. " * 5),
        model.encode("Anna Holm was its keeper."),
        model.encode("She kept a diary, which her grandson sold to a museum in Aalborg. " * 4),
    ]
    prompt = model.encode("\nQuestion: who kept a diary at the lighthouse?\nAnswer:")
    expected = read_in_one_pass(default_causal_lm(), chunks, prompt)
    torch.testing.assert_close(through_slots(model, chunks, prompt), expected, atol=REAL, rtol=0)


def test_the_order_of_two_slots_is_carried() -> None:
    model, prompt = backbone(), random_ids(9, seed=2)
    (slots,) = Compressor(model, EVERY_TOKEN).compress([random_ids(40, seed=1)])
    first, second, turn = 5, 25, model.inverse_frequencies
    keys, values = slots.keys.clone(), slots.values.clone()
    # Contents change places, positions stay: each key is turned to the place where it now stands.
    keys[:, :, first] = rotate_keys(slots.keys[:, :, second], first - second, turn)
    keys[:, :, second] = rotate_keys(slots.keys[:, :, first], second - first, turn)
    values[:, :, [first, second]] = slots.values[:, :, [second, first]]
    exchanged = Slots(keys, values, slots.positions, slots.span)
    before, after = logits_after(model, [slots], prompt), logits_after(model, [exchanged], prompt)
    assert (before - after).abs().max() > 100 * TINY


def test_the_order_of_two_chunks_is_carried() -> None:
    model, prompt = backbone(), random_ids(9, seed=2)
    one, other = Compressor(model, EVERY_TOKEN).compress([random_ids(20, seed=1), random_ids(20, seed=3)])
    difference = logits_after(model, [one, other], prompt) - logits_after(model, [other, one], prompt)
    assert difference.abs().max() > 100 * TINY


def test_rotating_turns_each_pair_of_halves_by_its_own_frequency() -> None:
    key = torch.tensor([1.0, 2.0, 0.0, 0.0])  # pairs (1, 0) and (2, 0)
    turned = rotate_keys(key, 1, torch.tensor([math.pi / 2, math.pi]))
    torch.testing.assert_close(turned, torch.tensor([0.0, -2.0, 1.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "llama with llama3 scaling", "llama with linear scaling"])
def test_rotating_on_equals_rotating_there_at_once(kind: str) -> None:
    rotary = LlamaRotaryEmbedding(CONFIGS[kind]())
    plain = torch.randn(1, 2, 6, 16, generator=torch.Generator().manual_seed(0))

    def at(start: int) -> Tensor:
        cos, sin = rotary(plain, torch.arange(start, start + 6)[None])
        return apply_rotary_pos_emb(plain, plain, cos, sin)[1]

    torch.testing.assert_close(rotate_keys(at(3), 400, rotary.inv_freq), at(403), atol=1e-4, rtol=0)


def test_rotating_by_millions_keeps_its_precision() -> None:
    frequencies = 1.0 / 10000 ** (torch.arange(0, 16, 2).float() / 16)
    key, far = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), 3_000_001
    angles = [float(f) * far for f in frequencies]  # float64
    first, second = key[:, :8], key[:, 8:]
    cos, sin = torch.tensor([math.cos(a) for a in angles]), torch.tensor([math.sin(a) for a in angles])
    expected = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=1)
    torch.testing.assert_close(rotate_keys(key, far, frequencies), expected, atol=1e-5, rtol=0)


def test_each_token_is_rotated_by_its_own_offset() -> None:
    frequencies = torch.linspace(1, 0.01, 8)
    keys = torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 7, -3, 2_000_001])
    turned = rotate_keys(keys, offsets, frequencies)
    for place, offset in enumerate(offsets.tolist()):
        alone = rotate_keys(keys[:, :, place], offset, frequencies)
        torch.testing.assert_close(turned[:, :, place], alone, atol=0, rtol=0)
    torch.testing.assert_close(rotate_keys(turned, -offsets, frequencies), keys, atol=1e-5, rtol=0)


def test_rotating_by_nothing_changes_no_bit_and_keeps_the_type() -> None:
    keys = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    frequencies = torch.linspace(1, 0.01, 8)
    assert torch.equal(rotate_keys(keys, 0, frequencies), keys)
    assert rotate_keys(keys, 7, frequencies).dtype == torch.bfloat16


def test_opening_pads_on_the_left_masks_and_counts() -> None:
    model = backbone()
    a, b, c = Compressor(model, CompressionSettings(ratio=4, sink_tokens=0)).compress(
        [random_ids(n, seed=n) for n in (16, 9, 5)]
    )
    prefix = open_slots([[a, b], [c]], model.inverse_frequencies, device=CPU, dtype=torch.float32)
    assert prefix.mask.tolist() == [[1] * 7, [0] * 5 + [1] * 2]
    assert prefix.next_positions.tolist() == [25, 5]
    assert prefix.slots == 9
    for layer, cached in enumerate(prefix.cache.layers):
        torch.testing.assert_close(cached.keys[1, :, 5:], c.keys[layer], atol=0, rtol=0)
        torch.testing.assert_close(cached.values[0, :, 4:], b.values[layer], atol=0, rtol=0)


def test_opening_changes_no_slot() -> None:
    model = backbone()
    chunks = Compressor(model, CompressionSettings(ratio=2)).compress([random_ids(n, seed=n) for n in (16, 9)])
    before = [(s.keys.clone(), s.values.clone(), s.positions.clone()) for s in chunks]
    logits_after(model, chunks, random_ids(5))
    for (keys, values, positions), slots in zip(before, chunks, strict=True):
        assert torch.equal(keys, slots.keys)
        assert torch.equal(values, slots.values)
        assert torch.equal(positions, slots.positions)


def test_reading_after_nothing_equals_reading_alone() -> None:
    model, ids = backbone(), torch.tensor([random_ids(12)])
    with torch.no_grad():
        expected = causal_lm()(ids, use_cache=False).logits
        prefix = empty_prefix(1, CPU)
        assert (prefix.slots, prefix.next_positions.tolist()) == (0, [0])
        hidden, grown = model.hidden(ids, torch.ones_like(ids), torch.arange(12)[None], prefix)
    torch.testing.assert_close(model.logits(hidden), expected, atol=TINY, rtol=0)
    assert grown.next_positions.tolist() == [12]


def test_rows_are_taken_in_the_order_and_as_often_as_named() -> None:
    model = backbone()
    chunks = Compressor(model, CompressionSettings(ratio=2)).compress([random_ids(9, seed=1), random_ids(30, seed=2)])
    options = {"device": model.device, "dtype": model.dtype}
    rows = [1, 0, 1, 1]
    taken = taken_rows(open_slots([[slots] for slots in chunks], model.inverse_frequencies, **options), rows)
    expected = open_slots([[chunks[row]] for row in rows], model.inverse_frequencies, **options)
    assert torch.equal(taken.mask, expected.mask)
    assert torch.equal(taken.next_positions, expected.next_positions)
    for found, wanted in zip(taken.cache.layers, expected.cache.layers, strict=True):
        assert torch.equal(found.keys, wanted.keys)
        assert torch.equal(found.values, wanted.values)


def test_gathering_takes_the_asked_positions_and_lets_the_gradient_through() -> None:
    keys = torch.arange(2 * 1 * 6 * 2, dtype=torch.float32).reshape(2, 1, 6, 2).requires_grad_()
    cache = DynamicCache()
    cache.update(keys, 10 * keys, 0)
    slots = gather_slots(cache, 1, torch.tensor([1, 4]), 6)
    assert slots.keys.tolist() == [[[[14.0, 15.0], [20.0, 21.0]]]]
    assert slots.values.tolist() == [[[[140.0, 150.0], [200.0, 210.0]]]]
    assert (slots.positions.tolist(), slots.positions.dtype, slots.span, len(slots)) == ([1, 4], torch.int32, 6, 2)
    assert slots.nbytes == 4 * 4 + 4 * 4 + 2 * 4
    (slots.keys.sum() + slots.values.sum()).backward()
    assert keys.grad is not None
    assert keys.grad[1, 0, :, 0].tolist() == [0, 11, 0, 0, 11, 0]
    assert not keys.grad[0].any()


def test_gathering_takes_each_layers_own_positions() -> None:
    cache = DynamicCache()
    for layer in range(2):
        numbers = 10.0 * layer + torch.arange(6.0).reshape(1, 1, 6, 1)
        cache.update(numbers, -numbers, layer)
    slots = gather_slots(cache, 0, torch.tensor([[0, 1, 4], [2, 3, 5]]), 6)
    assert slots.keys.flatten().tolist() == [0, 1, 4, 12, 13, 15]
    assert slots.values.flatten().tolist() == [0, -1, -4, -12, -13, -15]
    assert (slots.positions.tolist(), slots.positions.dtype, len(slots)) == ([[0, 1, 4], [2, 3, 5]], torch.int32, 3)
