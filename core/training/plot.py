"""A run's curves, for people who would rather look than read."""

import json
from pathlib import Path

from matplotlib.figure import Figure

_NOT_DRAWN = {"step", "seconds"}
_SMOOTHED_OVER = 20
"""Steps of a running mean, drawn over the single values."""


def plot_run(metrics: Path, target: Path) -> None:
    """Draw each measure that ``metrics`` (JSON lines, each with its step) records against the step."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for line in metrics.read_text().splitlines() if metrics.is_file() else ():
        record = json.loads(line)
        for name, value in record.items():
            if name not in _NOT_DRAWN:
                steps, values = series.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    if not series:
        return
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4.5 * columns, 3 * rows), layout="constrained")
    for place, (name, (steps, values)) in enumerate(series.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        held_out = name.startswith("held_out")
        axes.plot(
            steps, values, "o-" if held_out else "-", color="C1" if held_out else "C0", alpha=1 if held_out else 0.4
        )
        if not held_out and len(values) > _SMOOTHED_OVER:
            means = [
                sum(values[i - _SMOOTHED_OVER : i]) / _SMOOTHED_OVER for i in range(_SMOOTHED_OVER, len(values) + 1)
            ]
            axes.plot(steps[_SMOOTHED_OVER - 1 :], means, color="C0")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.savefig(target, dpi=110)
