"""What taking a text in cost, or answering a question: tokens, model calls, seconds by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..generation import Reply


@dataclass
class Cost:
    """Counts of one piece of work, filled while it is done."""

    tokens_encoded: int = 0
    """Source tokens that were read once, to be kept."""
    tokens_read: int = 0
    """Prompt tokens, source text among them."""
    slots_read: int = 0
    tokens_written: int = 0
    model_calls: int = 0
    """Replies of the language model."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    def count(self, reply: Reply) -> None:
        """Add one reply."""
        self.tokens_read += reply.tokens_read
        self.slots_read += reply.slots_read
        self.tokens_written += len(reply.token_ids)
        self.model_calls += 1

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
