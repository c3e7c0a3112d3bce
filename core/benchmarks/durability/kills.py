"""Kills a process that writes to a bank, in four ways, and sees what the bank holds then."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from ...errors import InputError
from .history import History, HistoryError, Kind, Operation, perform, plan
from .kill_points import KillPoints, cut_power, small_commits

Way = Literal["moment", "step", "power cut", "system call"]
"""At a random moment; at a step of this library or a statement of SQLite; so, and what was not made durable is lost;
at a system call that writes, through strace."""

KINDS: tuple[Kind, ...] = get_args(Kind)
_CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink"
_ROUND = 25
"""Faults that one bank lives through."""
_PATIENCE = 60.0
"""Seconds after which a process that should write is given up."""


class Kills:
    """Faults in a row, on banks that begin as the stored one of format 1 and go on after each fault."""

    def __init__(self, stored: Path, place: Path, way: Way, seed: int) -> None:
        """
        Args:
            stored: zip file of a bank of format 1.
            place: an empty directory to work in.

        Raises:
            InputError: there is no such file, or no strace.
        """
        if not stored.is_file():
            raise InputError(f"{stored} does not exist: name the stored bank of format 1, of a checkout's tests/data")
        if way == "system call" and not shutil.which("strace"):
            raise InputError("killing at system calls needs strace: install it, or leave this way out")
        self._stored, self._place, self._way = stored, place, way
        self._dice = random.Random(f"{seed} {way}")
        # Learned from operations that were not cut short: where in them there is to cut.
        self._seconds: dict[Kind, float] = {}
        self._steps: dict[Kind, int] = {}
        self._calls: dict[Kind, Counter[str]] = {}
        self._lives = 0
        self._history: History | None = None
        place.mkdir(parents=True, exist_ok=True)

    def next(self) -> Kind:
        """Go on until a process was killed, check the bank, and return what the process was doing.

        Raises:
            HistoryError: the bank does not hold what it must. The next fault is on a new bank.
        """
        while True:
            kind = self._dice.choice(KINDS[1:])
            if self._history is None or self._lives >= _ROUND:
                kind = "migrate"
                self._history, self._lives = self._new_bank(), 0
            try:
                if cut := self._fault(kind, self._history):
                    self._lives += 1
                    return cut.kind
            except BaseException as error:
                self._history = None
                if isinstance(error, Exception) and not isinstance(error, HistoryError):
                    raise HistoryError(f"after a kill in {kind}: {traceback.format_exc()}") from error
                raise

    @property
    def _bank(self) -> Path:
        return self._place / "bank"

    def _new_bank(self) -> History:
        shutil.rmtree(self._bank, ignore_errors=True)
        with zipfile.ZipFile(self._stored) as stored:
            stored.extractall(self._bank)
            with tempfile.TemporaryDirectory(dir=self._place) as pristine:
                stored.extractall(pristine)
                history = History(Path(pristine), self._bank)
        return history

    def _fault(self, kind: Kind, history: History) -> Operation | None:
        """Let a process do ``kind`` and then more, and kill it; return what was cut short, ``None``: nothing."""
        operations, state = list[Operation](), history.state
        for what in (kind, *self._dice.choices(KINDS[1:], k=2)):
            operations.append(plan(what, state, self._dice))
            state = operations[-1].after(state)
        with tempfile.TemporaryDirectory(dir=self._place) as scratch:
            durable = {file.stat().st_ino for file in (self._bank / "slots").iterdir()}
            self._run(operations, kind, Path(scratch))
            begun, done = self._read_log(Path(scratch) / "log", operations)
            if self._way == "power cut":
                cut_power(self._bank / "slots", Path(scratch) / "journal", durable, self._dice)
        cut = operations[begun - 1] if begun > done else None
        history.check(operations[:done], cut)
        return cut

    def _read_log(self, log: Path, operations: Sequence[Operation]) -> tuple[int, int]:
        """Return how many operations were begun and how many done; learn how long they take."""
        lines = [line.split() for line in log.read_text().splitlines()]
        done = [line for line in lines if line[0] == "done"]
        passed = 0
        for operation, (_, seconds, steps) in zip(operations, done, strict=False):
            known = self._seconds.get(operation.kind, float(seconds))
            self._seconds[operation.kind] = 0.7 * known + 0.3 * float(seconds)
            self._steps[operation.kind] = max(self._steps.get(operation.kind, 0), int(steps) - passed)
            passed = int(steps)
        return sum(line[0] == "begun" for line in lines), len(done)

    def _run(self, operations: Sequence[Operation], kind: Kind, scratch: Path) -> None:
        # The first of a kind is let live, to learn from it.
        known, seed = kind in self._seconds, self._dice.randrange(2**32)
        at = self._dice.randint(1, self._steps[kind]) if known and self._way in ("step", "power cut") else 0
        ready, told = os.pipe()
        go, gone = os.pipe()
        if (child := os.fork()) == 0:
            os.close(gone)
            os.close(ready)
            journal = scratch / "journal" if self._way == "power cut" else None
            points = KillPoints(at, journal)
            _live(points, operations, self._bank, scratch, seed, (told, go))
        os.close(told)
        os.close(go)
        tracer = self._trace(child, kind, scratch) if self._way == "system call" else None
        os.close(gone)  # which lets it begin
        os.read(ready, 1)
        os.close(ready)
        if self._way == "moment" and known:
            time.sleep(self._dice.uniform(0, 1.2 * self._seconds[kind]))
            os.kill(child, signal.SIGKILL)
        status = _wait(child)
        if tracer:
            tracer.communicate()
            self._learn_calls(kind, scratch / "calls")
        if status not in (0, -signal.SIGKILL):
            said = (scratch / "error").read_text() if (scratch / "error").exists() else ""
            raise HistoryError(f"{[o.kind for o in operations]} ended with {status}: {said}")

    def _trace(self, child: int, kind: Kind, scratch: Path) -> subprocess.Popen[bytes]:
        command = ["strace", "-p", str(child), "-o", str(scratch / "calls"), "-e", f"trace={_CALLS}"]
        if counted := self._calls.get(kind):
            (call,) = self._dice.choices(list(counted), list(counted.values()))
            command += ["-e", f"inject={call}:signal=KILL:when={self._dice.randint(1, counted[call])}"]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert tracer.stderr is not None  # noqa: S101 - for the type checker
        if b"attached" not in (said := tracer.stderr.readline()):
            os.kill(child, signal.SIGKILL)
            raise HistoryError(f"strace says {said!r}")
        return tracer

    def _learn_calls(self, kind: Kind, calls: Path) -> None:
        if kind not in self._calls and calls.exists():
            names = [line.partition("(")[0] for line in calls.read_text().splitlines() if "(" in line]
            self._calls[kind] = Counter(names)


def _live(
    points: KillPoints,
    operations: Sequence[Operation],
    bank: Path,
    scratch: Path,
    seed: int,
    pipes: tuple[int, int],
) -> None:
    """Be the process that is killed: do ``operations`` and say in a log which were begun and done."""
    ready, go = pipes
    log = os.open(scratch / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def tell(line: str) -> None:
        os.write(log, line.encode() + b"\n")
        os.fdatasync(log)  # not os.fsync, which is a step

    try:
        small_commits()
        os.read(go, 1)
        points.install()
        for number, operation in enumerate(operations):
            tell("begun")
            if number == 0:
                os.write(ready, b"!")
            start = time.perf_counter()
            perform(operation, bank, seed)
            tell(f"done {time.perf_counter() - start:.6f} {points.passed}")
    except BaseException:  # noqa: BLE001 - a forked process must not run on
        (scratch / "error").write_text(traceback.format_exc())
        os._exit(4)
    os._exit(0)


def _wait(child: int) -> int:
    """Return how ``child`` ended; one that hangs is killed.

    Raises:
        HistoryError: it hung.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise HistoryError(f"a process wrote for over {_PATIENCE:.0f} s")
