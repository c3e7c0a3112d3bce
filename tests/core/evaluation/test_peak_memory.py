"""The mark is of the work inside, not of what came before it."""

import sys

import numpy as np
import pytest
import torch

from core.evaluation.peak_memory import peak_memory

SIZE = 200 * 2**20
CPU = torch.device("cpu")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the mark can be reset on Linux only")
def test_the_peak_is_that_of_the_work_inside() -> None:
    with peak_memory(CPU) as large:
        held = np.ones(SIZE, dtype=np.uint8)
        del held
    with peak_memory(CPU) as small:
        pass
    assert large.peak_bytes - large.start_bytes > 0.9 * SIZE
    assert small.peak_bytes - small.start_bytes < 0.2 * SIZE
    assert small.start_bytes < large.peak_bytes - 0.8 * SIZE  # what was let go of is not held


def test_the_peak_is_there_when_the_work_fails() -> None:
    measured = []

    def fails() -> None:
        with peak_memory(CPU) as memory:
            measured.append(memory)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert measured[0].peak_bytes >= measured[0].start_bytes > 0
