"""Keeps each namespace's passage index in step with the catalogue.

The embeddings are in the catalogue and nowhere else on disk. Of an index only what takes long to find is kept
beside them: the centroids and the measured recall, under a checksum. Which list a passage is in follows from
both, so that an index cannot disagree with the catalogue; one that is missing or damaged is made anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from .approximation import IndexReport, IndexSettings
from .catalogue import checksum
from .chunking import Span
from .passage_index import EXACT, PassageIndex, StoredChunk
from .stored_values import damaged, require_kinds, unpack_vectors

Rows = Callable[..., list[tuple]]  # type: ignore[type-arg]
"""Runs a query on the catalogue, see :meth:`core.memory_bank.MemoryBank.rows`."""

_TOGETHER = 500
"""Chunks in one query for embeddings: what is held twice while they are read."""
_DRIFT = 0.1
"""Share of the passages that may have changed before an index is measured again."""


@dataclass(frozen=True)
class StoredIndex:
    """What the catalogue keeps of an index."""

    state: str
    """Of the chunks that it was measured on, see :func:`state_of`."""
    settings: str
    report: IndexReport
    centroids: NDArray[np.float32] | None
    row: tuple[object, ...]
    """The whole row of the catalogue."""


@dataclass
class OpenIndex:
    """An index in memory, with what of the catalogue it is of."""

    version: object
    """The catalogue's, by which most questions find that nothing has changed."""
    sealed: dict[str, str]
    """Checksum of each chunk by id."""
    documents: str
    """Checksum of all documents' checksums."""
    index: PassageIndex


def sealed_chunks(rows: Rows, namespace: str) -> dict[str, str]:
    """Return the checksum, which covers the embeddings, of each chunk of ``namespace``."""
    return dict(rows("SELECT chunk_id, checksum FROM chunks WHERE namespace = ? ORDER BY chunk_id", namespace))


def sealed_documents(rows: Rows, namespace: str) -> str:
    """Return one checksum for the documents of ``namespace`` and their order."""
    return checksum(rows("SELECT document, checksum FROM documents WHERE namespace = ? ORDER BY document", namespace))


def state_of(sealed: dict[str, str]) -> str:
    """Return one checksum for chunks and their embeddings."""
    return checksum(sorted(sealed.items()))


def listed(rows: Rows, namespace: str, keep: Callable[[str, str], bool] = lambda *_: True) -> list[StoredChunk]:
    """Return the chunks of ``namespace`` in reading order; text that stands in several places, where it is first."""
    chunks: dict[str, StoredChunk] = {}
    for chunk_id, document_id, start, end, tokens, slots in rows(
        "SELECT chunk_id, document_id, start, end, tokens, slots FROM placements JOIN documents USING (document) "
        "JOIN chunks USING (chunk_id) WHERE documents.namespace = ? ORDER BY document, ordinal",
        namespace,
    ):
        row = (chunk_id, document_id, start, end, tokens, slots)
        require_kinds(row, (str, str, int, int, int, int), f"a chunk of namespace {namespace!r}")
        if keep(chunk_id, document_id):
            chunks.setdefault(chunk_id, StoredChunk(chunk_id, document_id, Span(start, end), tokens, slots))
    return list(chunks.values())


def embeddings(rows: Rows, chunk_ids: Sequence[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each chunk's id and embeddings, float32 [passages, dimension], in the order of ``chunk_ids``.

    Raises:
        BankError: they are not all of one dimension.
    """
    dimension = 0
    for start in range(0, len(chunk_ids), _TOGETHER):
        part = chunk_ids[start : start + _TOGETHER]
        blobs: dict[str, list[bytes]] = {name: [] for name in part}
        query = f"SELECT chunk_id, embedding FROM passages WHERE chunk_id IN ({','.join('?' * len(part))})"
        for chunk_id, blob in rows(f"{query} ORDER BY passage", *part):
            blobs[chunk_id].append(blob)
        for name, found in blobs.items():
            if not found:
                continue
            vectors = unpack_vectors(found, name)
            if dimension and vectors.shape[1] != dimension:
                raise damaged(f"an embedding of chunk {name}")
            dimension = vectors.shape[1]
            yield name, vectors


def built(
    rows: Rows,
    namespace: str,
    chunks: Sequence[StoredChunk],
    settings: IndexSettings = EXACT,
    known: StoredIndex | None = None,
    state: str = "",
) -> PassageIndex:
    """Return the index of ``chunks`` of ``namespace``.

    Args:
        known: an earlier one, whose centroids are used as long as they serve.
        state: of the chunks, by which ``known`` need not be measured again.
    """
    row_of = {chunk.chunk_id: row for row, chunk in enumerate(chunks)}
    ((most,),) = rows("SELECT COUNT(*) FROM passages JOIN chunks USING (chunk_id) WHERE namespace = ?", namespace)
    owners, vectors, count = np.empty(most, dtype=np.int64), np.empty((0, 1), dtype=np.float32), 0
    for chunk_id, found in embeddings(rows, list(row_of)):
        if not count:  # room is taken up only as it is filled
            vectors = np.empty((most, found.shape[1]), dtype=np.float32)
        vectors[count : count + len(found)], owners[count : count + len(found)] = found, row_of[chunk_id]
        count += len(found)
    fits = known is not None and (known.centroids is None or known.centroids.shape[1] == vectors.shape[1])
    usable = known if fits else None
    measured = usable.report if usable and (usable.state, usable.settings) == (state, _said(settings)) else None
    return PassageIndex(
        chunks, owners[:count], vectors[:count], settings, usable.centroids if usable else None, measured
    )


def updated(
    rows: Rows, opened: OpenIndex, chunks: Sequence[StoredChunk], sealed: dict[str, str]
) -> PassageIndex | None:
    """Return the index of ``opened`` with what has changed since, or ``None`` where so much has that it is built anew.

    Args:
        sealed: see :func:`sealed_chunks`.
    """
    held, wanted = {c.chunk_id for c in opened.index.chunks}, {c.chunk_id for c in chunks}
    replaced = frozenset(name for name in held & wanted if opened.sealed.get(name) != sealed.get(name))
    fresh = [c.chunk_id for c in chunks if c.chunk_id not in held or c.chunk_id in replaced]
    changes = opened.index.drift + len(fresh) + len(held - wanted) + len(replaced)
    if changes > _DRIFT * len(held):
        return None
    return opened.index.changed(chunks, dict(embeddings(rows, fresh)), replaced)


def stored(rows: Rows, namespace: str) -> StoredIndex | None:
    """Return what the catalogue keeps of the namespace's index; ``None`` where that is nothing, or damaged."""
    found = rows("SELECT state, settings, report, centroids, checksum FROM indexes WHERE namespace = ?", namespace)
    if not found or found[0][4] != checksum(namespace, *found[0][:4]):
        return None
    row, (state, settings, said, blob, _) = (namespace, *found[0]), found[0]
    if not isinstance(said, str) or not isinstance(blob, bytes) or len(blob) % 4:
        return None
    try:
        report = IndexReport.model_validate_json(said)
    except ValidationError:
        return None
    if report.kind == "flat":
        return StoredIndex(state, settings, report, None, row)
    centroids = np.frombuffer(blob, dtype="<f4")
    sound = report.lists and centroids.size and centroids.size % report.lists == 0 and np.isfinite(centroids).all()
    if not sound or not 1 <= report.probes <= report.lists:
        return None
    return StoredIndex(state, settings, report, centroids.reshape(report.lists, -1).astype(np.float32), row)


def row_for(namespace: str, state: str, settings: IndexSettings, index: PassageIndex) -> tuple[object, ...]:
    """Return the catalogue's row for ``index``, which is of the chunks of ``state``."""
    blob = b"" if index.centroids is None else index.centroids.astype("<f4").tobytes()
    values = (namespace, state, _said(settings), index.report.model_dump_json(), blob)
    return (*values, checksum(*values))


def _said(settings: IndexSettings) -> str:
    return settings.model_dump_json()
