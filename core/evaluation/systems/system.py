"""What the comparison needs of a system: it takes documents in, and then answers questions about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...chunking import Span
from ...ingest import Document
from ..cost import Cost


@dataclass(frozen=True)
class Outcome:
    """What a system made of one question."""

    prediction: str
    cost: Cost
    cited: tuple[tuple[str, Span], ...] = ()
    """Where the answer comes from, as the system says: (document id, characters)."""
    read: tuple[str, ...] | None = None
    """Documents that the model was shown, whole or in part; ``None`` where it was shown all that there are."""


class Corpus(Protocol):
    """Documents that a system has taken in."""

    cost: Cost
    """Of taking them in."""

    def ask(self, question: str) -> Outcome:
        """Answer one question. Nothing of it is left for the next."""
        ...

    def close(self) -> None:
        """Let go of what was kept."""
        ...


class System(Protocol):
    """Something that answers questions about more text than its model can read at once."""

    def take_in(self, documents: Sequence[Document]) -> Corpus:
        """Do once whatever can be done before the first question."""
        ...
