"""What the stages have in common that train a head of the embedder (:mod:`core.embedder_head`)."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..adapters import save_adapters
from ..backbone import Backbone
from ..embedder import Embedder
from ..embedder_head import EmbedderHead, new_head, save_head
from .settings import TrainingSettings
from .stage import Stage

_Head = TypeVar("_Head", bound=EmbedderHead)
_Example = TypeVar("_Example")
_Drawn = TypeVar("_Drawn", covariant=True)


class Sequenced(Protocol[_Drawn]):
    """An endless, seeded sequence of examples."""

    def at(self, index: int) -> _Drawn:
        """Return example ``index``; any index from 0 on has one."""
        ...


@dataclass(frozen=True)
class HeadPiece(Generic[_Example]):
    """Examples that are read together, and how many there are in the step."""

    examples: tuple[_Example, ...]
    in_step: int


class HeadTraining(Stage[HeadPiece[_Example]], Generic[_Head, _Example]):
    """Trains one head on examples, a few of like length at a time."""

    def __init__(
        self,
        kind: type[_Head],
        backbone: Backbone,
        embedder: Embedder,
        settings: TrainingSettings,
        examples: Sequenced[_Example],
        *,
        together: int,
        start: Path | None,
    ) -> None:
        """
        Args:
            backbone: whose adapters are written beside the head, for use; it reads nothing.
            together: most examples that are read together.
            start: folder of a head to go on from.
        """
        super().__init__()
        self.head = new_head(kind, embedder.model, settings.rank, start).to(backbone.device)
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings, self._embedder, self._examples = settings, embedder, examples
        self._tokenizer, self._together = embedder.model.tokenizer, together

    @abstractmethod
    def _length(self, example: _Example) -> int:
        """Return how much there is to read."""

    def work(self, step: int, process: int, processes: int) -> Sequence[HeadPiece[_Example]]:
        """See :class:`core.training.stage.Stage`."""
        batch = self.settings.batch
        examples = [self._examples.at(step * batch + i) for i in range(batch)]
        return [HeadPiece(part, batch) for part in self._parts(examples)][process::processes]

    def _parts(self, examples: Sequence[_Example]) -> list[tuple[_Example, ...]]:
        alike, count = sorted(examples, key=self._length), self._together
        return [tuple(alike[i : i + count]) for i in range(0, len(alike), count)]

    def save(self, folder: Path) -> None:
        """Write the head, and every other adapter there is."""
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        save_head(self.head, self._embedder.name, folder)
