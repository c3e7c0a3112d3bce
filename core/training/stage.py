"""What the training loop asks of a stage: work for a step, and its loss."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor, nn

_Work = TypeVar("_Work")


class Stage(nn.Module, Generic[_Work]):
    """A trainable module whose forward pass is the loss of one piece of work.

    The loop wraps it whole, so that gradients are exchanged between processes whatever it trains.
    """

    @abstractmethod
    def work(self, step: int, process: int, processes: int) -> Sequence[_Work]:
        """Return what ``process`` of ``processes`` does in ``step``; at least one piece.

        Together the processes do the same work whatever their number, and the weights of all pieces
        are over all of them, so that the sum of all losses is the loss of the step.
        """

    @abstractmethod
    def forward(self, piece: _Work) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of ``piece``, its share of the step's, and what else is to be recorded, as sums."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Measure on what is held out."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was trained, to be loaded for use."""
