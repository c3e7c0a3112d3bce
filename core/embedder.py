"""Sentence embeddings of passages and queries, through sentence-transformers."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from .backbone import avoid_planned_attention, best_dtype
from .chunking import Span, split_text
from .embedder_head import fingerprint, load_head
from .errors import WeightsError
from .evidence import Tagger, tagged
from .extraction import Extraction, Extractor, extracted
from .headings import behind_heading
from .named_evidence import by_names
from .query_encoder import WEIGHTS, query_encoder, read_query_card
from .similarity import UNTRAINED
from .weights import DEFAULT_EMBEDDER, quiet_loading, resolve

PASSAGE_TOKENS = 128
"""Tokens in a passage. MiniLM reads 256 at most, so a chunk is embedded as several passages and is
as near as its nearest."""
_KEPT = 1024
"""Judgements of texts that are kept: an answer asks again what an update asked, in training for many questions."""


class Embedder:
    """A sentence-transformers model that turns text into unit vectors. Safe to share between threads."""

    def __init__(
        self,
        name: str = DEFAULT_EMBEDDER,
        *,
        device: str | None = None,
        queries: Path | None = None,
        tagger: Path | None = None,
        extractor: Path | None = None,
    ) -> None:
        """
        Args:
            queries: folder of the adapter that queries are read through (:func:`core.query_encoder.find_queries`);
                ``None``: they are read as passages are.
            tagger: folder of what tells evidence (:class:`core.evidence.Tagger`); ``None``: nothing does.
            extractor: folder of what finds answers in notes (:class:`core.extraction.Extractor`); ``None``: nothing.

        Raises:
            WeightsError: the model, the adapter, the tagger or the extractor cannot be had or used.
        """
        self.name, self.queries, self.tagger, self.extractor = name, queries, tagger, extractor
        folder = resolve(name)
        try:
            with quiet_loading():
                self._model = SentenceTransformer(str(folder), device=device, model_kwargs={"use_safetensors": True})
        except (OSError, ValueError) as error:
            raise WeightsError(f"embedder {name!r} at {folder} cannot be loaded: {error}") from error
        self._reader = None if queries is None else query_encoder(self._model, queries)
        self.odds = UNTRAINED if queries is None else read_query_card(queries).odds
        self._tagger = None if tagger is None else load_head(Tagger, self._model, tagger)
        self._extractor = None if extractor is None else load_head(Extractor, self._model, extractor)
        avoid_planned_attention(self._model.device)
        dtype = best_dtype(self._model.device)
        self._model.to(dtype)
        if self._reader is not None:
            self._reader.to(dtype)
        for head in (self._tagger, self._extractor):
            if head is not None:
                head.transformer.to(dtype)
        self._judged = OrderedDict[tuple[str, tuple[str, ...], str], list[tuple[Span, float]]]()
        # A fast tokenizer may not be used by two threads at once.
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """The name, and 16 hex digits each of the queries' adapter, of the tagger and of the extractor."""
        parts = [self.name]
        if self.queries is not None:
            parts.append(hashlib.sha256((self.queries / WEIGHTS).read_bytes()).hexdigest()[:16])
        if self.tagger is not None:
            parts.append(f"evidence {fingerprint(self.tagger)}")
        if self.extractor is not None:
            parts.append(f"extractor {fingerprint(self.extractor)}")
        return " ".join(parts)

    @property
    def model(self) -> SentenceTransformer:
        """The model that reads passages."""
        return self._model

    @property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension() or 0)

    def passages(self, text: str) -> list[Span]:
        """Cut ``text`` into passages of at most 128 tokens that together are exactly ``text``."""
        with self._lock:
            return list(split_text(text, self._model.tokenizer, PASSAGE_TOKENS))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of passages, or of texts to be compared as they are, float32 [texts, dimension]."""
        return self._encoded(self._model, texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of questions with what is known so far, float32 [texts, dimension].

        They are near the passages that are sought, as far as they are trained to be.
        """
        return self.embed(texts) if self._reader is None else self._encoded(self._reader, texts)

    def evidence(self, question: str, notes: Sequence[str], text: str) -> list[tuple[Span, float]] | None:
        """Return each sentence of ``text`` with the probability that it bears on ``question``, in order.

        The tagger gives it, and what a name leads to gains (:mod:`core.named_evidence`).

        Args:
            notes: what is known so far, the latest last.

        Returns:
            ``None`` where nothing is there to tell: see ``tagger``.
        """
        if self._tagger is None:
            return None
        asked = question, tuple(notes), text
        with self._lock:
            if asked not in self._judged:
                judged = tagged(self._tagger, self._model.tokenizer, question, notes, text)
                self._judged[asked] = by_names(question, notes, text, judged)
            self._judged.move_to_end(asked)
            if len(self._judged) > _KEPT:
                self._judged.popitem(last=False)
            return list(self._judged[asked])

    def extract(self, question: str, notes: Sequence[str]) -> Extraction | None:
        """Return where in ``notes`` answers to ``question`` stand (:mod:`core.extraction`).

        Returns:
            ``None`` where nothing is there to tell: see ``extractor``.
        """
        if self._extractor is None:
            return None
        with self._lock:
            return extracted(self._extractor, self._model.tokenizer, question, notes)

    def _encoded(self, model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
        # Scaled here, because in bf16 a "unit" vector is off by half a percent.
        with self._lock:
            encoded = model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
        vectors = np.asarray(encoded, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def nearest_span(self, text: str, spans: Sequence[Span], query: str, floor: float = -1) -> Span | None:
        """Return which of ``spans`` of ``text``, each read under its heading, is nearest to ``query``, the first of
        equals; ``None`` where none has a cosine of ``floor``."""
        if not spans or (len(spans) == 1 and floor <= -1):
            return spans[0] if spans else None
        cosines = self.embed([behind_heading(text, *span) for span in spans]) @ self.embed([query])[0]
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
