"""Many at once: processes and threads that read a bank while others write to it, each answer checked."""

import hashlib
import json
import os
import random
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import faiss
import numpy as np

from ..chunking import chunk_id
from ..errors import BankError, InputError
from ..ingest import Document
from ..memory_bank import MemoryBank
from .stand_in import StandInEngine

_DIMENSION = 384
_DOCUMENTS = 3
"""In each namespace at the start."""
_THREADS = 2
"""In each process that reads, over one open bank."""
_PAUSE = 0.02
"""Seconds that a writer waits, at most, when it was told that another one writes."""


@dataclass
class Tally:
    """What one thread did."""

    seconds: list[float] = field(default_factory=list)
    told: int = 0
    """Times that it was told of a deletion beside it, or that another process writes."""
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """What all of one kind did."""

    what: str
    processes: int
    threads: int
    """In each process."""
    done: int
    per_second: float
    p50_ms: float
    p99_ms: float
    told: int
    """Reads that met a deletion and were told, or writes that were told to wait and did."""
    errors: int


def measure(readers: int, writers: int, namespaces: int, seconds: float, seed: int = 0) -> tuple[list[Row], list[str]]:
    """Fill a bank, let it be read and written for ``seconds``, and return the figures and every error.

    Args:
        readers: processes, of two threads each.
        writers: processes; each ingests, replaces and deletes.
        namespaces: of three documents each at the start.

    Raises:
        InputError: this machine cannot fork a process.
    """
    if not hasattr(os, "fork"):
        raise InputError("the load test forks its processes, which this system cannot: run it on Linux or macOS")
    with tempfile.TemporaryDirectory() as scratch:
        bank = Path(scratch) / "bank"
        _fill(bank, namespaces, seed)
        until = time.time() + seconds
        children = [_forked(_read_in_threads, bank, namespaces, until, seed + i, Path(scratch)) for i in range(readers)]
        children += [_forked(_write, bank, namespaces, until, seed - 1 - i, Path(scratch)) for i in range(writers)]
        for child in children:
            os.waitpid(child, 0)
        found = {file.name: json.loads(file.read_text()) for file in sorted(Path(scratch).glob("*.json"))}
    rows, errors = [], list[str]()
    for what, processes, threads in (("read", readers, _THREADS), ("write", writers, 1)):
        tallies = [Tally(**t) for name, held in found.items() if name.startswith(what) for t in held]
        if len(tallies) != processes * threads:
            errors.append(f"of {processes * threads} threads that {what}, {len(tallies)} came to their end")
        rows.append(_row(what, processes, threads, tallies, seconds))
        errors += [error for tally in tallies for error in tally.errors]
    return rows, errors


def _row(what: str, processes: int, threads: int, tallies: list[Tally], seconds: float) -> Row:
    took = np.array([s for tally in tallies for s in tally.seconds] or [float("nan")]) * 1000
    done = sum(len(tally.seconds) for tally in tallies)
    told, errors = sum(tally.told for tally in tallies), sum(len(tally.errors) for tally in tallies)
    middle, high = (float(np.percentile(took, percent)) for percent in (50, 99))
    return Row(what, processes, threads, done, done / seconds, middle, high, told, errors)


def _fill(bank: Path, namespaces: int, seed: int) -> None:
    dice = random.Random(seed)
    with StandInEngine(bank, _DIMENSION) as engine:
        for namespace in range(namespaces):
            engine.add([_document(i, dice) for i in range(_DOCUMENTS)], f"n{namespace}")


def _document(number: int, dice: random.Random) -> Document:
    return Document(f"d{number}", " ".join(f"w{dice.randrange(10**6)}" for _ in range(dice.choice((50, 200)))))


Work = Callable[[Path, int, float, int], list[Tally]]


def _forked(work: Work, bank: Path, namespaces: int, until: float, seed: int, scratch: Path) -> int:
    """Start a process that does ``work`` and writes its tallies to a file."""
    if child := os.fork():
        return child
    code = 1
    try:
        faiss.omp_set_num_threads(1)  # a forked process must not wait for threads that it does not have
        tallies = work(bank, namespaces, until, seed)
        name = "write" if work is _write else "read"
        (scratch / f"{name}-{os.getpid()}.json").write_text(json.dumps([asdict(tally) for tally in tallies]))
        code = 0
    finally:
        os._exit(code)


def _read_in_threads(path: Path, namespaces: int, until: float, seed: int) -> list[Tally]:
    bank, tallies = MemoryBank(path=path), [Tally() for _ in range(_THREADS)]
    threads = [
        threading.Thread(target=_read, args=(bank, namespaces, until, random.Random(f"{seed} {i}"), tally))
        for i, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies


def _read(bank: MemoryBank, namespaces: int, until: float, dice: random.Random, tally: Tally) -> None:
    while time.time() < until:
        start = time.perf_counter()
        try:
            read_namespace(bank, f"n{dice.randrange(namespaces)}", dice)
            tally.seconds.append(time.perf_counter() - start)
        except BankError as error:
            if "deleted or replaced" in str(error) or "has no namespace" in str(error):
                tally.told += 1
            else:
                tally.errors.append(repr(error))
        except Exception:  # noqa: BLE001 - counted, and shown
            tally.errors.append(traceback.format_exc())


def read_namespace(bank: MemoryBank, namespace: str, dice: random.Random) -> None:
    """Search a namespace, read what is nearest, and read one document whole.

    Raises:
        BankError: what was to be read was deleted or replaced meanwhile, or the namespace is gone.
        AssertionError: a chunk or a document is not whole.
    """
    index = bank.index(namespace)
    query = np.random.default_rng(dice.randrange(2**32)).standard_normal((1, _DIMENSION), dtype=np.float32)
    nearest = index.chunks[int(index.similarities(query, None).argmax())]
    whole = chunk_id(namespace, bank.text(nearest.chunk_id)) == nearest.chunk_id
    if not whole or len(bank.slots(nearest.chunk_id)) != nearest.slots:
        raise AssertionError(f"chunk {nearest.chunk_id} is not whole")
    if not (records := bank.records(namespace)):
        return
    record = dice.choice(records)
    text = "".join(bank.text(name) for name, _ in record.placements)
    if hashlib.sha256(text.encode()).hexdigest() != record.sha256:
        raise AssertionError(f"document {record.document_id!r} of namespace {namespace!r} is not whole")


def _write(path: Path, namespaces: int, until: float, seed: int) -> list[Tally]:
    dice, tally = random.Random(seed), Tally()
    with StandInEngine(path, _DIMENSION) as engine:
        while time.time() < until:
            start = time.perf_counter()
            change = _change(engine, f"n{dice.randrange(namespaces)}", dice)
            while True:
                try:
                    change()
                    tally.seconds.append(time.perf_counter() - start)
                except BankError as error:
                    if "being written by another process" in str(error):
                        tally.told += 1
                        time.sleep(dice.uniform(0, _PAUSE))
                        continue
                    if "has no document" not in str(error) and "has no namespace" not in str(error):
                        tally.errors.append(repr(error))
                except Exception:  # noqa: BLE001 - counted, and shown
                    tally.errors.append(traceback.format_exc())
                break
    return [tally]


def _change(engine: StandInEngine, namespace: str, dice: random.Random) -> Callable[[], object]:
    """Draw what to do: mostly a document that is new or replaces another, else a deletion."""
    document = _document(dice.randrange(2 * _DOCUMENTS), dice)
    if dice.random() < 0.8:
        return lambda: engine.add([document], namespace)
    whole = dice.random() < 0.2
    return lambda: engine.delete(namespace, None if whole else [document.document_id])
