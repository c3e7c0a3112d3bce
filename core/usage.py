"""What a question cost: tokens, model calls, seconds by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from .generation import Reply

Stage = Literal["gate", "update", "callback", "answer"]


@dataclass
class Usage:
    """Counts of one question, filled while it is answered."""

    tokens_read: int = 0
    """Prompt tokens, source text among them."""
    slots_read: int = 0
    tokens_written: int = 0
    model_calls: int = 0
    """Replies of the reasoner, and passes that score replies."""
    seconds: dict[Stage, float] = field(default_factory=dict)

    def count(self, reply: Reply) -> None:
        """Add one reply."""
        self.tokens_read += reply.tokens_read
        self.slots_read += reply.slots_read
        self.tokens_written += reply.tokens_written
        self.model_calls += 1

    def count_scored(self, tokens: int) -> None:
        """Add a pass that tells how likely replies are which take ``tokens`` together."""
        self.tokens_read += tokens
        self.model_calls += 1

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Add the time spent inside to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
