"""How fast text becomes slots, over how fast the same model reads it: compression alone, and with the bank written.

With slots in place every token is read once, so 1.0 is the bound; an inserted memory token for each
α tokens makes it α / (α + 1).
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..backbone import Backbone
from ..chunking import token_ends
from ..compressor import Compressor
from ..embedder import Embedder
from ..errors import InputError
from ..ingest import Document, Ingest
from ..kv_cache import Slots
from ..memory_bank import Fingerprint, MemoryBank
from ..settings import CompressionSettings, Placement, Ratio

_PLACEMENTS: tuple[Placement, ...] = ("in_place", "inserted")
_TARGETS: dict[tuple[Placement, int], float] = {("in_place", 4): 0.9, ("inserted", 4): 0.7}
STEPS_EACH = 4 * len(_PLACEMENTS) + 1
"""Steps that are counted for each repetition."""


@dataclass(frozen=True)
class ThroughputRow:
    """Medians over repetitions for one placement. A ratio is of tokens of text for each second, to plain prefill."""

    placement: str
    ratio: int
    """α."""
    tokens: int
    """Of text, in each repetition."""
    prefill_tokens_per_s: float
    """The Hugging Face model on the same chunks in the same batches."""
    compress_over_prefill: float
    """Chunks' ids in, slots out."""
    written_over_prefill: float
    """Text in, a bank in a directory out: cut, encoded, embedded, on disk."""
    bound: float
    target: float | None
    """For the bank written, at α = 4."""


class _Recording(Compressor):
    """Remembers the batches that an ingest made, to run the others on the same."""

    def __init__(self, backbone: Backbone, settings: CompressionSettings) -> None:
        super().__init__(backbone, settings)
        self.batches: list[list[list[int]]] = []

    def compress(self, chunks: Sequence[Sequence[int]]) -> list[Slots]:
        self.batches.append([list(ids) for ids in chunks])
        return super().compress(chunks)


def measure(
    backbone: Backbone,
    embedder: Embedder,
    texts: Sequence[str],
    *,
    ratio: Ratio = 4,
    tokens: int = 16384,
    repeat: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    step: Callable[[], None] = lambda: None,
) -> list[ThroughputRow]:
    """Measure both placements on the first ``tokens`` tokens of ``texts``.

    Every timing stands between two of plain prefill and is compared with their mean, because other
    work on the machine changes its speed from minute to minute.

    Args:
        ratio: α.
        clock: gives seconds; ``time.process_time`` where other work on the machine would drown the difference. It
            does not count waiting for the disk, and needs one thread, since idle ones spin.
        step: called after each timing, :data:`STEPS_EACH` times a repetition.
    """
    documents = _documents(backbone, texts, tokens)
    compressors = [_Recording(backbone, CompressionSettings(ratio=ratio, placement=p)) for p in _PLACEMENTS]
    for compressor in compressors:  # the warm-up, too
        _write(compressor.to(backbone.device), embedder, documents)
    batches = [list(compressor.batches) for compressor in compressors]
    if batches[0] != batches[1]:
        raise AssertionError("both placements should cut and batch alike")
    total = sum(len(ids) for batch in batches[0] for ids in batch)
    plain: list[float] = []
    ratios: dict[tuple[Placement, str], list[float]] = {}

    def timed(work: Callable[[], object]) -> float:
        start = clock()
        work()
        if backbone.device.type == "cuda":
            torch.cuda.synchronize(backbone.device)
        seconds = clock() - start
        step()
        return seconds

    for _ in range(repeat):
        plain.append(timed(lambda: _prefill(backbone, batches[0])))
        for placement, compressor in zip(_PLACEMENTS, compressors, strict=True):
            for what, work in (
                ("compress", lambda c=compressor: [c.compress(batch) for batch in batches[0]]),
                ("written", lambda c=compressor: _write(c, embedder, documents)),
            ):
                seconds = timed(work)
                plain.append(timed(lambda: _prefill(backbone, batches[0])))
                ratios.setdefault((placement, what), []).append((plain[-2] + plain[-1]) / 2 / seconds)
    return [
        ThroughputRow(
            placement,
            ratio,
            total,
            total / statistics.median(plain),
            statistics.median(ratios[placement, "compress"]),
            statistics.median(ratios[placement, "written"]),
            1.0 if placement == "in_place" else ratio / (ratio + 1),
            _TARGETS.get((placement, ratio)),
        )
        for placement in _PLACEMENTS
    ]


def _documents(backbone: Backbone, texts: Sequence[str], tokens: int) -> list[Document]:
    documents: list[Document] = []
    for number, text in enumerate(texts):
        ends = token_ends(text, backbone.tokenizer)
        documents.append(Document(str(number), text[: ends[min(tokens, len(ends)) - 1]] if ends else ""))
        tokens -= len(ends)
        if tokens <= 0:
            return documents
    raise InputError(f"the texts are {tokens} tokens short: give more text, or lower tokens")


def _prefill(backbone: Backbone, batches: Sequence[Sequence[Sequence[int]]]) -> None:
    """Read ``batches`` as fast as the model can: rows begin together, so causal attention needs no mask."""
    for batch in batches:
        longest = max(map(len, batch))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch], device=backbone.device)
        with torch.no_grad(), backbone.using(None):
            backbone.causal_lm(input_ids=ids, use_cache=True, logits_to_keep=1)


def _write(compressor: Compressor, embedder: Embedder, documents: Sequence[Document]) -> None:
    backbone, settings = compressor.backbone, compressor.settings
    fingerprint = Fingerprint(
        model=backbone.name,
        weights=backbone.fingerprint("compressor"),
        embedder=embedder.name,
        **settings.model_dump(),
    )
    with tempfile.TemporaryDirectory(prefix="compressed-memory-") as scratch:
        bank = MemoryBank(fingerprint, Path(scratch))
        Ingest(bank, compressor, embedder, "throughput").run(documents)
        bank.close()
