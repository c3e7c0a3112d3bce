"""Kills, full disks, flipped bytes and banks of other hands: what a bank lives through, counted."""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from .flips import Flips
from .full_disk import FullDisk, small_disk
from .history import HistoryError, Operation, perform
from .hostile import HARMS, try_bank
from .kills import Kills, Way

WAYS: tuple[Way, ...] = get_args(Way)
FAULTS = (*(f"kill: {way}" for way in WAYS), "full disk", "flipped bit", "bank of other hands")


@dataclass(frozen=True)
class Row:
    """One kind of fault in one place."""

    fault: str
    where: str
    """What was being done, or what came of it, or what was wrong with the bank."""
    faults: int
    survived: int


@dataclass(frozen=True)
class Result:
    """What a bank lived through."""

    rows: list[Row]
    failures: list[str]
    skipped: list[str]
    """Faults that this machine does not allow, and why."""


def measure(
    faults: int,
    seed: int,
    stored: Path,
    place: Path | None = None,
    kinds: Sequence[str] = FAULTS,
    minutes: float | None = None,
    step: Callable[[], None] = lambda: None,
) -> Result:
    """Put banks through ``faults`` of each kind.

    Args:
        stored: zip file of a bank of format 1.
        place: directory to work in, which decides the disk; a temporary one where it is not given.
        kinds: those of :data:`FAULTS` that are wanted.
        minutes: after which no further fault begins.
        step: called after each fault.

    Raises:
        InputError: ``stored`` is missing.
    """
    rows, failures, skipped = list[Row](), list[str](), list[str]()
    until = time.monotonic() + 60 * minutes if minutes else float("inf")

    def repeat(fault: str, next_fault: Callable[[], str]) -> None:
        met, survived = Counter[str](), Counter[str]()
        for _ in range(faults):
            if time.monotonic() > until:
                break
            try:
                where = next_fault()
                survived[where] += 1
            except HistoryError as error:
                where = "not survived"
                failures.append(f"{fault}: {error}")
            met[where] += 1
            step()
        rows.extend(Row(fault, where, met[where], survived[where]) for where in sorted(met))

    with tempfile.TemporaryDirectory(dir=place) as scratch, ExitStack() as mounted:
        for fault in [fault for fault in FAULTS if fault in kinds]:
            folder = Path(scratch) / fault.replace(": ", " ")
            folder.mkdir()
            try:
                repeat(fault, _source(fault, seed, stored, folder, mounted))
            except _NotAllowedError as error:
                skipped.append(f"{fault}: {error}")
    return Result(rows, failures, skipped)


class _NotAllowedError(Exception):
    """This machine has no way to a fault."""


def _source(fault: str, seed: int, stored: Path, place: Path, mounted: ExitStack) -> Callable[[], str]:
    """Return what brings about one fault after the other."""
    if fault == "full disk":
        if not mounted.enter_context(small_disk(place)):
            raise _NotAllowedError("mounting a small file system needs root")
        return FullDisk(place, seed).next
    if fault == "flipped bit":
        return Flips(place, seed).next
    if fault == "bank of other hands":
        return _hostile(place, seed)
    (way,) = (way for way in WAYS if fault == f"kill: {way}")
    if way == "system call" and not shutil.which("strace"):
        raise _NotAllowedError("there is no strace")
    return Kills(stored, place, way, seed).next


def _hostile(place: Path, seed: int) -> Callable[[], str]:
    """Return what tries one hostile bank after the other."""
    dice, left = random.Random(f"{seed} hostile"), list[str]()
    sound, case = place / "sound", place / "case"
    for namespace in ("a", "b"):
        texts = {"d": " ".join(f"word{i}" for i in range(150)), "e": "a short text"}
        perform(Operation("ingest", namespace, texts), sound)

    def next_fault() -> str:
        if not left:
            left.extend(HARMS)
        name = left.pop(0)
        try_harm(name, sound, case, dice)
        return name

    return next_fault


def try_harm(name: str, sound: Path, case: Path, dice: random.Random) -> None:
    """Harm a copy of the bank in directory ``sound`` as :data:`HARMS` says, and see what comes of using it.

    Args:
        case: a directory to work in, which is emptied first.

    Raises:
        HistoryError: something else than an error of this library, or something outside the bank was touched.
    """
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(sound, case / "bank")
    (case / "outside" / "folder").mkdir(parents=True)
    for file in ("file", "folder/file"):
        (case / "outside" / file).write_bytes(b"not the bank's")
    try:
        HARMS[name](case / "bank", case / "outside", dice)
        try_bank(case / "bank", case / "outside")
    except Exception as error:
        raise HistoryError(f"{name}: {error}") from error
