"""Peak memory of taking texts of growing length in: an ingest streams, so the peak does not follow the length."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import AutoTokenizer

from ..engine import Engine
from ..errors import CompressedMemoryError
from ..readers import find_files, read_file
from ..weights import DEFAULT_MODEL, resolve
from .material import numbered_files


@dataclass(frozen=True)
class MemoryRow:
    """One ingest into a bank in a directory, in a process of its own."""

    tokens: int
    """Encoded."""
    peak_mib: float
    """Most memory resident at once, model and libraries included, MiB."""
    over_first: float
    """Peak over the first row's; target at most 1.1."""
    bank_mib: float
    """On disk, MiB."""
    seconds: float
    """Of the ingest, models loaded."""


@dataclass(frozen=True)
class _Ingested:
    """What a child reports on its last line."""

    tokens: int
    peak_bytes: int
    bank_bytes: int
    seconds: float


def measure(
    sources: Sequence[str], tokens: Sequence[int], model: str = DEFAULT_MODEL, step: Callable[[], None] = lambda: None
) -> list[MemoryRow]:
    """Ingest as many tokens as each of ``tokens`` says, each time in a fresh process.

    Args:
        sources: texts to repeat, a changed number in each paragraph.
        step: called after each process.
    """
    tokenizer = AutoTokenizer.from_pretrained(resolve(model))
    runs: list[_Ingested] = []
    for count in tokens:
        with tempfile.TemporaryDirectory(prefix="compressed-memory-") as scratch:
            texts = Path(scratch) / "texts"
            texts.mkdir()
            numbered_files(sources, tokenizer, count, texts)
            runs.append(_in_fresh_process(texts, Path(scratch) / "bank", model))
        step()
    return [
        MemoryRow(r.tokens, r.peak_bytes / 2**20, r.peak_bytes / runs[0].peak_bytes, r.bank_bytes / 2**20, r.seconds)
        for r in runs
    ]


def _in_fresh_process(texts: Path, bank: Path, model: str) -> _Ingested:
    command = [sys.executable, "-m", __name__, str(texts), str(bank), model]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise CompressedMemoryError(f"ingesting {texts} in a process of its own failed: see above")
    return _Ingested(**json.loads(run.stdout.splitlines()[-1]))


def _ingest(texts: Path, bank: Path, model: str) -> _Ingested:
    engine = Engine.open(bank, model=model)
    start = time.perf_counter()
    report = engine.add(read_file(file) for file in find_files([texts]))
    seconds = time.perf_counter() - start
    engine.bank.close()
    size = sum(file.stat().st_size for file in bank.rglob("*") if file.is_file())
    return _Ingested(report.tokens_encoded, peak_bytes(), size, seconds)


def peak_bytes() -> int:
    """Return the most memory that this process had resident.

    Linux carries ``ru_maxrss`` over from the process that started this one, so there the kernel's own
    mark for this address space is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_ingest(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))) + "\n")
