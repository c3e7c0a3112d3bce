"""Score, seconds and memory by length, a line for each system, as PNG."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ExtraMissingError
from .summary import Cell, Interval

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ExtraMissingError("the evaluation needs: pip install 'compressed-memory[evaluation]'") from error

_PLOTS: tuple[tuple[str, str, bool, Callable[[Cell], Interval]], ...] = (
    ("score", "sub-EM", False, lambda cell: cell.sub_exact_match),
    ("f1", "F1", False, lambda cell: cell.f1),
    ("first-answer-seconds", "seconds to the first answer to a text", True, lambda cell: cell.first_answer_seconds),
    ("further-answer-seconds", "seconds to a further answer to it", True, lambda cell: cell.asking_seconds),
    ("memory", "peak memory, MiB", False, lambda cell: cell.peak_mib),
)


def write_plots(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Write one file for each data set and measure; return their paths. Bars are 95% bootstrap intervals."""
    written = []
    for data in dict.fromkeys(cell.data for cell in cells):
        of_data = [cell for cell in cells if cell.data == data]
        for name, label, logarithmic, measure in _PLOTS:
            written.append(folder / f"{data}-{name}-by-length.png")
            _plot(of_data, data, label, logarithmic, measure).savefig(written[-1])
    return written


def _plot(
    cells: Sequence[Cell], title: str, label: str, logarithmic: bool, measure: Callable[[Cell], Interval]
) -> Figure:
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for system in dict.fromkeys(cell.system for cell in cells):
        line = sorted((cell for cell in cells if cell.system == system), key=lambda cell: cell.tokens)
        found = [measure(cell) for cell in line]
        below = [max(0.0, i.mean - i.low) for i in found]
        above = [max(0.0, i.high - i.mean) for i in found]
        tokens, means = [cell.tokens for cell in line], [i.mean for i in found]
        axes.errorbar(tokens, means, yerr=[below, above], marker="o", capsize=3, label=system)
    axes.set_xscale("log")
    if logarithmic and all(measure(cell).mean > 0 for cell in cells):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of the haystack")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure
