"""An endless sequence in which each thing comes once in a pass: what stands in a place follows from seed and place."""

from collections.abc import Sequence
from random import Random
from typing import Generic, NamedTuple, TypeVar

_Item = TypeVar("_Item")


class Place(NamedTuple, Generic[_Item]):
    """What comes at an index of the sequence."""

    item: _Item
    epoch: int
    """Passes before this one."""
    number: int
    """Of the place in its pass."""


class Shuffled(Generic[_Item]):
    """Passes over ``items``, each in an order of its own."""

    def __init__(self, items: Sequence[_Item], seed: int, what: str = "") -> None:
        """
        Args:
            what: distinguishes sequences of one seed.
        """
        self._items, self._seed, self._what = items, seed, f":{what}" if what else ""
        # Drawing an order takes milliseconds for thousands of items, and places are mostly asked for one after another.
        self._drawn: tuple[int, list[_Item]] = (-1, [])

    def __len__(self) -> int:
        """Items in a pass."""
        return len(self._items)

    def order(self, epoch: int) -> list[_Item]:
        """Return the items as they come in pass ``epoch``."""
        drawn, order = self._drawn
        if epoch != drawn:
            order = Random(f"{self._seed}:{epoch}{self._what}").sample(self._items, len(self._items))
            self._drawn = (epoch, order)
        return order

    def at(self, index: int) -> Place[_Item]:
        """Return what comes at ``index``; any index from 0 on has something."""
        epoch, number = divmod(index, len(self._items))
        return Place(self.order(epoch)[number], epoch, number)
