"""What slots carry before any training: the untrained rows of the design's table, from the project's own code.

The frozen base reads the slots of a story's beginning and predicts the tokens that follow. Between
full context and no context lies what a form of compression keeps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbone import Backbone
from ..compressor import Compressor
from ..errors import InputError
from ..kv_cache import Prefix, Slots, empty_prefix, open_slots
from ..settings import CompressionSettings

TARGET_TOKENS = 96
_START_DEVIATION = 0.02
"""Of a token that starts at random: what Llama's embeddings are drawn with before training."""
_BATCH = 10


class Form(NamedTuple):
    """One way of keeping the context."""

    name: str
    settings: CompressionSettings | None
    """``None`` keeps none of it."""
    averaged: int = 0
    """Tokens whose keys and values are averaged into one, in place of choosing the last."""
    seed: int | None = None
    """Draws the inserted token's start; ``None`` starts it as :class:`core.compressor.Compressor` does."""


@dataclass(frozen=True)
class UntrainedRow:
    """The loss of the frozen base on the next 96 tokens, nats a token, mean over windows."""

    context: int
    """Tokens before them."""
    form: str
    loss: float
    over_full: float
    """Loss above that with the full context: what the form costs."""
    reference: float | None
    """The design's figure, from stories and offsets that were not recorded."""
    reference_over_full: float | None


# (context, form) -> the loss that the design reports.
REFERENCE = {
    (256, "full"): 3.40,
    (256, "none"): 4.15,
    (256, "in place, sink, ratio 4"): 3.70,
    (256, "inserted, as in the paper, ratio 4"): 5.98,
    (256, "inserted copy, sink, ratio 4"): 4.55,
    (512, "full"): 3.77,
    (512, "none"): 4.60,
    (512, "in place, sink, ratio 2"): 3.88,
    (512, "in place, sink, ratio 4"): 4.05,
    (512, "in place, sink, ratio 8"): 4.18,
    (512, "in place, no sink, ratio 4"): 5.06,
    (512, "averaged, sink, ratio 4"): 4.42,
}


def forms(context: int, starts: int = 0) -> tuple[Form, ...]:
    """Return the forms that the design reports for windows of so many tokens: 256 as in its table, or 512.

    Args:
        starts: how many times the paper's form at 256 is measured with its token drawn at random too. How the design
            started the token is not recorded, and the loss hangs on it.
    """
    whole = CompressionSettings(chunk_tokens=context, ratio=1, sink_tokens=0)
    plain = (Form("full", whole), Form("none", None))
    if context == 256:
        inserted = CompressionSettings(chunk_tokens=context, placement="inserted", sink_tokens=0)
        return (
            *plain,
            Form("in place, sink, ratio 4", CompressionSettings(chunk_tokens=context)),
            Form("inserted, as in the paper, ratio 4", inserted),
            *(Form(f"inserted, random start {seed}, ratio 4", inserted, seed=seed) for seed in range(starts)),
            Form("inserted copy, sink, ratio 4", CompressionSettings(chunk_tokens=context, placement="inserted_copy")),
        )
    return (
        *plain,
        *(
            Form(f"in place, sink, ratio {ratio}", CompressionSettings(chunk_tokens=context, ratio=ratio))
            for ratio in (2, 4, 8)
        ),
        Form("in place, no sink, ratio 4", CompressionSettings(chunk_tokens=context, sink_tokens=0)),
        Form("averaged, sink, ratio 4", whole, averaged=4),
    )


def measure(
    backbone: Backbone,
    texts: Sequence[str],
    context: int = 256,
    offset: int = 0,
    starts: int = 0,
    step: Callable[[], None] = lambda: None,
) -> list[UntrainedRow]:
    """Measure every form on one window of each of ``texts``.

    Args:
        context: tokens that are compressed.
        offset: tokens of each text to skip.
        starts: see :func:`forms`.
        step: called after each form.

    Raises:
        InputError: a text is too short.
    """
    windows = _windows(backbone, texts, context, offset)
    found: dict[str, float] = {}
    for form in forms(context, starts):
        found[form.name] = float(window_losses(backbone, windows, context, form).mean())
        step()
    reference_full = REFERENCE.get((context, "full"))
    rows = []
    for name, loss in found.items():
        reference = REFERENCE.get((context, name))
        cost = None if reference is None or reference_full is None else reference - reference_full
        rows.append(UntrainedRow(context, name, loss, loss - found["full"], reference, cost))
    return rows


def window_losses(backbone: Backbone, windows: Tensor, context: int, form: Form) -> Tensor:
    """Return the mean loss of each window's last 96 tokens, float32 [windows].

    The token between context and these is given, because slots hold no logits to predict it from.

    Args:
        windows: int64 [windows, context + 1 + 96].
        context: tokens that ``form`` keeps.
    """
    losses = []
    with torch.no_grad():
        for part in windows.split(_BATCH):
            prefix = _prefix(backbone, part[:, :context], form)
            losses.append(_loss(backbone, part[:, context:].to(backbone.device), prefix))
    return torch.cat(losses)


def _windows(backbone: Backbone, texts: Sequence[str], context: int, offset: int) -> Tensor:
    size, rows = context + 1 + TARGET_TOKENS, []
    for row, text in enumerate(texts):
        ids = backbone.encode(text[: 12 * (offset + size)])[offset : offset + size]
        if len(ids) < size:
            raise InputError(f"text {row} has under {offset + size} tokens: lower offset={offset} or leave it out")
        rows.append(ids)
    return torch.tensor(rows)


def _prefix(backbone: Backbone, context: Tensor, form: Form) -> Prefix:
    if form.settings is None:
        return empty_prefix(len(context), backbone.device)
    compressor = Compressor(backbone, form.settings).to(backbone.device)
    if form.seed is not None:
        drawn = torch.randn(backbone.hidden_size, generator=torch.Generator().manual_seed(form.seed))
        with torch.no_grad():
            compressor.memory_embedding.copy_(_START_DEVIATION * drawn)
    slots = compressor.compress(context.tolist())
    if form.averaged:
        slots = [_averaged(s, form.averaged) for s in slots]
    return open_slots([[s] for s in slots], backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype)


def _averaged(slots: Slots, group: int) -> Slots:
    """Average the keys and values of each ``group`` of slots behind the sink, which stays as it is."""
    sink = CompressionSettings().sink_tokens

    def averaged(part: Tensor) -> Tensor:
        return torch.cat((part[:, :, :sink], part[:, :, sink:].unflatten(2, (-1, group)).mean(3)), dim=2)

    positions = torch.cat((slots.positions[:sink], slots.positions[sink + group - 1 :: group]))
    return Slots(averaged(slots.keys), averaged(slots.values), positions, slots.span)


def _loss(backbone: Backbone, target: Tensor, prefix: Prefix) -> Tensor:
    positions = prefix.next_positions[:, None] + torch.arange(target.shape[1], device=target.device)
    mask = torch.cat((prefix.mask, torch.ones_like(target)), dim=1)
    with backbone.using(None):
        hidden, _ = backbone.hidden(target, mask, positions, prefix if prefix.slots else None)
    logits = backbone.logits(hidden[:, :-1]).float()
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), target[:, 1:], reduction="none").mean(1)
