"""Layouts, batches, and the gradient from what is read after the slots back to what made them."""

import pydoc_data.topics

import pytest
import torch
from torch import Tensor

from core.backbone import Backbone
from core.compressor import Compressor
from core.errors import InputError, WeightsError
from core.kv_cache import Slots, open_slots, rotate_keys
from core.selector import best_positions, new_selector, unrotated
from core.settings import CompressionSettings

from .tiny_models import backbone, causal_lm, default_backbone, logits_after, random_ids

PLACEMENTS = ("in_place", "inserted", "inserted_copy", "selected")
INSERTED = PLACEMENTS[1:3]
# Keys and values of the tiny models reach 7 in size; fp32 differs between batch sizes by the order of its sums.
TINY = 5e-5


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbone()


def compressor(model: Backbone, **settings: object) -> Compressor:
    """Return a compressor with the weights that it starts with; a selector's are random."""
    made = Compressor(model, CompressionSettings(**settings))
    if made.settings.placement == "selected":
        made.selector = new_selector(model)
    return made


def assert_same(found: Slots, expected: Slots, tolerance: float) -> None:
    assert found.span == expected.span
    assert found.positions.tolist() == expected.positions.tolist()
    torch.testing.assert_close(found.keys, expected.keys, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.values, expected.values, atol=tolerance, rtol=0)


def plain_cache(embedded: Tensor, positions: list[int]) -> tuple[Tensor, Tensor]:
    """Return keys and values [layers, kv_heads, slots, head_dim] that the plain model leaves at ``positions``."""
    with torch.no_grad():
        cache = causal_lm()(inputs_embeds=embedded[None], use_cache=True).past_key_values
    keys = torch.stack([layer.keys[0][:, positions] for layer in cache.layers])
    return keys, torch.stack([layer.values[0][:, positions] for layer in cache.layers])


@pytest.mark.parametrize("sink", [0, 4])
@pytest.mark.parametrize("ratio", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_batch_of_unequal_chunks_gives_the_slots_of_each_alone(
    tiny: Backbone, placement: str, ratio: int, sink: int
) -> None:
    made = compressor(tiny, placement=placement, ratio=ratio, sink_tokens=sink)
    if placement in INSERTED:  # away from where training starts, so that the embedding counts
        made.memory_embedding.data += torch.randn(64, generator=torch.Generator().manual_seed(3))
    chunks = [random_ids(n, seed=n) for n in (37, 3, 1, 16, 64)]
    for chunk, slots in zip(chunks, made.compress(chunks), strict=True):
        (alone,) = made.compress([chunk])
        assert_same(slots, alone, TINY)


@pytest.mark.parametrize(
    ("tokens", "ratio", "sink", "positions"),
    [
        (10, 4, 0, [3, 7, 9]),
        (10, 4, 2, [0, 1, 3, 7, 9]),
        (10, 4, 4, [0, 1, 2, 3, 7, 9]),
        (8, 4, 0, [3, 7]),
        (3, 8, 0, [2]),
        (1, 16, 4, [0]),
        (3, 16, 4, [0, 1, 2]),
        (5, 1, 0, [0, 1, 2, 3, 4]),
        (6, 2, 3, [0, 1, 2, 3, 5]),
    ],
)
def test_in_place_keeps_the_last_token_of_each_group_and_the_sink(
    tiny: Backbone, tokens: int, ratio: int, sink: int, positions: list[int]
) -> None:
    (slots,) = compressor(tiny, ratio=ratio, sink_tokens=sink).compress([random_ids(tokens)])
    assert (slots.positions.tolist(), slots.span) == (positions, tokens)


@pytest.mark.parametrize("placement", INSERTED)
@pytest.mark.parametrize(
    ("tokens", "ratio", "sink", "positions", "span"),
    [
        # t t t t M t t t t M t t M
        (10, 4, 0, [4, 9, 12], 13),
        (10, 4, 4, [0, 1, 2, 3, 4, 9, 12], 13),
        # t t M t t M t t M: the sink skips the memory tokens, which are kept anyhow
        (6, 2, 4, [0, 1, 2, 3, 4, 5, 8], 9),
        # t M t M t M
        (3, 1, 0, [1, 3, 5], 6),
        # a chunk shorter than one group still has its memory token
        (3, 8, 0, [3], 4),
        (1, 16, 4, [0, 1], 2),
    ],
)
def test_inserted_puts_a_memory_token_after_each_group(
    tiny: Backbone, placement: str, tokens: int, ratio: int, sink: int, positions: list[int], span: int
) -> None:
    (slots,) = compressor(tiny, placement=placement, ratio=ratio, sink_tokens=sink).compress([random_ids(tokens)])
    assert (slots.positions.tolist(), slots.span) == (positions, span)


def test_in_place_slots_are_what_the_plain_model_leaves_there(tiny: Backbone) -> None:
    chunk = random_ids(10)
    (slots,) = compressor(tiny, ratio=4, sink_tokens=2).compress([chunk])
    keys, values = plain_cache(tiny.embeddings(torch.tensor(chunk)), [0, 1, 3, 7, 9])
    torch.testing.assert_close(slots.keys, keys, atol=TINY, rtol=0)
    torch.testing.assert_close(slots.values, values, atol=TINY, rtol=0)


@pytest.mark.parametrize("placement", INSERTED)
def test_inserted_slots_are_what_the_plain_model_leaves_at_the_memory_embedding(tiny: Backbone, placement: str) -> None:
    made, chunk = compressor(tiny, placement=placement, ratio=4, sink_tokens=2), random_ids(10)
    made.memory_embedding.data += torch.randn(64, generator=torch.Generator().manual_seed(3))
    (slots,) = made.compress([chunk])
    memory, embedded = made.memory_embedding.detach(), tiny.embeddings(torch.tensor(chunk))
    copied = embedded if placement == "inserted_copy" else torch.zeros_like(embedded)
    rows = [*embedded[:4], memory + copied[3], *embedded[4:8], memory + copied[7], *embedded[8:], memory + copied[9]]
    keys, values = plain_cache(torch.stack(rows), [0, 1, 4, 9, 12])
    torch.testing.assert_close(slots.keys, keys, atol=TINY, rtol=0)
    torch.testing.assert_close(slots.values, values, atol=TINY, rtol=0)


@pytest.mark.parametrize("sink", [0, 4])
@pytest.mark.parametrize("ratio", [1, 2, 4, 8, 16])
def test_selected_keeps_as_many_tokens_as_in_place_and_the_sink(tiny: Backbone, ratio: int, sink: int) -> None:
    chunks = [random_ids(n, seed=n) for n in (1, 2, 3, 5, 16, 37)]
    selected = compressor(tiny, placement="selected", ratio=ratio, sink_tokens=sink).compress(chunks)
    in_place = compressor(tiny, ratio=ratio, sink_tokens=sink).compress(chunks)
    for chunk, slots, plain in zip(chunks, selected, in_place, strict=True):
        assert (len(slots), slots.span, slots.positions.dtype) == (len(plain), len(chunk), torch.int32)
        assert slots.positions.shape == (3, len(plain))
        assert (slots.positions.diff() > 0).all()
        first = min(sink, len(chunk))
        assert slots.positions[:, :first].tolist() == 3 * [list(range(first))]
        assert slots.positions.max() < len(chunk)


def test_selected_slots_are_what_the_plain_model_leaves_at_the_best_positions(tiny: Backbone) -> None:
    made, chunk = compressor(tiny, placement="selected", ratio=4, sink_tokens=2), random_ids(40)
    (slots,) = made.compress([chunk])
    keys, values = plain_cache(tiny.embeddings(torch.tensor(chunk)), list(range(40)))
    assert made.selector is not None
    scores = made.selector(unrotated(keys, tiny.inverse_frequencies), values)
    assert slots.positions.tolist() == best_positions(scores, 12, 2).tolist()
    assert len({tuple(layer) for layer in slots.positions.tolist()}) == 3  # each layer its own
    for layer, places in enumerate(slots.positions.tolist()):
        torch.testing.assert_close(slots.keys[layer], keys[layer][:, places], atol=TINY, rtol=0)
        torch.testing.assert_close(slots.values[layer], values[layer][:, places], atol=TINY, rtol=0)


def test_selected_at_ratio_1_is_in_place_to_the_bit(tiny: Backbone) -> None:
    chunk = random_ids(37)
    (slots,) = compressor(tiny, placement="selected", ratio=1).compress([chunk])
    (plain,) = compressor(tiny, ratio=1).compress([chunk])
    assert torch.equal(slots.keys, plain.keys)
    assert torch.equal(slots.values, plain.values)
    assert torch.equal(slots.positions, plain.positions.expand(3, -1))


def test_selected_slots_are_opened_behind_other_chunks_as_they_would_stand_there(tiny: Backbone) -> None:
    one, other = compressor(tiny, placement="selected", ratio=4).compress([random_ids(20, seed=1), random_ids(9)])
    turn = tiny.inverse_frequencies
    prefix = open_slots([[one, other]], turn, device=torch.device("cpu"), dtype=torch.float32)
    assert prefix.next_positions.tolist() == [29]
    for layer, cached in enumerate(prefix.cache.layers):
        plain = rotate_keys(other.keys[layer], -other.positions[layer], turn)
        there = rotate_keys(plain, 20 + other.positions[layer], turn)
        torch.testing.assert_close(cached.keys[0, :, len(one) :], there, atol=TINY, rtol=0)


def test_selecting_without_a_selector_says_what_to_do(tiny: Backbone) -> None:
    with pytest.raises(WeightsError, match=r"selector for tiny llama.*--stage selector.*placement='in_place'"):
        Compressor(tiny, CompressionSettings(placement="selected")).compress([random_ids(5)])


def test_a_selector_is_part_of_the_fingerprint_and_is_not_trained_with_the_compressor(tiny: Backbone) -> None:
    made = compressor(tiny, placement="selected")
    before = made.fingerprint()
    assert before == compressor(tiny, placement="selected").fingerprint() != compressor(tiny).fingerprint()
    assert made.selector is not None
    made.selector.mean[0, 0, 0] += 1e-3
    assert made.fingerprint() != before


def test_a_model_in_bf16_selects_in_fp32() -> None:
    model = Backbone(causal_lm().bfloat16(), backbone().tokenizer, "tiny llama")
    made, chunk = compressor(model, placement="selected", ratio=4), random_ids(40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (slots,) = made.compress([chunk])
    (whole,) = compressor(model, ratio=1).compress([chunk])
    assert slots.keys.dtype == torch.bfloat16
    assert made.selector is not None
    scores = made.selector(unrotated(whole.keys, model.inverse_frequencies), whole.values)
    assert scores.dtype == torch.float32
    assert slots.positions.tolist() == best_positions(scores, 13, 4).tolist()


def test_the_memory_embedding_starts_as_end_of_text_or_as_a_plain_copy(tiny: Backbone) -> None:
    end = tiny.embeddings.weight[tiny.tokenizer.eos_token_id]
    assert torch.equal(compressor(tiny, placement="inserted").memory_embedding.data, end)
    assert not compressor(tiny, placement="inserted_copy").memory_embedding.any()
    assert list(compressor(tiny).parameters()) == []
    # The backbone's weights are not the compressor's to train or save.
    assert list(compressor(tiny, placement="inserted").state_dict()) == ["memory_embedding"]


@pytest.mark.parametrize("chunks", [[], [[]], [[5, 6], []]])
def test_nothing_to_compress_is_refused(tiny: Backbone, chunks: list[list[int]]) -> None:
    with pytest.raises(InputError, match="leave empty text out"):
        compressor(tiny).compress(chunks)


def test_chunks_that_fill_half_of_the_context_are_refused(tiny: Backbone) -> None:
    compressor(tiny, chunk_tokens=2048)  # of 4096
    compressor(tiny, chunk_tokens=1638, placement="inserted", ratio=4)  # 2047.5 with the inserted ones
    with pytest.raises(InputError, match=r"chunk_tokens=2049 .* 4096 positions of tiny llama"):
        compressor(tiny, chunk_tokens=2049)
    with pytest.raises(InputError, match="chunk_tokens=1639"):
        compressor(tiny, chunk_tokens=1639, placement="inserted", ratio=4)


# ---- gradients ----


def reading_loss(made: Compressor, model: Backbone) -> Tensor:
    """Return the reasoner's next-token loss on text that it reads after two opened chunks."""
    text = torch.tensor(random_ids(12, seed=9))
    logits = logits_after(model, made([random_ids(20, seed=1), random_ids(9, seed=2)]), text.tolist(), "reasoner")
    return torch.nn.functional.cross_entropy(logits[:-1], text[1:])


@pytest.fixture
def with_adapters() -> Backbone:
    model = backbone()
    model.add_adapter("compressor", rank=4, alpha=8)
    model.add_adapter("reasoner", rank=4, alpha=8)
    return model


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_reasoners_loss_reaches_the_compressor_the_reasoner_and_the_memory_embedding(
    with_adapters: Backbone, placement: str
) -> None:
    made = compressor(with_adapters, placement=placement, ratio=4, sink_tokens=0)
    reading_loss(made, with_adapters).backward()
    layers = with_adapters.config.num_hidden_layers
    for role in ("compressor", "reasoner"):
        # A new adapter's B is zero, so that only B gets a gradient that is not.
        grads = [
            p.grad
            for n, p in with_adapters.causal_lm.named_parameters()
            if f"lora_B.{role}." in n and ("_proj" in n and (role == "reasoner" or f"layers.{layers - 1}." not in n))
        ]
        assert grads
        assert all(g is not None and g.abs().max() > 0 for g in grads), role
    if placement in INSERTED:
        assert made.memory_embedding.grad is not None
        assert made.memory_embedding.grad.abs().max() > 0
    assert all(p.grad is None for n, p in with_adapters.causal_lm.named_parameters() if "lora_" not in n)


def test_turning_an_adapter_on_freezes_no_other_that_is_trained(with_adapters: Backbone) -> None:
    for role in ("compressor", "reasoner", "gate", None):
        with with_adapters.using(role):
            for trained in ("compressor", "reasoner"):
                assert all(p.requires_grad for p in with_adapters.adapter_parameters(trained)), (role, trained)


def test_steps_down_the_gradient_lower_the_reasoners_loss(with_adapters: Backbone) -> None:
    made = compressor(with_adapters, placement="inserted", ratio=4, sink_tokens=0)
    with_adapters.train_only(["compressor"])
    trained = [made.memory_embedding, *with_adapters.adapter_parameters("compressor")]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    losses = []
    for _ in range(6):
        loss = reading_loss(made, with_adapters)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1, losses
    assert all(p.grad is None for p in with_adapters.adapter_parameters("reasoner"))


def test_compress_keeps_no_graph_and_forward_does(with_adapters: Backbone) -> None:
    made = compressor(with_adapters)
    assert not made.compress([random_ids(9)])[0].keys.requires_grad
    assert made([random_ids(9)])[0].keys.requires_grad


# ---- the default model ----


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_batch_gives_the_slots_of_each_alone_on_the_default_model(placement: str) -> None:
    model = default_backbone()
    made = compressor(model, placement=placement, ratio=4)
    chunks = [
        model.encode(text) for text in ("Skagen has a lighthouse. " * 8, "Yes.", "Anna Holm kept a diary there. ")
    ]
    for chunk, slots in zip(chunks, made.compress(chunks), strict=True):
        # Its keys reach 20 in size.
        assert_same(slots, made.compress([chunk])[0], 5e-4)


def test_untrained_slots_in_place_help_the_default_model_to_read_on() -> None:
    model = default_backbone()
    ids = model.encode(pydoc_data.topics.topics["context-managers"])[:336]
    context, rest = ids[:256], ids[256:]

    def loss(opened: list[Slots], read: list[int]) -> float:
        with torch.no_grad():
            logits = logits_after(model, opened, read) if opened else alone(read)
        return float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(read[1:])))

    def alone(read: list[int]) -> Tensor:
        inputs = torch.tensor([read])
        return model.logits(model.hidden(inputs, torch.ones_like(inputs), torch.arange(len(read))[None])[0])[0]

    every, half, quarter = (loss(compressor(model, ratio=ratio).compress([context]), rest) for ratio in (1, 2, 4))
    nothing = loss([], rest)
    assert every < half < quarter < nothing
    assert half < (every + nothing) / 2
