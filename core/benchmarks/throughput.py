"""How fast text becomes slots, over how fast the same model reads it: compression alone, and with the bank written.

With slots in place or selected every token is read once, so 1.0 is the bound; an inserted memory token for each
α tokens makes it α / (α + 1). Selected slots need a selector for the model, and are left out where none ships.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..adapters import DEFAULT_ADAPTERS, find_adapters
from ..backbone import Backbone
from ..chunking import token_ends
from ..compressor import Compressor
from ..embedder import Embedder
from ..errors import InputError
from ..ingest import Document, Ingest
from ..kv_cache import Slots
from ..memory_bank import Fingerprint, MemoryBank
from ..selector import SELECTOR
from ..settings import CompressionSettings, Placement, Ratio

_PLACEMENTS: tuple[Placement, ...] = ("in_place", "inserted", "selected")
_TARGETS: dict[tuple[Placement, int], float] = {("in_place", 4): 0.9, ("inserted", 4): 0.7}


def placements(model: str) -> tuple[Placement, ...]:
    """Return what is measured for ``model``."""
    return _PLACEMENTS if _selector(model) is not None else _PLACEMENTS[:2]


def steps_each(model: str) -> int:
    """Return the steps that are counted for each repetition."""
    return 4 * len(placements(model)) + 1


def _selector(model: str) -> Path | None:
    folder = find_adapters(DEFAULT_ADAPTERS, model)
    return folder if folder is not None and (folder / SELECTOR).is_file() else None


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
    """Measure each of :func:`placements` on the first ``tokens`` tokens of ``texts``.

    Every timing stands between two of plain prefill and is compared with their mean, because other
    work on the machine changes its speed from minute to minute.

    Args:
        ratio: α.
        clock: gives seconds; ``time.process_time`` where other work on the machine would drown the difference. It
            does not count waiting for the disk, and needs one thread, since idle ones spin.
        step: called after each timing, :func:`steps_each` times a repetition.
    """
    documents = _documents(backbone, texts, tokens)
    measured, selector = placements(backbone.name), _selector(backbone.name)
    compressors = [_Recording(backbone, CompressionSettings(ratio=ratio, placement=p)) for p in measured]
    for compressor in compressors:  # the warm-up, too
        if selector is not None:
            compressor.load_weights(selector)
        _write(compressor.to(backbone.device), embedder, documents)
    batches = [list(compressor.batches) for compressor in compressors]
    if any(other != batches[0] for other in batches):
        raise AssertionError("all placements should cut and batch alike")
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
        for placement, compressor in zip(measured, compressors, strict=True):
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
            ratio / (ratio + 1) if placement == "inserted" else 1.0,
            _TARGETS.get((placement, ratio)),
        )
        for placement in measured
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
