"""Random operations on a bank, what each leads to, and whether a bank holds what it must after one was cut short."""

import hashlib
import random
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...catalogue import CATALOGUE
from ...ingest import Document
from ...kv_cache import Slots
from ...memory_bank import EncodedChunk, MemoryBank
from ...verification import repair, verify
from ..stand_in import StandInEngine, reference

Kind = Literal["migrate", "ingest", "replace", "delete document", "delete namespace", "compact", "repair"]
State = Mapping[tuple[str, str], str]
"""The text of each document, by namespace and document id."""

_NAMESPACES = ("a", "b", "c")
_WORDS = (
    "slot",
    "shard",
    "gate",
    "chunk",
    "query",
    "bank",
    "token",
    "layer",
    "reader",
    "scan",
    "note",
    "recall",
    "key",
)
_ERASING = ("delete document", "delete namespace", "compact")


class HistoryError(AssertionError):
    """A bank does not hold what it must."""


@dataclass(frozen=True)
class Operation:
    """One thing that a user does to a bank."""

    kind: Kind
    namespace: str = ""
    documents: Mapping[str, str] = field(default_factory=dict)
    """Text by id; of a deletion, empty texts."""

    def after(self, state: State) -> State:
        """Return what a bank that held ``state`` holds when this is done."""
        texts = {(self.namespace, name): text for name, text in self.documents.items()}
        if self.kind.startswith("delete"):
            return {key: text for key, text in state.items() if key not in texts}
        return {**state, **texts}


def plan(kind: Kind, state: State, dice: random.Random) -> Operation:
    """Draw an operation of ``kind``, or an ingest where ``state`` has nothing to do that to."""
    if kind in ("migrate", "compact", "repair"):
        return Operation(kind)
    held = sorted(state)
    if kind == "ingest" or not held:
        names = [f"d{dice.randrange(10**6)}" for _ in range(dice.choice((1, 2, 4)))]
        return Operation("ingest", dice.choice(_NAMESPACES), {name: _text(dice) for name in names})
    namespace, name = dice.choice(held)
    if kind == "replace":
        return Operation(kind, namespace, {name: _text(dice)})
    gone = [n for ns, n in held if ns == namespace] if kind == "delete namespace" else [name]
    return Operation(kind, namespace, dict.fromkeys(gone, ""))


def _text(dice: random.Random) -> str:
    """Draw a text of a few chunks; paragraphs come again in other texts, whose chunks are then shared."""
    paragraphs = []
    for _ in range(dice.randrange(1, 9)):
        drawn = random.Random(dice.randrange(40)) if dice.random() < 0.3 else dice
        paragraphs.append(" ".join(f"{drawn.choice(_WORDS)}{drawn.randrange(100)}" for _ in range(60)))
    return "\n\n".join(paragraphs)


def perform(operation: Operation, place: Path, seed: int = 0) -> None:
    """Do an operation on the bank in directory ``place``, as a user of the library would."""
    if operation.kind == "repair":
        damage(place, random.Random(seed))
        repair(place, lambda: StandInEngine(place))
        return
    with StandInEngine(place) as engine:  # this alone is a migration, where there is something to migrate
        if operation.kind in ("ingest", "replace"):
            engine.add([Document(n, text) for n, text in operation.documents.items()], operation.namespace)
        elif operation.kind == "delete namespace":
            engine.delete(operation.namespace)
        elif operation.kind == "delete document":
            engine.delete(operation.namespace, list(operation.documents))
        elif operation.kind == "compact":
            engine.bank.compact()


def damage(place: Path, dice: random.Random) -> None:
    """Harm what the kept text can mend: a shard, or an index of the catalogue."""
    shards = sorted((place / "slots").glob("*.safetensors"))
    if shards and dice.random() < 0.6:
        shard = dice.choice(shards)
        data = bytearray(shard.read_bytes())
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        shard.write_bytes(data)
    else:
        with closing(sqlite3.connect(place / CATALOGUE, isolation_level=None)) as database:
            database.execute("DROP INDEX IF EXISTS passages_of_chunk")


class History:
    """What a bank went through: what it must hold now, and what must be in no file of it."""

    def __init__(self, pristine: Path, place: Path) -> None:
        """Begin with what the bank in directory ``pristine`` holds; the bank that lives on is in ``place``."""
        self._place = place
        self._slots: dict[str, Slots] = {}
        self._seen: set[str] = set()
        with closing(MemoryBank(path=pristine)) as bank:
            self.state: State = texts_of(bank)
            for (chunk_id,) in bank.rows("SELECT chunk_id FROM chunks"):
                self._slots[chunk_id] = bank.slots(chunk_id)

    def check(self, acknowledged: Sequence[Operation], cut_short: Operation | None) -> None:
        """Compare the bank with what was ``acknowledged``; of what was ``cut_short`` each document is old or new.

        What is found is what must be there from then on.

        Raises:
            HistoryError: something is lost, half there, come back or damaged.
        """
        before = self.state
        for operation in acknowledged:
            before = operation.after(before)
        after = cut_short.after(before) if cut_short else before
        if cut_short and cut_short.kind == "repair":
            repair(self._place, lambda: StandInEngine(self._place))
        with closing(MemoryBank(path=self._place)) as bank:
            found = texts_of(bank)
            for key in {**before, **after, **found}:
                if found.get(key) not in (before.get(key), after.get(key)):
                    raise HistoryError(f"document {key} is {str(found.get(key))[:60]!r} after {_said(cut_short)}")
            if cut_short and cut_short.kind == "delete namespace" and found not in (before, after):
                raise HistoryError(f"half of a namespace is there after {_said(cut_short)}")
            vectors = self._check_chunks(bank)
            for namespace in sorted({namespace for namespace, _ in found}):
                _check_index(bank, namespace, vectors)
        wrong = [d for d in verify(self._place) if "is of no commit" not in d.what or not cut_short]
        if wrong:
            raise HistoryError(f"damaged after {_said(cut_short)}: {wrong}")
        last = acknowledged[-1].kind if acknowledged else ""
        # Another operation begun after an erasure may have written again, or not yet erased what it deletes.
        if last in _ERASING and (not cut_short or cut_short.kind == "compact"):
            self._check_erased(self._seen - vectors.keys())
        self.state, self._seen = found, self._seen | vectors.keys()

    def _check_chunks(self, bank: MemoryBank) -> dict[str, NDArray[np.float32]]:
        """See that each chunk is what its text gives; return the embeddings of all."""
        vectors = {}
        for (chunk_id,) in bank.rows("SELECT chunk_id FROM chunks"):
            chunk = bank.chunk(chunk_id)
            slots, embeddings = reference(chunk.text)
            if not _equal(chunk, slots) and not (chunk_id in self._slots and _equal(chunk, self._slots[chunk_id])):
                raise HistoryError(f"chunk {chunk_id} has other slots than its text gives")
            if chunk_id not in self._slots and not np.array_equal(chunk.embeddings, embeddings):
                raise HistoryError(f"chunk {chunk_id} has other embeddings than its text gives")
            vectors[chunk_id] = chunk.embeddings
        return vectors

    def _check_erased(self, chunk_ids: set[str]) -> None:
        for file in self._place.rglob("*"):
            held = file.read_bytes() if file.is_file() else b""
            if left := [chunk_id for chunk_id in chunk_ids if chunk_id.encode() in held]:
                raise HistoryError(f"{file.name} still holds chunks {left}, which were deleted")


def _equal(chunk: EncodedChunk, slots: Slots) -> bool:
    return chunk.slots is not None and all(
        torch.equal(getattr(chunk.slots, part), getattr(slots, part)) for part in ("keys", "values", "positions")
    )


def texts_of(bank: MemoryBank) -> dict[tuple[str, str], str]:
    """Read every document; where its text does not have the hash it should, it is half a document."""
    texts = {}
    for summary in bank.summaries():
        for record in bank.records(summary.namespace):
            text = "".join(bank.text(chunk_id) for chunk_id, _ in record.placements)
            ends = [0, *(span.end for _, span in record.placements)]
            whole = [span.start for _, span in record.placements] == ends[:-1] and ends[-1] == len(text)
            hashed = len(record.sha256) != 64 or hashlib.sha256(text.encode()).hexdigest() == record.sha256
            if not whole or not hashed:
                raise HistoryError(f"document {record.document_id!r} of namespace {summary.namespace!r} is not whole")
            texts[summary.namespace, record.document_id] = text
    return texts


def _check_index(bank: MemoryBank, namespace: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
    index = bank.index(namespace)
    wanted: dict[str, None] = defaultdict()
    for record in bank.records(namespace):
        wanted |= dict.fromkeys(chunk_id for chunk_id, _ in record.placements)
    if [chunk.chunk_id for chunk in index.chunks] != list(wanted):
        raise HistoryError(f"the index of namespace {namespace!r} lists other chunks than its documents have")
    for row, chunk in enumerate(index.chunks):
        nearest = index.similarities(vectors[chunk.chunk_id], None)
        if nearest[row] < 0.999:
            raise HistoryError(f"chunk {chunk.chunk_id} is not found by its own embeddings")


def _said(operation: Operation | None) -> str:
    return f"{operation.kind} of {operation.namespace} {list(operation.documents)}" if operation else "all was done"
