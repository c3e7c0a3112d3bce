"""Documents by age: what was taken in before a moment, and its removal."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .errors import InputError
from .memory_bank import MemoryBank

_HOURS = {"h": 1, "d": 24, "w": 24 * 7}
_AGE = re.compile(r"(\d{1,6})([hdw])")


@dataclass(frozen=True)
class AgedDocument:
    """A document and when it was taken in."""

    namespace: str
    document_id: str
    added_at: float
    """Seconds since 1970."""


def parse_age(age: str) -> datetime | timedelta:
    """Read an age such as ``12h``, ``30d`` or ``2w``, or a date such as ``2026-05-31`` or ``2026-05-31T12:00+02:00``.

    A date without a time is its midnight; without a zone it is meant in local time.

    Raises:
        InputError: it is neither.
    """
    if found := _AGE.fullmatch(age.strip()):
        return timedelta(hours=int(found[1]) * _HOURS[found[2]])
    try:
        return datetime.fromisoformat(age.strip())
    except ValueError as error:
        raise InputError(
            f"age {age!r} is none: give hours, days or weeks, such as 12h, 30d or 2w, or a date such as 2026-05-31"
        ) from error


def earliest(older_than: datetime | timedelta) -> float:
    """Return the moment before which a document is older, in seconds since 1970.

    Raises:
        InputError: the age is negative, or lies before what a calendar has.
    """
    if isinstance(older_than, timedelta) and older_than < timedelta():
        raise InputError(f"age {older_than} is negative: give how long ago, or a date")
    try:
        return (datetime.now(UTC) - older_than if isinstance(older_than, timedelta) else older_than).timestamp()
    except (OverflowError, OSError, ValueError) as error:
        raise InputError(f"age {older_than} is further back than dates go: give a shorter one") from error


def documents_before(
    bank: MemoryBank, before: float, namespace: str | None = None, document_ids: Collection[str] | None = None
) -> list[AgedDocument]:
    """Return what was taken in before a moment (seconds since 1970), oldest first; of all namespaces with ``None``."""
    rows = bank.rows(
        "SELECT namespace, document_id, added_at FROM documents WHERE added_at < ? ORDER BY added_at, document", before
    )
    return [
        AgedDocument(*row)
        for row in rows
        if namespace in (None, row[0]) and (document_ids is None or row[1] in document_ids)
    ]


def delete_before(bank: MemoryBank, before: float) -> int:
    """Remove what was taken in before a moment (seconds since 1970) from every namespace; return how many documents.

    Raises:
        BankError, StorageError: see :meth:`core.memory_bank.MemoryBank.delete`.
    """
    going = list(dict.fromkeys(document.namespace for document in documents_before(bank, before)))
    # The bytes are erased once, because that writes the whole catalogue anew.
    removed = sum(len(bank.delete(namespace, before=before, compact=False)) for namespace in going)
    if going:
        bank.compact()
    return removed
