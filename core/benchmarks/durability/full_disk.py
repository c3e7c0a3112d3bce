"""Lets a bank's disk fill up amid an operation, on a small file system of its own."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import StorageError
from .history import History, HistoryError, Kind, Operation, State, perform, plan

_SIZE = 4 << 20
_KINDS: tuple[Kind, ...] = ("ingest", "replace", "delete document", "delete namespace", "compact")


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount 4 MiB of memory at the empty directory ``place`` for as long; give whether this machine allows it."""
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(place)]
    allowed = bool(mount) and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=True)  # noqa: S607 - root's own


class FullDisk:
    """Faults in a row on one bank, which goes on when space is back."""

    def __init__(self, disk: Path, seed: int) -> None:
        """
        Args:
            disk: a mounted file system that holds nothing.
        """
        self._disk, self._dice = disk, random.Random(f"{seed} full disk")
        self._bank = disk / "bank"
        state: State = {}
        for _ in range(4):
            operation = plan("ingest", state, self._dice)
            perform(operation, self._bank)
            state = operation.after(state)
        self._history = History(self._bank, self._bank)

    def next(self) -> Kind:
        """Go on until an operation failed for lack of space; check the bank, do it again, and return its kind.

        Raises:
            HistoryError: the bank does not hold what it must, or the error was none that names the disk.
        """
        while True:
            if sum(map(len, self._history.state.values())) > _SIZE // 40:  # with room, or it would go on failing
                relief = plan("delete namespace", self._history.state, self._dice)
                perform(relief, self._bank)
                self._history.check([relief], None)
            wanted: Kind = "ingest" if len(self._history.state) < 4 else self._dice.choice(_KINDS)
            operation = plan(wanted, self._history.state, self._dice)
            try:
                if self._fails(operation):
                    return operation.kind
            except HistoryError:
                self._history = History(self._bank, self._bank)
                raise

    def _fails(self, operation: Operation) -> bool:
        """Do ``operation`` with some room or none left; return whether it failed."""
        ballast = self._disk / "ballast"
        room = self._dice.choice((0, 0, 4, 8, 16, 24, 48)) << 10
        fill(ballast, max(0, free(self._disk) - room))
        try:
            perform(operation, self._bank)
        except StorageError as error:
            if not any(said in str(error) for said in ("full", "No space left", "disk I/O error")):
                raise HistoryError(f"{operation.kind} on a full disk says: {error}") from error
            failed = True
        except Exception as error:
            raise HistoryError(f"{operation.kind} on a full disk raises {error!r}") from error
        else:
            failed = False
        finally:
            ballast.unlink()
        self._history.check([] if failed else [operation], operation if failed else None)
        if failed:
            again = operation if operation.kind not in ("delete document", "delete namespace") else Operation("compact")
            perform(again, self._bank)
            self._history.check([again], None)
        return failed


def free(disk: Path) -> int:
    """Return the free bytes of a file system."""
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


def fill(file: Path, size: int) -> None:
    """Take up ``size`` bytes."""
    with file.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size or 1)
