"""Sentence embeddings of passages and queries, through sentence-transformers."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from .backbone import best_dtype
from .chunking import Span, split_text
from .errors import WeightsError
from .headings import under_heading
from .weights import DEFAULT_EMBEDDER, quiet_loading, resolve

PASSAGE_TOKENS = 128
"""Tokens in a passage. MiniLM reads 256 at most, so a chunk is embedded as several passages and is
as near as its nearest."""


class Embedder:
    """A sentence-transformers model that turns text into unit vectors. Safe to share between threads."""

    def __init__(self, name: str = DEFAULT_EMBEDDER, *, device: str | None = None) -> None:
        self.name = name
        folder = resolve(name)
        try:
            with quiet_loading():
                self._model = SentenceTransformer(str(folder), device=device, model_kwargs={"use_safetensors": True})
            self._model.to(best_dtype(self._model.device))
        except (OSError, ValueError) as error:
            raise WeightsError(f"embedder {name!r} at {folder} cannot be loaded: {error}") from error
        # A fast tokenizer may not be used by two threads at once.
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension() or 0)

    def passages(self, text: str) -> list[Span]:
        """Cut ``text`` into passages of at most 128 tokens that together are exactly ``text``."""
        with self._lock:
            return list(split_text(text, self._model.tokenizer, PASSAGE_TOKENS))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [texts, dimension]."""
        # Scaled here, because in bf16 a "unit" vector is off by half a percent.
        with self._lock:
            encoded = self._model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
        vectors = np.asarray(encoded, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def nearest_span(self, text: str, spans: Sequence[Span], query: str, floor: float = -1) -> Span | None:
        """Return which of ``spans`` of ``text``, each read under its heading, is nearest to ``query``, the first of
        equals; ``None`` where none has a cosine of ``floor``."""
        if not spans or (len(spans) == 1 and floor <= -1):
            return spans[0] if spans else None
        cosines = self.embed([under_heading(text, *span) for span in spans]) @ self.embed([query])[0]
        best = int(cosines.argmax())
        return spans[best] if cosines[best] >= floor else None

    def nearest_passages(self, text: str, query: str, count: int, vectors: NDArray[np.float32] | None = None) -> str:
        """Return the ``count`` passages of ``text`` nearest to ``query``, in the order they stand.

        Args:
            vectors: float32 [passages, dimension], the embeddings of :meth:`passages` where they are known already.
        """
        spans = self.passages(text)
        if len(spans) <= count:
            return text
        passages = [text[start:end] for start, end in spans]
        if vectors is None or vectors.shape != (len(passages), self.dimension):
            vectors = self.embed(passages)
        cosines = vectors @ self.embed([query])[0]
        return "".join(passages[row] for row in sorted(np.argsort(-cosines, kind="stable")[:count]))
