"""The picture of a run."""

import json
from pathlib import Path

from matplotlib.image import imread

from core.training.plot import plot_run


def written(folder: Path, *records: dict[str, float]) -> Path:
    file = folder / "metrics.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_each_measure_has_its_own_panel(tmp_path: Path) -> None:
    target = tmp_path / "curve.png"
    plot_run(written(tmp_path, *({"step": i, "seconds": i, "loss": 1 / (i + 1)} for i in range(30))), target)
    narrow = imread(target).shape
    measured = ({"step": i, "loss": 1.0, "held_out_loss_raw": 2.0, "tokens": 3.0} for i in range(30))
    plot_run(written(tmp_path, *measured), target)
    assert imread(target).shape[1] == 3 * narrow[1]
    assert imread(target).shape[0] == narrow[0]


def test_a_run_that_recorded_nothing_has_no_picture(tmp_path: Path) -> None:
    plot_run(tmp_path / "metrics.jsonl", tmp_path / "curve.png")
    plot_run(written(tmp_path), tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()
