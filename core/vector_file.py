"""Embeddings of passages in one file, so that a benchmark embeds a text once, however often it is run or stopped."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

_KEY_BYTES = 16
_TOGETHER = 512
"""Passages between two writes: what an interrupt may cost."""


class Embeds(Protocol):
    """What makes vectors of texts."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [texts, dimension]."""
        ...


class VectorFile:
    """Unit vectors by passage text. Only the place of each is in memory; vectors are read as they are asked for."""

    def __init__(self, path: Path, dimension: int) -> None:
        """Open the file at ``path``, or make it there.

        Raises:
            InputError: it holds vectors of another dimension.
        """
        self._dimension, self._record = dimension, _KEY_BYTES + 4 * dimension
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        held = size // self._record
        self._rows = {os.pread(self._file, _KEY_BYTES, row * self._record): row for row in range(held)}
        # Of another dimension the first record is no unit vector. Squares that overflow are none either.
        if held and not np.isclose(np.square(self._read(0).astype(np.float64)).sum(), 1, atol=1e-3):
            raise InputError(f"{path} holds no unit vectors of dimension {dimension}: remove it, or name another file")

    def __contains__(self, text: str) -> bool:
        return _key(text) in self._rows

    def __getitem__(self, text: str) -> NDArray[np.float32]:
        return self._read(self._rows[_key(text)])

    def fill(self, texts: Iterable[str], embedder: Embeds, step: Callable[[int], None] = lambda _: None) -> None:
        """Embed those of ``texts`` that are not in the file yet.

        Args:
            step: called with the number of passages after each write.
        """
        coming = iter(texts)
        while part := list(islice(coming, _TOGETHER)):
            self._add([text for text in dict.fromkeys(part) if text not in self], embedder)
            step(len(part))

    def _add(self, texts: Sequence[str], embedder: Embeds) -> None:
        if not texts:
            return
        vectors = embedder.embed(texts).astype("<f4")
        first = len(self._rows)
        records = b"".join(_key(text) + vector.tobytes() for text, vector in zip(texts, vectors, strict=True))
        os.pwrite(self._file, records, first * self._record)
        self._rows |= {_key(text): first + row for row, text in enumerate(texts)}

    def _read(self, row: int) -> NDArray[np.float32]:
        raw = os.pread(self._file, 4 * self._dimension, row * self._record + _KEY_BYTES)
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_KEY_BYTES]
