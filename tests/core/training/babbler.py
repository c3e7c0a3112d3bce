"""A tiny random model that knows a dozen tokens, so that now and then it says something that earns a reward."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from core.backbone import Backbone
from core.training.material import Material
from core.training.settings import TrainingSettings
from core.training.stage import Stage

from ...tiny_models import backbone, randomize_adapter, tokenizer
from ..evaluation.made import MILL, POOL

Work = TypeVar("Work")

KNOWN = " mill", " owned", " film", " directed", " rain", " road", " tea", "</", "update", "answer", ">", "<|im_end|>"


def babbler(*roles: str, scale: float = 0.3, adapters: float = 0.0, also: Sequence[str] = ()) -> Backbone:
    """Return a model with new adapters for ``roles``.

    Args:
        also: what it knows beside :data:`KNOWN`.
        scale: of the known tokens' logits: the larger, the more it prefers some of them.
        adapters: of the adapters' values; at 0 they begin as the identity.
    """
    model = backbone()
    causal_lm = model.causal_lm
    known = [token for text in (*KNOWN, *also) for token in tokenizer().encode(text, add_special_tokens=False)]
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # Dimension 0 is the same everywhere, so that the head has something like a bias.
        causal_lm.model.embed_tokens.weight[:, 0] = 3.0
        causal_lm.model.norm.weight[0] = 1.0
        for layer in causal_lm.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        causal_lm.lm_head.weight.zero_()
        causal_lm.lm_head.weight[:, 0] = -20.0
        causal_lm.lm_head.weight[known] = scale * torch.randn(len(known), 64, generator=random)
    for number, role in enumerate(roles):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model.add_adapter(role, rank=4, alpha=8)
        if adapters:
            randomize_adapter(model, role, number, adapters)
    model.train_only(roles)
    return model


def settings(**changes: object) -> TrainingSettings:
    small = {"batch": 1, "group": 8, "haystack": 4, "max_steps": 2, "update_tokens": 8, "answer_tokens": 4}
    return TrainingSettings(**{"stage": "rl", "forms": ("compressed",), "ratios": (4,), **small, **changes})


def material() -> Material:
    """Return one question, whose paragraph says what the model can say."""
    return Material((MILL,), (MILL,), POOL)


def one_step(stage: Stage[Work], pieces: Sequence[Work]) -> dict[str, float]:
    """Go back through all ``pieces`` and return the sums of what was measured."""
    sums: dict[str, float] = {}
    for piece in pieces:
        loss, measured = stage(piece)
        loss.backward()
        for name, value in {"loss": float(loss.detach()), **measured}.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def gradients(stage: Stage[Work]) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in stage.named_parameters() if p.grad is not None and p.grad.any()}
