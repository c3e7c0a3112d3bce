"""What the stages have in common that train a head of the embedder (:mod:`core.embedder_head`)."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from ..adapters import save_adapters
from ..backbone import Backbone
from ..embedder import Embedder
from ..embedder_head import EmbedderHead, new_head, save_head
from ..questions import Question
from .material import Material
from .settings import TrainingSettings
from .stage import Stage

_Head = TypeVar("_Head", bound=EmbedderHead)
_Example = TypeVar("_Example")
_Drawn = TypeVar("_Drawn", covariant=True)


class Sequenced(Protocol[_Drawn]):
    """An endless, seeded sequence of examples."""

    def __len__(self) -> int:
        """Return how many there are before one may come again."""
        ...

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

    kind: type[_Head]
    drawn: Callable[[Sequence[Question], int], Sequenced[_Example]]
    """Makes the examples of questions, from a seed."""
    alike: ClassVar[int]
    """Examples of like length that are read together at least: few, so that little is padded."""
    row_tokens: ClassVar[int]
    """Most tokens, about, of one that is read."""
    held_out: ClassVar[int]
    """Most examples that are measured on."""

    def __init__(
        self,
        backbone: Backbone,
        embedder: Embedder,
        settings: TrainingSettings,
        material: Material,
        start: Path | None = None,
    ) -> None:
        """
        Args:
            backbone: whose adapters are written beside the head, for use; it reads nothing.
            start: folder of a head to go on from.
        """
        super().__init__()
        self.head = new_head(self.kind, embedder.model, settings.rank, start).to(backbone.device)
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings, self._embedder = settings, embedder
        self._tokenizer = embedder.model.tokenizer
        self._together = max(self.alike, settings.together // self.row_tokens)
        self._examples, held_out = self.drawn(material.train, settings.seed), self.drawn(material.held_out, 0)
        self._held_out = [held_out.at(i) for i in range(min(self.held_out, len(held_out)))]

    @abstractmethod
    def _length(self, example: _Example) -> int:
        """Return how much there is to read."""

    def work(self, step: int, process: int, processes: int) -> Sequence[HeadPiece[_Example]]:
        """See :class:`core.training.stage.Stage`."""
        batch = self.settings.batch
        examples = [self._example(step * batch + i) for i in range(batch)]
        return [HeadPiece(part, batch) for part in self._parts(examples)][process::processes]

    def _example(self, place: int) -> _Example:
        """Return what is learned from in ``place``."""
        return self._examples.at(place)

    def _parts(self, examples: Sequence[_Example]) -> list[tuple[_Example, ...]]:
        alike, count = sorted(examples, key=self._length), self._together
        return [tuple(alike[i : i + count]) for i in range(0, len(alike), count)]

    def save(self, folder: Path) -> None:
        """Write the head, and every other adapter there is."""
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        save_head(self.head, self._embedder.name, folder)
