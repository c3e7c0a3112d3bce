"""The policy that RL stays near: the trained parameters as they were when the stage began."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Reference:
    """A frozen copy of parameters that can take their place for a while.

    Adapters are small and share one base, so a copy of them is all that a reference model costs.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._held: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Compute with the reference inside, without gradient; the parameters are back afterwards, bit for bit."""
        self._exchange()
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            # Values are exchanged, not copied, so that rounding cannot change either.
            parameter.data, self._held[name] = self._held[name], parameter.data
