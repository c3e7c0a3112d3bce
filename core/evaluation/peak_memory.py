"""The most memory that a piece of work held at once: of the GPU where the model is on one, else of the process."""

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class PeakMemory:
    """Filled when the work is done."""

    start_bytes: int = 0
    """Held before, model and libraries included."""
    peak_bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure what is done inside.

    On CUDA, bytes that PyTorch has allocated. Elsewhere the resident set of the process: on Linux its
    mark is reset first; where the system does not allow that, the peak is that of the process so far.
    """
    measured = PeakMemory()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        measured.start_bytes = torch.cuda.memory_allocated(device)
    else:
        _reset_mark()
        measured.start_bytes = _resident("VmRSS:")
    try:
        yield measured
    finally:
        cuda = device.type == "cuda"
        measured.peak_bytes = torch.cuda.max_memory_allocated(device) if cuda else _resident("VmHWM:")


def _reset_mark() -> None:
    if not _CLEAR.exists():
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # pages that an earlier system freed are not this one's
        libc.malloc_trim(0)
    with suppress(PermissionError):  # some containers do not allow it
        _CLEAR.write_text("5")  # proc(5): resets the peak resident set size


def _resident(mark: str) -> int:
    """Return bytes of the resident set, now (``VmRSS:``) or at most (``VmHWM:``)."""
    if _STATUS.is_file():
        return next(int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith(mark))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
