"""Means over questions, with 95% bootstrap intervals, by data, system and size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import declines
from .records import Record

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and the 2.5 and 97.5 percentiles of the means of resampled questions."""

    mean: float
    low: float
    high: float
    n: int
    """Questions that have a value."""


@dataclass(frozen=True)
class Cell:
    """One system at one size on one file of questions."""

    data: str
    system: str
    documents: int
    tokens: float
    """Of a haystack, mean."""
    questions: int
    failed: int
    exact_match: Interval
    f1: Interval
    sub_exact_match: Interval
    declined: Interval
    """Share of questions with no answer, or one that says that there is none."""
    source_precision: Interval | None
    """Over the questions with citations."""
    gold_read: Interval | None
    taking_in_seconds: Interval
    asking_seconds: Interval
    first_answer_seconds: Interval
    """Taking in and asking together: the first question to a text."""
    tokens_encoded: float
    tokens_read: float
    slots_read: float
    tokens_written: float
    model_calls: float
    peak_mib: Interval
    added_mib: Interval
    """Peak over what was held before."""
    stage_seconds: dict[str, float]
    """Mean seconds of each stage of taking in and asking."""


def summarize(records: Sequence[Record]) -> list[Cell]:
    """Return the cells of ``records``: data and systems in the order in which they first come, sizes rising."""
    if not records:
        return []
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record.data, record.system, record.documents), []).append(record)
    data, systems = (list(dict.fromkeys(names)) for names in zip(*((r.data, r.system) for r in records), strict=True))
    ranked = sorted(groups, key=lambda key: (data.index(key[0]), key[2], systems.index(key[1])))
    return [_cell(groups[key]) for key in ranked]


def bootstrap(values: Sequence[float], resamples: int = RESAMPLES) -> Interval:
    """Return the mean of ``values`` and the percentile interval of 95% (Efron, 1979), from a fixed seed."""
    array = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(0).integers(0, len(array), (resamples, len(array)))
    low, high = np.percentile(array[rows].mean(axis=1), (2.5, 97.5))
    return Interval(float(array.mean()), float(low), float(high), len(array))


def _cell(records: Sequence[Record]) -> Cell:
    precisions = [r.source_precision for r in records if r.source_precision is not None]
    shown = [r.gold_read for r in records if r.gold_read is not None]
    stages = dict.fromkeys(stage for r in records for stage in (*r.taking_in.seconds, *r.asking.seconds))
    return Cell(
        data=records[0].data,
        system=records[0].system,
        documents=records[0].documents,
        tokens=_mean([r.tokens for r in records]),
        questions=len(records),
        failed=sum(r.failed is not None for r in records),
        exact_match=bootstrap([r.scores.exact_match for r in records]),
        f1=bootstrap([r.scores.f1 for r in records]),
        sub_exact_match=bootstrap([r.scores.sub_exact_match for r in records]),
        declined=bootstrap([float(declines(r.prediction)) for r in records]),
        source_precision=bootstrap(precisions) if precisions else None,
        gold_read=bootstrap(shown) if shown else None,
        taking_in_seconds=bootstrap([r.taking_in.total_seconds for r in records]),
        asking_seconds=bootstrap([r.asking.total_seconds for r in records]),
        first_answer_seconds=bootstrap([r.taking_in.total_seconds + r.asking.total_seconds for r in records]),
        tokens_encoded=_mean([r.taking_in.tokens_encoded for r in records]),
        tokens_read=_mean([r.asking.tokens_read for r in records]),
        slots_read=_mean([r.asking.slots_read for r in records]),
        tokens_written=_mean([r.asking.tokens_written for r in records]),
        model_calls=_mean([r.asking.model_calls for r in records]),
        peak_mib=bootstrap([r.peak_bytes / 2**20 for r in records]),
        added_mib=bootstrap([(r.peak_bytes - r.start_bytes) / 2**20 for r in records]),
        stage_seconds={stage: _mean([_stage(r, stage) for r in records]) for stage in stages},
    )


def _stage(record: Record, stage: str) -> float:
    return record.taking_in.seconds.get(stage, 0.0) + record.asking.seconds.get(stage, 0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
