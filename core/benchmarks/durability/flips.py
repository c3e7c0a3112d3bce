"""Flips a bit of a random byte of a bank: it is named, or it is of free room and what the bank holds is unchanged."""

import random
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from ...errors import BankError
from ...memory_bank import MemoryBank
from ...verification import repair, verify
from ..stand_in import StandInEngine
from .history import History, HistoryError, State, perform, plan, texts_of

Outcome = Literal["repaired whole", "repaired, lost documents named", "beyond repair, said so", "free room, unchanged"]


class Flips:
    """Faults, each on the same sound bank."""

    def __init__(self, place: Path, seed: int) -> None:
        """
        Args:
            place: an empty directory to work in.
        """
        self._sound, self._bank, self._dice = place / "sound", place / "bank", random.Random(f"{seed} flips")
        state: State = {}
        for kind in ("ingest", "ingest", "ingest", "replace", "delete document", "ingest"):
            operation = plan(kind, state, self._dice)
            perform(operation, self._sound)
            state = operation.after(state)
        self._state = state
        with closing(MemoryBank(path=self._sound)) as bank:
            self._digest = bank.digest()
        self._files = sorted(
            f.relative_to(self._sound) for f in self._sound.rglob("*") if f.is_file() and f.stat().st_size
        )

    def next(self) -> Outcome:
        """Flip a bit, verify, repair, and return what came of it.

        Raises:
            HistoryError: it went unseen and something changed, or repair did not mend or name it.
        """
        shutil.rmtree(self._bank, ignore_errors=True)
        shutil.copytree(self._sound, self._bank)
        # Half of them in the catalogue; of its bytes, half in the first page, on which all others hang.
        file = self._dice.choice(self._files) if self._dice.random() < 0.5 else Path("bank.sqlite")
        data = bytearray((self._bank / file).read_bytes())
        at = self._dice.randrange(min(len(data), 4096) if self._dice.random() < 0.25 else len(data))
        data[at] ^= 1 << self._dice.randrange(8)
        (self._bank / file).write_bytes(data)
        try:
            return self._outcome()
        except Exception as error:
            raise HistoryError(f"byte {at} of {file}: {error!r}") from error

    def _outcome(self) -> Outcome:
        found = verify(self._bank)
        if not found:
            with closing(MemoryBank(path=self._bank)) as bank:
                if bank.digest() != self._digest:
                    raise HistoryError("it went unseen and the bank holds something else")
            History(self._bank, self._bank).check([], None)
            return "free room, unchanged"
        try:
            done = repair(self._bank, lambda: StandInEngine(self._bank))
        except BankError as error:
            if "cannot be repaired" not in str(error):
                raise
            return "beyond repair, said so"
        if left := verify(self._bank):
            raise HistoryError(f"after a repair there is still {left}")
        with closing(MemoryBank(path=self._bank)) as bank:
            kept = texts_of(bank)
        lost = [f"{name} (namespace {namespace})" for namespace, name in self._state if (namespace, name) not in kept]
        if not _named(lost, done.lost) or any(self._state.get(key) != text for key, text in kept.items()):
            raise HistoryError(f"{lost} is gone after a repair that names {done.lost} of {found}")
        return "repaired, lost documents named" if lost else "repaired whole"


def _named(lost: Sequence[str], said: Sequence[str]) -> bool:
    """Whether repair named what is ``lost``. Where the flipped bit is one of an id, that id is all there is to name."""
    pairs = list(zip(sorted(set(lost) - set(said)), sorted(set(said) - set(lost)), strict=False))
    return len(lost) == len(said) and all(
        len(was) == len(named) and sum((ord(a) ^ ord(b)).bit_count() for a, b in zip(was, named, strict=True)) == 1
        for was, named in pairs
    )
