"""What a cosine between a query and a passage says of the passage: P(open) as a logistic function of it."""

from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Odds:
    """P(open) = sigmoid(slope · (cosine - midpoint))."""

    slope: float
    midpoint: float
    """Cosine at which the gate says 0.5."""

    def probabilities(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return P(open) of each cosine, float32 of the same shape."""
        return (1 / (1 + np.exp(-self.slope * (cosines - self.midpoint)))).astype(np.float32)


UNTRAINED = Odds(16.0, 0.3)
"""For an embedder as it comes. The slope is that of a logistic regression of "holds a gold paragraph" on cosine
(docs/benchmarks.md, gate). At the midpoint four of five gold paragraphs lie above. The regression's own is 0.57, where
three of five are lost: the rank, not the threshold, is to keep reading short."""


def raised(probability: float, nats: float) -> float:
    """Return the probability whose log-odds are ``nats`` above those of ``probability``."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return 1 / (1 + exp(-(log(bounded / (1 - bounded)) + nats)))
