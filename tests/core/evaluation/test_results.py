"""From records to means, table, JSON and plots."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.benchmarks.report import machine
from core.evaluation.cost import Cost
from core.evaluation.metrics import AnswerScores
from core.evaluation.records import Record
from core.evaluation.results import write_results
from core.evaluation.summary import bootstrap, summarize

from .test_comparison import SETTINGS


def record(system: str, documents: int, question: str, score: float, seconds: float, precision: float | None) -> Record:
    return Record(
        data="made",
        system=system,
        documents=documents,
        tokens=documents * 100,
        question_id=question,
        question="What?",
        answers=("é",),
        prediction="",
        scores=AnswerScores(0.0, score / 2, score),
        cited=1,
        source_precision=precision,
        gold_read=None if system == "memagent" else 1.0,
        taking_in=Cost(seconds={"encode": 2.0}),
        asking=Cost(tokens_read=10, model_calls=3, seconds={"gate": 0.5, "answer": seconds}),
        start_bytes=2**20,
        peak_bytes=3 * 2**20,
        failed="out of memory" if score < 0.1 and system == "memagent" else None,
    )


RECORDS = [
    record("raw", 50, "a", 1.0, 1.0, 0.5),
    record("memagent", 50, "a", 0.0, 40.0, None),
    record("raw", 10, "a", 1.0, 1.0, 1.0),
    record("raw", 50, "b", 0.0, 2.0, None),
    record("memagent", 50, "b", 1.0, 60.0, None),
]


def test_a_mean_has_the_interval_of_resampled_means() -> None:
    values = [0.0] * 60 + [1.0] * 40
    found = bootstrap(values)
    error = 1.96 * np.sqrt(0.4 * 0.6 / 100)  # the normal approximation
    assert found.mean == pytest.approx(0.4)
    assert found.low == pytest.approx(0.4 - error, abs=0.015)
    assert found.high == pytest.approx(0.4 + error, abs=0.015)
    assert found == bootstrap(values)
    assert bootstrap([0.7]).low == bootstrap([0.7]).high == pytest.approx(0.7)


def test_cells_hold_means_by_data_size_and_system() -> None:
    small, raw, agent = summarize(RECORDS)
    assert [(c.system, c.documents, c.questions) for c in (small, raw, agent)] == [
        ("raw", 10, 1),
        ("raw", 50, 2),
        ("memagent", 50, 2),
    ]
    assert (raw.sub_exact_match.mean, raw.f1.mean) == (0.5, 0.25)
    assert (raw.source_precision.mean, raw.source_precision.n) == (0.5, 1)  # over those with citations
    assert agent.source_precision is None
    assert agent.gold_read is None
    assert agent.failed == 1
    assert agent.sub_exact_match.mean == 0.5  # the failed one counts
    assert (raw.taking_in_seconds.mean, raw.asking_seconds.mean, raw.first_answer_seconds.mean) == (2.0, 2.0, 4.0)
    assert raw.stage_seconds == {"encode": 2.0, "gate": 0.5, "answer": 1.5}
    assert (raw.peak_mib.mean, raw.added_mib.mean) == (3.0, 2.0)


def test_results_are_written_with_table_and_plots(tmp_path: Path) -> None:
    table = write_results(RECORDS, SETTINGS, "python -m core.evaluation --data x", machine(), tmp_path)
    whole = json.loads((tmp_path / "results.json").read_text())
    assert [len(whole["cells"]), len(whole["questions"])] == [3, 5]
    assert whole["questions"][0]["scores"] == {"exact_match": 0.0, "f1": 0.5, "sub_exact_match": 1.0}
    assert whole["cells"][1]["sub_exact_match"].keys() == {"mean", "low", "high", "n"}
    assert whole["settings"]["seed"] == 0
    assert (tmp_path / "table.md").read_text() == table
    assert "python -m core.evaluation --data x" in table
    assert machine().device in table
    assert "| 50 | 5,000 | raw | 2 | 0 | 0.0% [0.0%, 0.0%] | 25.0% [0.0%, 50.0%] | 50.0% [0.0%, 100.0%] |" in table
    # memagent takes 52.5 s: over 4 s for a first answer and 2 s for a further one; peaks are alike.
    assert "| 50 | 5,000 | raw | 13.1 | 26.2 | 1.0 |" in table
    plots = sorted(path.name for path in tmp_path.glob("*.png"))
    assert plots == [
        "made-f1-by-length.png",
        "made-first-answer-seconds-by-length.png",
        "made-further-answer-seconds-by-length.png",
        "made-memory-by-length.png",
        "made-score-by-length.png",
    ]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in plots)
