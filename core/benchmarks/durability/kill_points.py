"""Ends this process by SIGKILL at a chosen step of its writing, and tells what a power cut would then lose."""

import os
import random
import signal
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ... import ingest, slot_store

_INSTRUCTIONS = 2000
"""Of SQLite's virtual machine between two steps, so that a long statement has several."""


class KillPoints:
    """Counts each statement, write, fsync, rename and removal, and kills the process at one of them.

    Only for a process that was forked to be killed: what it replaces stays replaced.
    """

    def __init__(self, at: int, journal: Path | None = None) -> None:
        """
        Args:
            at: the step to die at; 0 never dies.
            journal: file that is told what was made durable, for :func:`cut_power`; its folder keeps removed files.
        """
        self._at, self.passed = at, 0
        self._journal = journal
        self._kept = 0

    def install(self) -> None:
        """Begin to count."""
        system: Any = os
        shards: Any = slot_store
        database: Any = sqlite3
        real_fsync, real_replace, real_unlink = os.fsync, os.replace, os.unlink
        real_save, real_connect = shards.save_file, sqlite3.connect

        def fsync(handle: int) -> None:
            self.step()
            real_fsync(handle)
            kind = os.fstat(handle)
            self._note("folder" if stat.S_ISDIR(kind.st_mode) else f"file {kind.st_ino}")

        def replace(source: Any, target: Any) -> None:  # noqa: ANN401 - as os has it
            self.step()
            if self._journal and Path(target).parent.name == "slots":
                self._keep(Path(target), "named")
            real_replace(source, target)

        def unlink(path: Any, **named: Any) -> None:  # noqa: ANN401
            self.step()
            if self._journal and Path(path).parent.name == "slots":
                self._keep(Path(path), "removed")
            real_unlink(path, **named)

        def save_file(tensors: Any, target: Path, **named: Any) -> None:  # noqa: ANN401
            target.write_bytes(b"half a shard")
            self.step()
            real_save(tensors, target, **named)

        def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:  # noqa: ANN401
            connection = real_connect(*arguments, **named)
            connection.set_trace_callback(lambda _: self.step())
            connection.set_progress_handler(self.step, _INSTRUCTIONS)
            return connection

        system.fsync, system.replace, system.unlink = fsync, replace, unlink
        shards.save_file, database.connect = save_file, connect

    def step(self) -> None:
        """Pass a step, or die at it."""
        self.passed += 1
        if self.passed == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _keep(self, path: Path, what: str) -> None:
        """Note a change of a name, and keep under another name what had it."""
        self._kept += 1
        if self._journal and path.exists():
            os.link(path, self._journal.parent / f"kept-{self._kept}")
        self._note(f"{what} {self._kept} {path}")

    def _note(self, line: str) -> None:
        if self._journal:
            with self._journal.open("a") as stream:
                stream.write(line + "\n")


def small_commits() -> None:
    """Let this process commit after every few chunks, so that a document of some takes several commits."""
    ingest._PASS_TOKENS["cpu"] = 2 * 64


def cut_power(slots: Path, journal: Path, known: set[int], dice: random.Random) -> None:
    """Lose, by chance, what was written to folder ``slots`` and not yet made durable when the process ended.

    A file that was not synced is cut off; a name that was given or removed after the folder's last sync is undone.
    The catalogue is taken as it is, which is the hardest case for shards that have to be there before it.

    Args:
        journal: as :class:`KillPoints` wrote it.
        known: inodes of the files that were durable before.
    """
    synced, pending = set(known), list[Callable[[], None]]()
    for line in journal.read_text().splitlines() if journal.exists() else ():
        what, _, rest = line.partition(" ")
        if what == "file":
            synced.add(int(rest))
        elif what == "folder":
            pending = []
        else:
            number, _, path = rest.partition(" ")
            pending.append(partial(_undo, journal.parent / f"kept-{number}", Path(path)))
    for file in slots.iterdir():
        if file.stat().st_ino not in synced and dice.random() < 0.8:
            os.truncate(file, dice.randrange(file.stat().st_size + 1))
    for undo in reversed(pending):
        if dice.random() < 0.8:
            undo()


def _undo(kept: Path, path: Path) -> None:
    """Give a name back to what had it, or to nothing."""
    if kept.exists():
        os.replace(kept, path)
    else:
        path.unlink(missing_ok=True)
