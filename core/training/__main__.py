"""The command line of training: ``python -m core.training --stage reasoner --data DIR --out runs/NAME``."""

import logging
import math
import sys
from pathlib import Path
from typing import Annotated, cast

import typer
from accelerate import Accelerator

from ..backbone import ROLES, Backbone, Role
from ..errors import CompressedMemoryError
from ..settings import Form, Placement, Ratio
from ..weights import DEFAULT_MODEL
from .material import Material, read_material
from .settings import StageName, TrainingSettings
from .stage import Stage
from .supervised import Supervised
from .trainer import Finished, Trainer, accelerator

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_ORDER: tuple[StageName, ...] = ("reasoner", "compressor", "rl", "gate")
"""What ``all`` does: each stage starts from the adapters of those before it."""

_FORMS: dict[StageName, str] = {"reasoner": "raw", "compressor": "compressed", "rl": "compressed", "gate": "compressed"}


@app.command()
def train(
    stage: Annotated[str, typer.Option(help="compressor, reasoner, rl, gate, or all of them in order.")],
    data: Annotated[Path, typer.Option(help="Folder with train/*.jsonl.gz and pool/wikipedia.jsonl.gz.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: settings, checkpoint, metrics, curve, adapters.")],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face id.")] = DEFAULT_MODEL,
    adapters: Annotated[Path | None, typer.Option(help="Adapters to start from, a folder for each role.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so many minutes, to be resumed.")] = math.inf,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    steps: Annotated[int, typer.Option(help="Optimiser steps of the whole run.")] = 400,
    batch: Annotated[int, typer.Option(help="Lessons, questions or pairs in a step, over all processes.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-4,
    warmup: Annotated[int, typer.Option(help="Steps over which it rises from 0.")] = 20,
    rank: Annotated[int, typer.Option(help="Rank of a new adapter.")] = 16,
    forms: Annotated[
        str | None,
        typer.Option(help="What the reasoner reads: raw, compressed, or raw,compressed. [default: by stage]"),
    ] = None,
    placement: Annotated[str, typer.Option(help="in_place, inserted or inserted_copy.")] = "in_place",
    ratios: Annotated[str, typer.Option(help="Tokens for each slot to draw from.")] = "2,4,8,16",
    joint: Annotated[bool, typer.Option(help="Train the reasoner with the compressor.")] = True,
    evaluate_every: Annotated[int, typer.Option(help="Steps between two measurements on held-out questions.")] = 50,
    save_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 50,
    seed: Annotated[int, typer.Option(help="Of data order, ratios and samples.")] = 0,
) -> None:
    """Train adapters. Interrupt it and go on with --resume; a checkpoint is written on the way out."""
    stages = list(_ORDER) if stage == "all" else [cast(StageName, stage)]
    material, spread = read_material(data), accelerator()
    for name in stages:
        settings = TrainingSettings(
            stage=name,
            model=model,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            warmup=warmup,
            rank=rank,
            forms=cast(tuple[Form, ...], tuple((forms or _FORMS[name]).split(","))),
            placement=cast(Placement, placement),
            ratios=cast(tuple[Ratio, ...], tuple(int(r) for r in ratios.split(","))),
            joint=joint,
            evaluate_every=evaluate_every,
            save_every=save_every,
            seed=seed,
        )
        folder = out / name if stage == "all" else out
        finished = _run(settings, folder, adapters, material, spread, resume=resume, minutes=minutes)
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
    backbone = Backbone.load(settings.model, device=spread.device)
    stage = _stage(backbone, settings, adapters, material)
    return Trainer(stage, settings, out, spread).run(resume=resume, minutes=minutes)


def _stage(backbone: Backbone, settings: TrainingSettings, adapters: Path | None, material: Material) -> Stage:  # type: ignore[type-arg]
    trained: dict[StageName, tuple[Role, ...]] = {
        "reasoner": ("reasoner",),
        "compressor": ("compressor", "reasoner") if settings.joint else ("compressor",),
        "rl": ("compressor", "reasoner") if "compressed" in settings.forms else ("reasoner",),
        "gate": ("gate",),
    }
    prepare_adapters(backbone, trained[settings.stage], settings.rank, adapters)
    return Supervised(backbone, settings, material)


def prepare_adapters(backbone: Backbone, trained: tuple[Role, ...], rank: int, folder: Path | None) -> None:
    """Load what ``folder`` holds, make anew what is to be trained and not there, and let gradients reach the latter.

    Raises:
        WeightsError: ``folder`` is given and holds no adapter.
    """
    for role in ROLES:
        if folder is not None and (folder / role).is_dir():
            backbone.load_adapter(role, folder / role)
        elif role in trained:
            backbone.add_adapter(role, rank=rank, alpha=2 * rank)
    backbone.train_only(trained)


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
