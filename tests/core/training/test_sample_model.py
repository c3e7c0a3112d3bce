"""The tiny model of the smoke recipe."""

from pathlib import Path

import torch

from core.backbone import Backbone
from core.training.sample_model import write_sample_model


def test_it_loads_as_any_model_does_and_its_tokenizer_loses_nothing(tmp_path: Path) -> None:
    write_sample_model(tmp_path)
    model = Backbone.load(str(tmp_path))
    text = 'The "assert" statement, naïvely: x = {1: "α"}\n'
    assert model.tokenizer.decode(model.encode(text)) == text
    # A text cannot end the reply.
    assert model.tokenizer.eos_token_id not in model.encode(model.tokenizer.eos_token)
    assert model.encode_chat("System", "user", "<update>")
    ids = torch.tensor([model.encode(text)])
    assert model.causal_lm(ids).logits.shape == (1, ids.shape[1], len(model.tokenizer))


def test_the_same_seed_writes_the_same_model(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_sample_model(tmp_path / name, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
