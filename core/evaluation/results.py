"""Writes what a run found: ``results.json``, ``table.md`` and the plots."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..benchmarks.report import Machine
from .plots import write_plots
from .records import Record, RunSettings
from .summary import summarize
from .table import as_markdown


def write_results(
    records: Sequence[Record], settings: RunSettings, command: str, machine: Machine, folder: Path
) -> str:
    """Write everything into ``folder``, each file whole or not at all; return the table."""
    cells = summarize(records)
    table = as_markdown(cells, command, machine)
    whole = {
        "command": command,
        "machine": asdict(machine),
        "settings": settings.model_dump(),
        "cells": [asdict(cell) for cell in cells],
        "questions": [record.model_dump() for record in records],
    }
    _write(folder / "results.json", json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    _write(folder / "table.md", table)
    write_plots(cells, folder)
    return table


def _write(path: Path, text: str) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
