"""Small random models with real tokenizers, and the real default model, for the tests of the mechanics."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen3Config,
)

from core.backbone import Backbone, Role
from core.kv_cache import Slots, open_slots
from core.weights import DEFAULT_MODEL, resolve

VOCABULARY = 49152

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}

# Weights far larger than at a real start, so that attention is sharp and a wrong position shows.
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SHAPE),
    "llama with llama3 scaling": lambda: LlamaConfig(**_SHAPE, rope_parameters=dict(LLAMA3_ROPE)),
    "llama with linear scaling": lambda: LlamaConfig(**_SHAPE, rope_parameters=dict(LINEAR_ROPE)),
    "qwen2": lambda: Qwen2Config(**_SHAPE),
    "qwen3": lambda: Qwen3Config(**_SHAPE),
    "mistral": lambda: MistralConfig(**_SHAPE, sliding_window=None),
}


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """Return the default model's own tokenizer."""
    return AutoTokenizer.from_pretrained(resolve(DEFAULT_MODEL))


def causal_lm(kind: str = "llama", seed: int = 0) -> PreTrainedModel:
    """Return a plain Hugging Face model: two calls with the same arguments give the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind](), dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms start as zeros and ones, which would hide mistakes
                parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def backbone(kind: str = "llama", seed: int = 0) -> Backbone:
    return Backbone(causal_lm(kind, seed), tokenizer(), f"tiny {kind}")


@cache
def default_backbone() -> Backbone:
    """Return the default model in fp32. Shared: give it no adapter."""
    return Backbone.load(device=torch.device("cpu"), dtype=torch.float32)


@cache
def default_causal_lm() -> PreTrainedModel:
    """Return the default model as Hugging Face loads it, by none of our code."""
    return AutoModelForCausalLM.from_pretrained(resolve(DEFAULT_MODEL), dtype=torch.float32).eval()


def writer(script: Sequence[int], first: int) -> PreTrainedModel:
    """Return a Llama that writes ``script`` after the token ``first``, and its last token from then on.

    Attention and MLP give nothing, so the hidden state is the last token's embedding, and each
    token's embedding is the output row of the one that follows. Its tokens must all be different.
    """
    chain = [first, *script]
    assert len(set(chain)) == len(chain) <= 64
    model = LlamaForCausalLM(LlamaConfig(**_SHAPE, tie_word_embeddings=False)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.zero_()
    for place, token in enumerate(chain):
        model.model.embed_tokens.weight[token, place] = 1.0
        model.lm_head.weight[chain[min(place + 1, len(chain) - 1)], place] = 1.0
    return model


def random_ids(tokens: int, seed: int = 0) -> list[int]:
    """Return ids of text tokens, no control token among them."""
    return torch.randint(17, VOCABULARY, (tokens,), generator=torch.Generator().manual_seed(seed)).tolist()


def logits_after(model: Backbone, opened: Sequence[Slots], ids: Sequence[int], role: Role | None = None) -> Tensor:
    """Return the logits [tokens, vocabulary] of ``ids`` read after ``opened``, through our code."""
    prefix = open_slots([opened], model.inverse_frequencies, device=model.device, dtype=model.dtype)
    inputs = torch.tensor([ids])
    mask = torch.cat((prefix.mask, torch.ones_like(inputs)), dim=1)
    positions = prefix.next_positions[:, None] + torch.arange(len(ids))
    with model.using(role):
        hidden, _ = model.hidden(inputs, mask, positions, prefix)
        return model.logits(hidden)[0]


def randomize_adapter(model: Backbone, role: Role, seed: int, scale: float = 0.05) -> None:
    """Give both LoRA matrices of ``role`` values; B starts at zero, where an adapter changes nothing."""
    random = torch.Generator().manual_seed(seed)
    for parameter in model.adapter_parameters(role):
        parameter.data = scale * torch.randn(parameter.shape, generator=random)
