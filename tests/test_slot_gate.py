"""What both gates over slots compute, alone and in batches, and how they are kept."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from core.adapters import save_adapters
from core.backbone import Backbone
from core.compressor import Compressor
from core.errors import WeightsError
from core.kv_cache import Slots
from core.prompts import gate_prompt
from core.settings import CompressionSettings
from core.similarity import UNTRAINED
from core.slot_gate import (
    HEAD,
    ProbeGate,
    SlotGate,
    load_gate,
    save_gate,
)

from .tiny_models import backbone, causal_lm, default_backbone, logits_after, random_ids, randomize_adapter

KINDS = [SlotGate, ProbeGate]
Kind = type[SlotGate | ProbeGate]
QUESTION = "Who kept the lighthouse?"
PROMPT = gate_prompt(QUESTION, ())
COSINES = torch.tensor([0.1, 0.5, -0.2, 0.3, 0.9])
# fp32 differs between batch sizes by the order of its sums.
TINY = 2e-4


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    model = backbone()
    model.add_adapter("gate", rank=4, alpha=8)
    randomize_adapter(model, "gate", 0)
    return model


def moved(gate: SlotGate | ProbeGate) -> SlotGate | ProbeGate:
    """Move a gate away from where training starts, so that the hidden state counts."""
    random = torch.Generator().manual_seed(0)
    nn.init.normal_(gate.head.weight[:, :-1], std=0.3, generator=random)
    if isinstance(gate, ProbeGate):
        nn.init.normal_(gate.probes, std=0.3, generator=random)
    return gate.requires_grad_(False)


def unequal_slots(model: Backbone) -> list[Slots]:
    made = Compressor(model, CompressionSettings(ratio=4))
    return made.compress([random_ids(n, seed=n) for n in (40, 3, 1, 64, 17)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_chunks_scores_as_each_alone(tiny: Backbone, kind: Kind) -> None:
    gate, slots = moved(kind(tiny)), unequal_slots(tiny)
    together = gate(slots, PROMPT, COSINES)
    alone = torch.cat([gate([slots[i]], PROMPT, COSINES[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=TINY, rtol=0)
    in_batches = gate.scores(PROMPT, [(slots[:2], COSINES[:2]), (slots[2:], COSINES[2:])])
    torch.testing.assert_close(torch.cat(list(in_batches)), together, atol=TINY, rtol=0)
    # The scores differ by more than the similarities do, so the slots were read.
    assert (together - UNTRAINED.slope * COSINES).std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_chunks_scores_as_each_alone_on_the_default_model(kind: Kind) -> None:
    model = default_backbone()
    texts = ("Anna Holm kept the lighthouse at Skagen.", "Bread is baked from flour.", "A museum.")
    gate = moved(kind(model))
    slots = Compressor(model, CompressionSettings(ratio=4)).compress([model.encode(text) for text in texts])
    together = gate(slots, PROMPT, torch.zeros(3))
    alone = torch.cat([gate([s], PROMPT, torch.zeros(1)) for s in slots])
    torch.testing.assert_close(together, alone, atol=TINY, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_question_and_the_notes_count(tiny: Backbone, kind: Kind) -> None:
    gate, slots = moved(kind(tiny)), unequal_slots(tiny)
    found = [
        gate(slots, p, COSINES) for p in (PROMPT, gate_prompt("Who baked?", ()), gate_prompt(QUESTION, ("Skagen",)))
    ]
    assert (found[0] - found[1]).abs().max() > 0.01
    assert (found[0] - found[2]).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_gate_says_what_the_similarity_says(tiny: Backbone, kind: Kind) -> None:
    expected = UNTRAINED.slope * (COSINES - UNTRAINED.midpoint)
    torch.testing.assert_close(kind(tiny)(unequal_slots(tiny), PROMPT, COSINES), expected, atol=1e-4, rtol=0)


def test_the_whole_prompt_is_read_behind_the_slots() -> None:
    model = backbone()
    gate, (slots, *_) = moved(SlotGate(model)), unequal_slots(model)
    # With a head that copies one logit's row, the score is that logit of the plain reading.
    prompt, token = gate_prompt(QUESTION, ("Skagen",)), 1234
    gate.head.weight[0, :-1] = causal_lm().lm_head.weight[token]
    expected = logits_after(model, [slots], model.encode(prompt))[-1, token]
    offset = UNTRAINED.slope * (0.25 - UNTRAINED.midpoint)
    torch.testing.assert_close(gate([slots], prompt, torch.tensor([0.25])), expected[None] + offset, atol=TINY, rtol=0)


def test_probes_read_the_prompt_and_then_the_chunk() -> None:
    """Against the plain model over prompt, whole chunk and probes, with slots that keep every token.

    A chunk is encoded on its own, so in the plain reading it must not see the prompt: a mask of [tokens, tokens]
    keeps them apart.
    """
    model, chunk = backbone(), random_ids(23, seed=3)
    gate = moved(ProbeGate(model, probes=3))
    (slots,) = Compressor(model, CompressionSettings(ratio=1)).compress([chunk])
    token, prompt = 1234, model.encode(PROMPT)
    gate.head.weight[0, :-1] = causal_lm().lm_head.weight[token]
    embed = causal_lm().get_input_embeddings()
    inputs = torch.cat((embed(torch.tensor(prompt + chunk)), gate.probes))[None]
    allowed = torch.ones(inputs.shape[1], inputs.shape[1]).tril().bool()
    allowed[len(prompt) : len(prompt) + len(chunk), : len(prompt)] = False
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        expected = causal_lm()(inputs_embeds=inputs, attention_mask=mask).logits[0, -1, token]
    offset = UNTRAINED.slope * (0.25 - UNTRAINED.midpoint)
    found = gate([slots], PROMPT, torch.tensor([0.25]))
    torch.testing.assert_close(found, expected[None] + offset, atol=TINY, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_adapter_head_and_probes(kind: Kind) -> None:
    model = backbone()
    model.add_adapter("gate", rank=4, alpha=8)
    randomize_adapter(model, "gate", 0)
    gate = moved(kind(model)).requires_grad_(True)
    gate(unequal_slots(model), PROMPT, COSINES).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gate.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.adapter_parameters("gate"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_that_was_saved_scores_as_before_and_calibrated(tiny: Backbone, kind: Kind, tmp_path: Path) -> None:
    gate, slots = moved(kind(tiny)), unequal_slots(tiny)
    before = gate(slots, PROMPT, COSINES)
    save_adapters(tiny, ("gate",), tmp_path, "in_place")
    save_gate(gate, tmp_path, scale=0.5, shift=-2.0)
    loaded = load_gate(backbone(), tmp_path)
    assert type(loaded) is kind
    # Adapters are kept in bf16, three digits.
    torch.testing.assert_close(loaded(slots, PROMPT, COSINES), 0.5 * before - 2.0, atol=0.05, rtol=0.01)
    torch.testing.assert_close(gate(slots, PROMPT, COSINES), before)


def test_a_missing_or_foreign_gate_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no gate at"):
        load_gate(tiny, tmp_path)
    save_gate(SlotGate(tiny), tmp_path)
    with pytest.raises(WeightsError, match="another model"):
        load_gate(default_backbone(), tmp_path)
    assert set(load_file(tmp_path / HEAD)) == {"head.weight", "head.bias"}
