"""What a training run is made with, flat. Saved beside the run, and compared when it is resumed."""

from typing import Annotated, Literal

from pydantic import Field

from ..settings import CheckedSettings, Form, Placement, Ratio
from ..weights import DEFAULT_MODEL

StageName = Literal["compressor", "reasoner", "rl", "gate"]


class TrainingSettings(CheckedSettings):
    """One stage of training."""

    stage: StageName
    model: str = DEFAULT_MODEL
    steps: Annotated[int, Field(ge=1)] = 400
    """Optimiser steps of the whole run; the learning rate follows a cosine over them."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Lessons, or questions for RL, in a step, over all processes."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Annotated[int, Field(ge=0)] = 20
    """Steps over which the learning rate rises from 0."""
    rank: Annotated[int, Field(ge=1)] = 16
    """Of a LoRA adapter made anew; its alpha is twice that."""
    forms: tuple[Form, ...] = ("raw",)
    """What the reasoner reads while it is trained; drawn for each lesson."""
    placement: Placement = "in_place"
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (2, 4, 8, 16)
    """α is drawn from these for each lesson (LycheeMemory, section 3.1); one named twice comes twice as often."""
    joint: bool = True
    """Whether the compressor stage trains the reasoner with it; the paper keeps the reader fixed."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a step's gradient."""
    evaluate_every: Annotated[int, Field(ge=1)] = 50
    save_every: Annotated[int, Field(ge=1)] = 50
    seed: int = 0
