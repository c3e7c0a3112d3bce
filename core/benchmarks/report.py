"""How every benchmark reports: rows of one shape, as a table and as JSON, with the machine they were measured on."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..backbone import best_device, best_dtype

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Machine:
    """Where figures were measured."""

    cores: int
    """That this process may use."""
    device: str
    torch: str
    dtype: str
    commit: str | None
    """Of the checkout that this file lies in; ``-dirty`` where it has changes."""


def machine(device: torch.device | None = None, dtype: torch.dtype | None = None) -> Machine:
    """Describe this machine, with the device and dtype that models use on it unless told others."""
    device = device or best_device()
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        torch=torch.__version__,
        dtype=str(dtype or best_dtype(device)).removeprefix("torch."),
        commit=_commit(),
    )


def show(
    benchmark: str,
    settings: Mapping[str, object],
    rows: Sequence["DataclassInstance"],
    json_path: Path | None = None,
    *,
    where: Machine | None = None,
) -> None:
    """Print ``rows``, all of one dataclass, as a table; write them as one JSON object to ``json_path``."""
    where = where or machine()
    records = [asdict(row) for row in rows]
    table = Table(title=benchmark, caption=" · ".join(f"{k} {v}" for k, v in asdict(where).items()))
    lines = [[name.replace("_", " "), *(_cell(record[name]) for record in records)] for name in records[0]]
    if len(lines) < len(records):  # many short rows read as they are, few long ones lie better on their side
        lines = [list(column) for column in zip(*lines, strict=True)]
    for number, heading in enumerate(lines[0]):
        table.add_column(heading, justify="right" if number else "left")
    for line in lines[1:]:
        table.add_row(*line)
    Console().print(table)
    if json_path:
        whole = {"benchmark": benchmark, "machine": asdict(where), "settings": dict(settings), "rows": records}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(whole, indent=2, default=str) + "\n")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how far a benchmark is, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield shown


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
