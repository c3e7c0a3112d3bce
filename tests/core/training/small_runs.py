"""What many tests of training share: questions from Python's own reference, and runs on a tiny random model.

The model is that of the smoke recipe: its vocabulary is small, so that a step takes little time.
"""

import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from core.adapters import NO_ADAPTERS
from core.backbone import Backbone, Role
from core.training.__main__ import prepare_adapters
from core.training.material import Material
from core.training.sample_data import sample_questions
from core.training.sample_model import write_sample_model
from core.training.settings import TrainingSettings
from core.training.supervised import Supervised
from core.training.trainer import Trainer, accelerator

BOTH: tuple[Role, ...] = ("compressor", "reasoner")


@cache
def _model_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    write_sample_model(Path(folder.name))
    return folder


def model_folder() -> str:
    """Return where the smoke recipe's model lies."""
    return _model_folder().name


def backbone() -> Backbone:
    """Return the smoke recipe's model in fp32, without adapters."""
    return Backbone.load(model_folder(), device=torch.device("cpu"), dtype=torch.float32)


@cache
def material() -> Material:
    questions, pool = sample_questions()
    return Material(tuple(questions[:-3]), tuple(questions[-3:]), tuple(pool))


def settings(**changes: object) -> TrainingSettings:
    """Return settings of a run of the compressor stage that takes seconds."""
    small = {"stage": "compressor", "model": "tiny", "forms": ("compressed",), "steps": 4, "batch": 2, "rank": 4}
    return TrainingSettings(**{**small, "warmup": 1, "evaluate_every": 2, "save_every": 2, **changes})


def supervised(chosen: TrainingSettings, kind: type[Supervised] = Supervised) -> Supervised:
    """Return a stage with new adapters, always the same ones."""
    torch.manual_seed(0)
    model = backbone()
    prepare_adapters(model, BOTH if chosen.joint else ("compressor",), chosen, NO_ADAPTERS)
    return kind(model, chosen, material())


def trainer(
    out: Path, kind: type[Supervised] = Supervised, precision: Literal["bf16", "no"] | None = None, **changes: object
) -> Trainer:
    chosen = settings(**changes)
    stage = supervised(chosen, kind)  # first: among several processes only one may write the model
    return Trainer(stage, chosen, out, accelerator(precision))
