"""The command line of training: ``python -m core.training --stage reasoner --data DIR --out runs/NAME``."""

import logging
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, cast

import torch
import typer
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..adapters import DEFAULT_ADAPTERS, NO_ADAPTERS, find_adapters, holds_adapter, load_adapters, read_card
from ..backbone import ROLES, Backbone, Role
from ..embedder import Embedder
from ..embedder_head import find_head
from ..errors import CompressedMemoryError, InputError
from ..evidence import Tagger
from ..extraction import Extractor
from ..query_encoder import find_queries
from ..selector import SELECTOR
from ..settings import Form, Placement, Ratio
from ..weights import DEFAULT_EMBEDDER, DEFAULT_MODEL
from .attention import attend_for_training
from .choosing import ChooseAnswers
from .evidence import EvidenceTraining
from .extraction import ExtractionTraining
from .gate import GateTraining
from .material import Material, read_material
from .query_gate import Passages, QueryTraining, read_passages
from .rl import Reinforce
from .selector import SelectorTraining
from .settings import GateKind, Outcome, Sampled, StageName, TrainingSettings
from .stage import Stage
from .supervised import Supervised
from .trainer import Finished, Trainer, accelerator

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_ORDER: tuple[StageName, ...] = ("reasoner", "compressor", "rl", "gate", "evidence", "extractor")
"""What ``all`` does: each stage starts from the adapters of those before it; the selector first, where there is one."""

_FORMS: dict[StageName, str] = {"reasoner": "raw", "compressor": "compressed", "rl": "compressed", "gate": "compressed"}

_RATES: dict[StageName, float] = {"selector": 3e-3, "reasoner": 5e-4, "compressor": 5e-4, "rl": 3e-5, "gate": 5e-4}
"""Highest learning rates. That of RL is LycheeMemory's: it refines a policy that a higher one would undo."""


@app.command()
def train(
    stage: Annotated[
        str, typer.Option(help="selector, compressor, reasoner, rl, gate, evidence, extractor, or all in order.")
    ],
    data: Annotated[Path, typer.Option(help="Folder with train/*.jsonl.gz and pool/wikipedia.jsonl.gz.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: settings, checkpoint, metrics, curve, adapters.")],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face id.")] = DEFAULT_MODEL,
    embedder: Annotated[str, typer.Option(help="Of the gate and of RL's, named likewise.")] = DEFAULT_EMBEDDER,
    adapters: Annotated[Path | None, typer.Option(help="Adapters to start from, a folder for each role.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so many minutes, to be resumed.")] = math.inf,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    steps: Annotated[int, typer.Option(help="Optimiser steps of the whole run.")] = 400,
    batch: Annotated[int, typer.Option(help="Lessons, texts or questions in a step, over all processes.")] = 4,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate. [default: by stage]")] = None,
    warmup: Annotated[int, typer.Option(help="Steps over which it rises from 0.")] = 20,
    rank: Annotated[int, typer.Option(help="Rank of a new adapter.")] = 16,
    forms: Annotated[
        str | None,
        typer.Option(help="What the reasoner reads: raw, compressed, or raw,compressed. [default: by stage]"),
    ] = None,
    placement: Annotated[str, typer.Option(help="in_place, selected, inserted or inserted_copy.")] = "in_place",
    ratios: Annotated[str, typer.Option(help="Tokens for each slot to draw from.")] = "2,4,8,16",
    noted: Annotated[float, typer.Option(help="Share of what is answered from notes that a tagger makes.")] = 0.0,
    labelled: Annotated[float, typer.Option(help="Share of those answers whose notes are the labels' instead.")] = 0.0,
    noting_processes: Annotated[int, typer.Option(help="Processes that make them ahead; 0: a thread.")] = 0,
    together: Annotated[int, typer.Option(help="Tokens in one pass of the model; 0: a lesson. A GPU wants 10000.")] = 0,
    reconstruction: Annotated[float, typer.Option(help="Share of compressor lessons that repeat pool text.")] = 0.0,
    continuation: Annotated[float, typer.Option(help="Share of them that go on after pool text.")] = 0.0,
    gate: Annotated[
        str, typer.Option(help="Gate: prompt or probes over slots, or query, which needs none.")
    ] = "prompt",
    joint: Annotated[bool, typer.Option(help="Train the reasoner with the compressor.")] = True,
    group: Annotated[int, typer.Option(help="RL: rollouts of a question.")] = 8,
    temperature: Annotated[float, typer.Option(help="RL: of the samples.")] = 1.0,
    outcome: Annotated[str, typer.Option(help="RL: what an answer is worth: exact_match, f1.")] = "exact_match",
    sampled: Annotated[str, typer.Option(help="RL: what is learned: all, answers, candidates.")] = "all",
    absent: Annotated[float, typer.Option(help="RL: share of questions over documents that do not say it.")] = 0.0,
    withheld: Annotated[
        float, typer.Option(help="RL, and --noted: share of questions whose documents say all but the answer.")
    ] = 0.0,
    outcome_share: Annotated[float, typer.Option(help="RL: the outcome's share of an advantage.")] = 0.8,
    kl_weight: Annotated[float, typer.Option(help="RL: what divergence from the start costs.")] = 1e-3,
    clip_ratio: Annotated[float, typer.Option(help="RL: how far from 1 a reply's ratio counts.")] = 0.2,
    haystack: Annotated[int, typer.Option(help="RL: paragraphs that a question is asked over.")] = 20,
    max_steps: Annotated[int, typer.Option(help="RL: most chunks that a rollout reads.")] = 8,
    update_tokens: Annotated[int, typer.Option(help="RL: most tokens written after a chunk.")] = 64,
    answer_tokens: Annotated[int, typer.Option(help="RL: most tokens of an answer.")] = 64,
    rollouts_at_once: Annotated[int, typer.Option(help="RL: most rollouts decoded in one batch.")] = 64,
    held_out_questions: Annotated[int, typer.Option(help="RL: questions answered at each measurement.")] = 16,
    leave_out_closed_book: Annotated[
        bool, typer.Option("--leave-out-closed-book", help="RL: replace questions that the base answers without text.")
    ] = False,
    evaluate_every: Annotated[int, typer.Option(help="Steps between two measurements on held-out questions.")] = 50,
    save_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 50,
    seed: Annotated[int, typer.Option(help="Of data order, ratios and samples.")] = 0,
) -> None:
    """Train adapters. Interrupt it and go on with --resume; a checkpoint is written on the way out."""
    if stage == "selector":
        placement = "selected"  # the only one that it is for
    stages = [cast(StageName, stage)] if stage != "all" else list(_ORDER)
    if stage == "all" and placement == "selected":
        stages.insert(0, "selector")
    until = time.monotonic() + 60 * minutes
    material, spread = read_material(data), accelerator()
    for name in stages:
        settings = TrainingSettings(
            stage=name,
            model=model,
            embedder=embedder,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate or _RATES.get(name, 5e-4),
            warmup=warmup,
            rank=rank,
            forms=cast(tuple[Form, ...], tuple((forms or _FORMS.get(name, "raw")).split(","))),
            placement=cast(Placement, placement),
            ratios=cast(tuple[Ratio, ...], _whole_numbers(ratios, "--ratios")),
            noted=noted,
            labelled=labelled,
            noting_processes=noting_processes,
            together=together,
            reconstruction=reconstruction,
            continuation=continuation,
            gate=cast(GateKind, gate),
            joint=joint,
            group=group,
            temperature=temperature,
            outcome=cast(Outcome, outcome),
            sampled=cast(Sampled, sampled),
            absent=absent,
            withheld=withheld,
            outcome_share=outcome_share,
            kl_weight=kl_weight,
            clip_ratio=clip_ratio,
            haystack=haystack,
            max_steps=max_steps,
            update_tokens=update_tokens,
            answer_tokens=answer_tokens,
            rollouts_at_once=rollouts_at_once,
            held_out_questions=held_out_questions,
            leave_out_closed_book=leave_out_closed_book,
            start=str(adapters) if name == "rl" and adapters else None,
            evaluate_every=evaluate_every,
            save_every=save_every,
            seed=seed,
        )
        folder = out / name if stage == "all" else out
        left = (until - time.monotonic()) / 60
        finished = _run(settings, folder, adapters, material, spread, resume=resume, minutes=left)
        _say(f"{name}: step {finished.step} of {finished.steps}; see {folder / 'curve.png'}")
        if finished.interrupted:
            raise typer.Exit(130)
        if finished.step < finished.steps:
            _say("The time is up: run the same command with --resume to go on.")
            return
        adapters = folder / "adapters"


def _run(
    settings: TrainingSettings,
    out: Path,
    adapters: Path | None,
    material: Material,
    spread: Accelerator,
    *,
    resume: bool,
    minutes: float,
) -> Finished:
    torch.manual_seed(settings.seed)  # new adapters begin at random
    backbone = Backbone.load(settings.model, device=spread.device)
    attend_for_training(backbone)
    stage = _stage(backbone, settings, adapters, material, out, spread)
    finished = Trainer(stage, settings, out, spread).run(resume=resume, minutes=minutes)
    if adapters is not None and spread.is_main_process:
        _carry_over(adapters, out / "adapters")
    return finished


def _carry_over(start: Path, made: Path) -> None:
    """Copy what lies beside the base's adapters, such as a gate's head or a tagger, unless it was made anew.

    A compressor for another placement than the new card names stays behind; a selector is for one alone.
    """
    left = holds_adapter(start / "compressor") and read_card(start).placement != read_card(made).placement
    # Only of the folders: a card above them speaks of the adapters that it came with.
    for file in sorted(start.glob("*/**/*")):
        name = file.relative_to(start)
        target, stays = made / name, left and name.parts[0] == "compressor" and name != SELECTOR
        if file.is_file() and not stays and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _stage(
    backbone: Backbone,
    settings: TrainingSettings,
    adapters: Path | None,
    material: Material,
    out: Path,
    spread: Accelerator,
) -> Stage:  # type: ignore[type-arg]
    # Answers are given with no slots open: learning those alone reaches no compressor.
    slots_open = "compressed" in settings.forms and settings.sampled == "all"
    trained: dict[StageName, tuple[Role, ...]] = {
        "selector": (),
        "reasoner": ("reasoner",),
        "compressor": ("compressor", "reasoner") if settings.joint else ("compressor",),
        "rl": ("compressor", "reasoner") if slots_open else ("reasoner",),
        "gate": ("gate",) if settings.gate != "query" else (),
        "evidence": (),
        "extractor": (),
    }
    prepare_adapters(backbone, trained[settings.stage], settings, str(adapters or NO_ADAPTERS))
    if settings.stage == "selector":
        return SelectorTraining(backbone, settings, material, adapters)
    start = find_queries(str(adapters or DEFAULT_ADAPTERS), settings.embedder)
    device = str(backbone.device)
    tagger = find_head(Tagger, str(adapters or DEFAULT_ADAPTERS), settings.embedder)
    if settings.stage == "rl" and settings.sampled == "candidates":
        extractor = find_head(Extractor, str(adapters or DEFAULT_ADAPTERS), settings.embedder)
        both = Embedder(settings.embedder, device=device, queries=start, tagger=tagger, extractor=extractor)
        return ChooseAnswers(backbone, settings, material, both)
    if settings.stage == "rl":
        embedder = Embedder(settings.embedder, device=device, queries=start, tagger=tagger)
        return Reinforce(backbone, settings, material, embedder)
    if settings.stage in ("evidence", "extractor"):
        training = EvidenceTraining if settings.stage == "evidence" else ExtractionTraining
        begun = find_head(training.kind, str(adapters), settings.embedder) if adapters else None
        embedder = Embedder(settings.embedder, device=device, tagger=tagger if settings.noted else None)
        return training(backbone, embedder, settings, material, begun)
    if settings.stage == "gate" and settings.gate == "query":
        embedder = Embedder(settings.embedder, device=device)
        passages = _embedded(embedder, material, out, spread)
        own = find_queries(str(adapters), settings.embedder) if adapters else None
        return QueryTraining(backbone, embedder, settings, material, passages, own)
    if settings.stage == "gate":
        embedder = Embedder(settings.embedder, device=device, queries=start)
        return GateTraining(backbone, embedder, settings, material, adapters)
    noting = Embedder(settings.embedder, device=device, tagger=tagger) if settings.noted else None
    stage = Supervised(backbone, settings, material, noting)
    if adapters is not None:
        stage.compressor.load_weights(adapters)
    return stage


def _embedded(embedder: Embedder, material: Material, out: Path, spread: Accelerator) -> Passages:
    """Embed the paragraphs of all questions, once, whatever the number of processes and of resumptions."""
    columns = (TextColumn("passages"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    hidden = not spread.is_main_process
    with spread.main_process_first(), Progress(*columns, console=Console(stderr=True), disable=hidden) as shown:
        task = shown.add_task("", total=None)
        return read_passages(
            (*material.train, *material.held_out),
            embedder,
            out / "passages.vectors",
            lambda done, total: shown.update(task, completed=done, total=total),
        )


def prepare_adapters(backbone: Backbone, trained: tuple[Role, ...], settings: TrainingSettings, start: str) -> None:
    """Load what ``start`` names, make anew what is to be trained and not there, and let gradients reach the latter.

    Args:
        start: see :func:`core.adapters.find_adapters`.

    Raises:
        WeightsError: ``start`` names no adapters, or those of another model.
    """
    if folder := find_adapters(start, settings.model):
        # None is merged, even if it stays as it is: a merged copy is gone before the backward pass.
        load_adapters(backbone, folder, settings.placement, ROLES)
    for role in trained:
        if role not in backbone.adapters:
            backbone.add_adapter(role, rank=settings.rank, alpha=2 * settings.rank)
    backbone.train_only(trained)


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option}={text!r}: give whole numbers with commas between them, such as 2,4,8") from None


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    """Run the command line; errors raised on purpose are one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except CompressedMemoryError as error:
        _say(f"error: {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
