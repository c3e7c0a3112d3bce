"""What a run has found so far: one JSON line a question, written as soon as it is answered, so that a run can go on."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError
from .cost import Cost
from .metrics import AnswerScores

RECORDS, SETTINGS = "records.jsonl", "run.json"


class RunSettings(BaseModel):
    """What a recorded result follows from. A run goes on only where all of it is the same."""

    model_config = ConfigDict(frozen=True)

    data: tuple[str, ...]
    """Name and SHA-256 of each file of questions."""
    pool: tuple[str, ...]
    seed: int
    shared_haystack: bool
    questions: tuple[int, int] | None
    """First and number, where they shape what is asked: of a shared haystack."""
    gap: int | None
    absent: bool = False
    withheld: bool = False
    model: str
    weights: str
    """Fingerprint of the base model and each adapter."""
    embedder: str
    device: str
    dtype: str


class Record(BaseModel):
    """One question put to one system in a haystack of one size."""

    model_config = ConfigDict(frozen=True)

    data: str
    """File of the question, without its endings."""
    system: str
    documents: int
    tokens: int
    """Of the haystack as one text, counted by the base model."""
    question_id: str
    question: str
    answers: tuple[str, ...]
    prediction: str
    scores: AnswerScores
    cited: int
    """Spans that were cited."""
    source_precision: float | None
    """Share of them that hold a supporting sentence; ``None`` where none was cited."""
    gold_read: float | None
    """Share of the gold documents that the model was shown; ``None`` for systems that show it all."""
    taking_in: Cost
    """What was done once for the text; of a shared haystack, the same for all questions."""
    asking: Cost
    start_bytes: int
    """Memory held before, models included."""
    peak_bytes: int
    """Most memory held at once, taking in and asking; of a shared haystack, asking only."""
    failed: str | None = None
    """Why there is no prediction; it scores 0."""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What a run does only once."""
        return self.data, self.system, self.documents, self.question_id


class Records:
    """The folder of one run."""

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        """Open the run in ``folder``, or begin it there.

        Raises:
            InputError: the folder holds a run of other settings, or what is there cannot be read.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / RECORDS
        held = folder / SETTINGS
        if held.is_file():
            _check_same(held, settings)
        elif self._file.exists():
            raise InputError(f"{self._file} has no {SETTINGS} beside it: name another folder with --out")
        else:
            held.write_text(settings.model_dump_json(indent=2) + "\n")
        self.all = list(self._read())

    def add(self, record: Record) -> None:
        """Write one record so that it survives whatever comes."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.all.append(record)

    def _read(self) -> Iterator[Record]:
        if not self._file.is_file():
            return
        whole = self._file.read_bytes()
        complete = whole[: whole.rfind(b"\n") + 1]
        if complete != whole:  # the last line was cut off when the run ended: it is done again
            self._file.write_bytes(complete)
        for number, line in enumerate(complete.decode().splitlines(), 1):
            try:
                yield Record.model_validate_json(line)
            except ValidationError as error:
                raise InputError(
                    f"{self._file} line {number} is no result of this release: name another folder with --out"
                ) from error


def _check_same(held: Path, settings: RunSettings) -> None:
    try:
        before = RunSettings.model_validate_json(held.read_text())
    except ValidationError as error:
        raise InputError(f"{held} cannot be read: name another folder with --out") from error
    pairs = ((name, getattr(before, name), getattr(settings, name)) for name in RunSettings.model_fields)
    if differences := [f"{name} {old!r}, now {new!r}" for name, old, new in pairs if old != new]:
        raise InputError(
            f"{held.parent} holds results of other settings: {'; '.join(differences)}. Run with the same, or name "
            "another folder with --out"
        )
