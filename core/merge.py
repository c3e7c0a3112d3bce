"""Takes the documents of banks that were built elsewhere into a bank; slots are copied, not made again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from .bank_copy import copy_documents, renamed
from .catalogue import CATALOGUE
from .errors import BankMismatchError, ConflictError, InputError
from .limits import NamespaceUse
from .memory_bank import DocumentRecord, MemoryBank
from .verification import verified

OnConflict = Literal["error", "keep", "replace"]
"""What becomes of a document whose id is taken by other text: nothing is written at all, the one that is there stays,
or the one that comes takes its place. Of several sources the first is there, and the last comes."""

ON_CONFLICT: tuple[OnConflict, ...] = ("error", "keep", "replace")


@dataclass(frozen=True)
class MergeProgress:
    """How far a merge has come."""

    document_id: str
    documents: int
    total: int


@dataclass(frozen=True)
class MergeReport:
    """What a merge did."""

    documents: int
    """That were copied, those that took another's place included."""
    unchanged: int
    """That the bank held already, word for word; its metadata stays as well."""
    kept: int
    """That stayed because other text had their id."""
    replaced: int
    chunks: int
    """That were copied."""


@dataclass(frozen=True)
class _Coming:
    source: MemoryBank
    namespace: str
    record: DocumentRecord


_Plan = dict[tuple[str, str], _Coming]
"""By namespace and document id in the target, in reading order."""


def merge(
    path: Path,
    sources: Sequence[Path],
    on_conflict: OnConflict = "error",
    progress: Callable[[MergeProgress], None] = lambda _: None,
    *,
    namespace: str | None = None,
) -> MergeReport:
    """Take all documents of ``sources`` into the bank in directory ``path``, which is made if it is not there.

    Each source is read to the last byte first. Run it again after an interrupt and it goes on: what was committed
    stays, a document whole or not at all.

    Args:
        namespace: takes all documents in place of their own namespaces.

    Raises:
        InputError: there is no source, or one is the bank itself.
        MissingBankError: a source is not there.
        BankMismatchError: the banks were made with different models or settings.
        ConflictError: other text has a document's id; nothing was written.
        LimitError: a namespace would grow past its limit; nothing was written.
        BankError: a source is damaged, or another process is writing to one of the banks.
        StorageError: the disk refused; all that was committed stays.
    """
    paths = {source.resolve(): source for source in sources}
    if not paths:
        raise InputError("no source was named: give the directories of the banks to merge")
    if path.resolve() in paths:
        raise InputError(f"bank {path} cannot be merged into itself: give other banks as sources")
    with ExitStack() as opened:
        banks = [opened.enter_context(verified(source)) for source in paths.values()]
        _require_alike(path, banks)
        plan, kept = _planned(banks, on_conflict, namespace)
        target = opened.enter_context(closing(MemoryBank(banks[0].fingerprint, path)))
        opened.enter_context(target.writing())
        return _carry_out(plan, kept, target, on_conflict, progress)


def _require_alike(path: Path, banks: Sequence[MemoryBank]) -> None:
    with ExitStack() as opened:
        exists = (path / CATALOGUE).is_file()
        first = opened.enter_context(closing(MemoryBank(path=path))) if exists else banks[0]
        for bank in banks:
            if differences := first.fingerprint.differences(bank.fingerprint):
                raise BankMismatchError(
                    f"bank {first.path} (model {first.fingerprint.model!r}) and bank {bank.path} (model "
                    f"{bank.fingerprint.model!r}) were made differently: the first has {'; '.join(differences)}. Make "
                    f"one like the other with 'compressed-memory reencode --bank {bank.path} --out NEW'"
                )


def _planned(banks: Sequence[MemoryBank], on_conflict: OnConflict, namespace: str | None) -> tuple[_Plan, int]:
    """Say which document comes from which source, and how many stay behind because another source has their id."""
    plan: _Plan = {}
    kept = 0
    for bank in banks:
        for summary in bank.summaries():
            place = summary.namespace if namespace is None else namespace
            for record in bank.records(summary.namespace):
                key = (place, record.document_id)
                if (earlier := plan.get(key)) and earlier.record.sha256 != record.sha256:
                    if on_conflict == "error":
                        raise _conflict(key, earlier.source, bank)
                    kept += on_conflict == "keep"
                if earlier is None or (earlier.record.sha256 != record.sha256 and on_conflict == "replace"):
                    plan.pop(key, None)
                    plan[key] = _Coming(bank, summary.namespace, record)
    return plan, kept


def _conflict(key: tuple[str, str], one: MemoryBank, other: MemoryBank) -> ConflictError:
    return ConflictError(
        f"document {key[1]!r} of namespace {key[0]!r} is in {one.path} and in {other.path} with other text. Nothing "
        "was written: say --on-conflict keep to let the first stay, or replace to put the second in its place"
    )


def _carry_out(
    plan: _Plan,
    kept: int,
    target: MemoryBank,
    on_conflict: OnConflict,
    progress: Callable[[MergeProgress], None],
) -> MergeReport:
    coming: _Plan = {}
    unchanged = replaced = 0
    for key, planned in plan.items():
        held = target.document_hash(*key)
        conflict = held not in (None, planned.record.sha256)
        if conflict and on_conflict == "error":
            raise _conflict(key, target, planned.source)
        unchanged += held == planned.record.sha256
        kept += conflict and on_conflict == "keep"
        replaced += conflict and on_conflict == "replace"
        if held is None or (conflict and on_conflict == "replace"):
            coming[key] = planned
    _require_room(coming, target)
    done = chunks = 0

    def copied(record: DocumentRecord) -> None:
        nonlocal done
        done += 1
        progress(MergeProgress(record.document_id, done, len(coming)))

    for (place, source, namespace), group in groupby(
        coming.items(), key=lambda item: (item[0][0], item[1].source, item[1].namespace)
    ):
        records = [planned.record for _, planned in group]
        chunks += copy_documents(source, target, namespace, records, into=place, copied=copied)
    return MergeReport(len(coming), unchanged, kept, replaced, chunks)


def _require_room(coming: _Plan, target: MemoryBank) -> None:
    for place, group in groupby(sorted(coming.items(), key=lambda item: item[0][0]), key=lambda item: item[0][0]):
        use = NamespaceUse(target, place)
        for (_, document_id), planned in group if use.limited else ():
            use.put(document_id, _sizes(planned, place))


def _sizes(planned: _Coming, place: str) -> Iterator[tuple[str, int]]:
    there = renamed(planned.source, planned.record, planned.namespace, place).placements
    for (old, _), (name, _) in zip(planned.record.placements, there, strict=True):
        yield name, planned.source.rows("SELECT tokens FROM chunks WHERE chunk_id = ?", old)[0][0]
