"""What a bank's directory may hold, checked before any of it is opened: it may come from other hands.

A symbolic link would lead reading, overwriting or removing out of the directory; a named pipe would never end.
"""

import stat
from pathlib import Path

from .catalogue import CATALOGUE
from .errors import BankError

SHARDS = "slots"

LOCK = "write.lock"

SALVAGED = f"{CATALOGUE}.salvaged"
_FILES = (LOCK, *(f"{name}{end}" for name in (CATALOGUE, SALVAGED) for end in ("", "-wal", "-shm", "-journal")))
# SQLite removes the file that the end of a rollback journal names, wherever it is; a bank's own never names one.
# (Format: https://www.sqlite.org/fileformat2.html#the_rollback_journal and, of the name, SQLite's pager.c)
_NAMES_ANOTHER_FILE = bytes.fromhex("d9d505f920a163d7")


def require_own_files(path: Path) -> None:
    """Refuse a bank in directory ``path`` of which a part is no plain file, or the shards' folder no folder.

    Raises:
        BankError: naming it.
    """
    for name in (*_FILES, SHARDS):
        if (kind := kind_of(path / name)) not in (None, "folder" if name == SHARDS else "file"):
            raise BankError(
                f"bank {path} is damaged or not of this library's making: {name} is a {kind}. Remove it if it is not "
                "yours, or restore the bank from a copy"
            )
    journal = path / f"{CATALOGUE}-journal"
    if kind_of(journal):
        with journal.open("rb") as stream:
            stream.seek(max(0, journal.stat().st_size - 8))
            if stream.read() == _NAMES_ANOTHER_FILE:
                raise BankError(
                    f"bank {path} is not of this library's making: {journal.name} names a file for SQLite to remove. "
                    "Remove it, or restore the bank from a copy"
                )


def kind_of(path: Path) -> str | None:
    """Say what is at ``path``, links not followed; ``None`` where there is nothing."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "named pipe"}
    return kinds.get(stat.S_IFMT(mode), "device or socket")
