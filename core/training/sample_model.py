"""A tiny random model with a tokenizer of its own: ``python -m core.training.sample_model DIR``.

For trying the training commands in minutes and without a download, as ``training/smoke_cpu.sh`` does. It
has learned nothing but which letters of the Python reference stand together.
"""

import logging
from pathlib import Path
from pydoc_data.topics import topics
from typing import Annotated

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_VOCABULARY = 2048
_END = "<|end|>"


def write_sample_model(folder: Path, seed: int = 0) -> None:
    """Write a Llama of two layers and 64 dimensions, and its tokenizer, as Hugging Face reads them."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), eos_token=_END, pad_token=_END)
    end = tokenizer.convert_tokens_to_ids(_END)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator((topics[name] for name in sorted(topics)), trainer)
    return made


def main(
    folder: Annotated[Path, typer.Argument(help="Where to put the model.")],
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
) -> None:
    """Write a tiny random model for trying the training commands."""
    write_sample_model(folder, seed)
    logging.getLogger(__name__).info("%s: a random model, for trying only", folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
