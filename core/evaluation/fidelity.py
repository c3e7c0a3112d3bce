"""What compression keeps, by α, placement and type of slots, alone: ``python -m core.evaluation.fidelity``.

Three measures, each with chunks opened as slots and nothing else to go by:

- next text: the loss on the 96 tokens that follow a passage, and the share of the gap between no
  context and full context that the slots keep (1 keeps all, 0 nothing);
- reconstruction: loss and accuracy, token by token, of the passage itself read again after its slots;
- answers: F1 of the reader with a question's gold paragraphs opened.

The frozen base reads for the first two, as in LycheeMemory's first stage; the reasoner answers.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from ..adapters import find_adapters, load_adapters
from ..backbone import Backbone
from ..benchmarks.material import texts as read_texts
from ..benchmarks.report import machine, progress, show
from ..benchmarks.untrained import TARGET_TOKENS
from ..compressor import Compressor
from ..errors import CompressedMemoryError, InputError
from ..generation import Generator, Prompt
from ..kv_cache import Prefix, Slots, empty_prefix, open_slots
from ..prompts import ANSWER_OPENING, ANSWER_STOP, parse_answer
from ..quantization import rounded
from ..questions import Question
from ..settings import CompressionSettings, Placement, Ratio, SlotType
from ..slot_store import kept_bytes
from ..weights import DEFAULT_MODEL
from .metrics import score_question
from .question_files import READERS, chosen

RATIOS: tuple[Ratio, ...] = (1, 2, 4, 8, 16)
PLACEMENTS: tuple[Placement, ...] = ("in_place", "inserted")
KEPT: dict[SlotType, Callable[[Slots], Slots]] = {
    "bf16": lambda s: Slots(s.keys.to(torch.bfloat16), s.values.to(torch.bfloat16), s.positions, s.span),
    "int8": rounded,
}
"""Slots as they are read back from a bank. Where the model computes in fp32, a bank in bf16 has fp32's bytes."""
_BATCH = 4
_SYSTEM = "You answer questions from texts. Write the answer inside <answer></answer>."


@dataclass(frozen=True)
class FidelityRow:
    """One placement at one ratio. Losses are nats a token, means over passages."""

    placement: str
    ratio: int
    """α."""
    slots: str
    """How they were kept, bf16 or int8."""
    mib_per_million_tokens: float
    """Of these passages' slots."""
    next_text_loss: float
    next_text_kept: float
    """(loss without context - loss) / (loss without context - loss with full context)."""
    reconstruction_loss: float
    reconstruction_accuracy: float
    """Share of tokens that are the likeliest."""
    answer_f1: float
    answer_sub_exact_match: float


def measure(
    backbone: Backbone,
    stories: Sequence[str],
    questions: Sequence[Question],
    placement: Placement,
    *,
    context: int = 256,
    ratios: Sequence[Ratio] = RATIOS,
    kept_as: Sequence[SlotType] = ("bf16",),
    adapters: Path | None = None,
    step: Callable[[], None] = lambda: None,
) -> list[FidelityRow]:
    """Measure one placement at every ratio, with slots kept in every way of ``kept_as``.

    Args:
        stories: texts of which the first ``context`` tokens and the 97 after them are used.
        questions: with gold paragraphs.
        adapters: the folder that ``backbone`` has its adapters from: inserted tokens have an embedding, selected ones a
            selector there.
        step: called after each row.

    Raises:
        InputError: a story is too short.
    """
    contexts, targets = passages(backbone, stories, context).tensor_split([context], dim=1)
    whole = Compressor(backbone, CompressionSettings(ratio=1, sink_tokens=0))
    (none, _), (full, _) = (read_after(backbone, c, contexts, targets) for c in (None, whole))
    rows = []
    for ratio in ratios:
        compressor = Compressor(backbone, CompressionSettings(ratio=ratio, placement=placement)).to(backbone.device)
        if adapters is not None:
            compressor.load_weights(adapters)
        for kind in kept_as:
            keep = KEPT[kind]
            loss, _ = read_after(backbone, compressor, contexts, targets, keep)
            again, accuracy = read_after(backbone, compressor, contexts, contexts, keep)
            f1, sub = answers_from_gold(backbone, compressor, questions, keep)
            kept = (none - loss) / (none - full)
            size = _mib_per_million_tokens(compressor, contexts, kind)
            rows.append(FidelityRow(placement, ratio, kind, size, loss, kept, again, accuracy, f1, sub))
            step()
    return rows


def _mib_per_million_tokens(compressor: Compressor, contexts: Tensor, kind: SlotType) -> float:
    (slots,) = compressor.compress(contexts[:1].tolist())
    return kept_bytes(KEPT["bf16"](slots), kind) / contexts.shape[1] * 1e6 / 2**20


def passages(backbone: Backbone, stories: Sequence[str], context: int) -> Tensor:
    """Return the beginnings of ``stories``, int64 [stories, context + 1 + 96].

    Raises:
        InputError: a story is too short.
    """
    size, rows = context + 1 + TARGET_TOKENS, []
    for number, story in enumerate(stories):
        ids = backbone.encode(story[: 12 * size])[:size]
        if len(ids) < size:
            raise InputError(
                f"text {number} has {len(ids)} tokens, {size} are needed: leave it out, or lower --context"
            )
        rows.append(ids)
    return torch.tensor(rows)


def read_after(
    backbone: Backbone,
    compressor: Compressor | None,
    contexts: Tensor,
    targets: Tensor,
    keep: Callable[[Slots], Slots] = lambda slots: slots,
) -> tuple[float, float]:
    """Read ``targets`` after the slots of ``contexts`` with the frozen base; return mean loss and share right.

    The first token of a target is given, because slots hold no logits to predict it from.

    Args:
        compressor: ``None`` opens nothing.
        contexts: int64 [passages, tokens].
        targets: int64 [passages, tokens]; the contexts themselves measure reconstruction.
        keep: gives slots as they are read back from a bank.
    """
    losses, hits = list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for context, target in zip(contexts.split(_BATCH), targets.split(_BATCH), strict=True):
            prefix, ids = _opened(backbone, compressor, context, keep), target.to(backbone.device)
            positions = prefix.next_positions[:, None] + torch.arange(ids.shape[1], device=ids.device)
            mask = torch.cat((prefix.mask, torch.ones_like(ids)), dim=1)
            with backbone.using(None):
                hidden, _ = backbone.hidden(ids, mask, positions, prefix if prefix.slots else None)
                logits = backbone.logits(hidden[:, :-1]).float()
            losses.append(torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none"))
            hits.append((logits.argmax(-1) == ids[:, 1:]).float())
    return float(torch.cat(losses).mean()), float(torch.cat(hits).mean())


def answers_from_gold(
    backbone: Backbone,
    compressor: Compressor,
    questions: Sequence[Question],
    keep: Callable[[Slots], Slots] = lambda slots: slots,
) -> tuple[float, float]:
    """Ask each question with its gold paragraphs open as slots; return mean F1 and sub-EM."""
    generator, scores = Generator(backbone), []
    for question in questions:
        golds = [[backbone.encode(paragraph.document)] for paragraph in question.gold]
        slots = [keep(s) for ids in golds for s in compressor.compress(ids)]
        reply = generator.reply(_prompt(question.question, slots))
        scores.append(score_question(parse_answer(reply.text, question.question), question))
    return sum(s.f1 for s in scores) / len(scores), sum(s.sub_exact_match for s in scores) / len(scores)


def _prompt(question: str, slots: Sequence[Slots]) -> Prompt:
    user = f"Question: {question}\n\nAnswer from the text above in a few words."
    return Prompt(_SYSTEM, user, ANSWER_OPENING, ANSWER_STOP, 32, tuple(slots))


def _opened(backbone: Backbone, compressor: Compressor | None, part: Tensor, keep: Callable[[Slots], Slots]) -> Prefix:
    if compressor is None:
        return empty_prefix(len(part), backbone.device)
    groups = [[keep(slots)] for slots in compressor.compress(part.tolist())]
    return open_slots(groups, backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after an error."""
    parser = argparse.ArgumentParser("python -m core.evaluation.fidelity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stories", type=Path, required=True, help="texts, as lines with a field 'text' or plain")
    parser.add_argument("--stories-count", type=int, default=16, metavar="N")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="questions with gold paragraphs")
    parser.add_argument("--format", default="schema", choices=list(READERS))
    parser.add_argument("--questions", type=int, default=32, metavar="N")
    parser.add_argument("--context", type=int, default=256, metavar="N", help="tokens of a story to compress [256]")
    parser.add_argument("--ratios", nargs="+", type=int, default=list(RATIOS), choices=RATIOS)
    parser.add_argument("--placements", nargs="+", default=list(PLACEMENTS), choices=get_args(Placement))
    parser.add_argument("--slots", nargs="+", default=["bf16"], choices=list(KEPT), help="how slots are kept [bf16]")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="that the model computes in [as it is fast]")
    parser.add_argument("--adapters", default="default", help="default, none, or a folder that training wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    try:
        _measure_and_show(parser.parse_args(arguments))
    except CompressedMemoryError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _measure_and_show(parsed: argparse.Namespace) -> None:
    questions = chosen(list(READERS[parsed.format](parsed.data)), 10**6, 0, parsed.questions)
    stories, folder = read_texts([parsed.stories])[: parsed.stories_count], find_adapters(parsed.adapters, parsed.model)
    rows = list[FidelityRow]()
    with progress() as shown:
        task = shown.add_task("forms", total=len(parsed.ratios) * len(parsed.placements) * len(parsed.slots))
        for placement in parsed.placements:
            dtype = getattr(torch, parsed.dtype) if parsed.dtype else None
            backbone = Backbone.load(parsed.model, dtype=dtype)  # anew, because an adapter is for one placement
            if folder is not None:
                load_adapters(backbone, folder, placement)
            rows += measure(
                backbone,
                stories,
                questions,
                placement,
                context=parsed.context,
                ratios=parsed.ratios,
                kept_as=parsed.slots,
                adapters=folder,
                step=partial(shown.advance, task),
            )
    show("fidelity", vars(parsed), rows, parsed.json, where=machine())


if __name__ == "__main__":
    sys.exit(main())
