"""What is old goes by when it was taken in; what is young stays."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import BankError, InputError
from core.memory_bank import DocumentRecord, MemoryBank
from core.retention import delete_before, documents_before, earliest, parse_age

from .test_cli import assert_refused, cli  # noqa: F401 - a fixture
from .test_deletion import found
from .test_memory_bank import FINGERPRINT, EncodedChunk, encoded, record

DAY = 86400.0


def aged(bank: MemoryBank, namespace: str, document_id: str, days: float) -> EncodedChunk:
    chunk = encoded(f"{document_id} of {namespace}, " * 9, namespace, seed=int(days))
    said = record(document_id, chunk)
    bank.commit(
        namespace,
        [chunk],
        [DocumentRecord(document_id, said.sha256, said.placements, {}, time.time() - days * DAY)],
    )
    return chunk


@pytest.fixture
def bank(tmp_path: Path) -> MemoryBank:
    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")
    for namespace, document_id, days in (("a", "new", 1), ("a", "old", 40), ("b", "older", 50), ("default", "x", 20)):
        aged(bank, namespace, document_id, days)
    return bank


def held(bank: MemoryBank) -> list[str]:
    return [document for summary in bank.summaries() for document, *_ in bank.documents(summary.namespace)]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), (" 2w ", timedelta(weeks=2)), ("0h", timedelta())],
)
def test_ages(said: str, meant: timedelta) -> None:
    assert parse_age(said) == meant
    assert earliest(meant) == pytest.approx(time.time() - meant.total_seconds(), abs=5)


def test_dates_are_local_unless_they_name_a_zone() -> None:
    assert earliest(parse_age("2026-05-31")) == datetime(2026, 5, 31).timestamp()
    assert earliest(parse_age("2026-05-31T12:00+02:00")) == datetime(2026, 5, 31, 10, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("said", ["", "30", "d", "-3d", "3 months", "2026-13-01", "1.5d", "yesterday"])
def test_what_is_no_age_is_named(said: str) -> None:
    with pytest.raises(InputError, match=f"age {said!r} is none: give hours, days or weeks"):
        parse_age(said)


def test_ages_that_no_calendar_has() -> None:
    with pytest.raises(InputError, match="further back than dates go"):
        earliest(parse_age("999999w"))
    with pytest.raises(InputError, match="negative"):
        earliest(timedelta(days=-1))


def test_the_old_goes_from_one_namespace_or_from_all(bank: MemoryBank, tmp_path: Path) -> None:
    month = time.time() - 30 * DAY
    assert [d.document_id for d in documents_before(bank, month)] == ["older", "old"]
    assert bank.delete("a", before=month) == ["old"]
    assert held(bank) == ["new", "older", "x"]
    assert delete_before(bank, month) == 1
    assert held(bank) == ["new", "x"]
    assert found(tmp_path, encoded("older of b, " * 9, "b", seed=50)) == []
    assert delete_before(bank, month) == 0
    assert bank.delete("default", ["x"], before=month) == []
    with pytest.raises(BankError, match="no document 'y'"):
        bank.delete("default", ["y"], before=month)
    assert bank.delete("default", ["x"], before=time.time() - 19 * DAY) == ["x"]


def test_a_document_that_was_replaced_is_as_old_as_its_text(bank: MemoryBank) -> None:
    new = encoded("new text", seed=3)
    bank.commit("a", [new], [record("old", new)])
    assert delete_before(bank, time.time() - 30 * DAY) == 1
    assert held(bank) == ["new", "old", "x"]


def test_on_the_command_line(cli, bank: MemoryBank, tmp_path: Path) -> None:  # noqa: F811
    place = ("--bank", tmp_path / "bank")
    listed = cli("delete", *place, "--older-than", "30d", "--dry-run")
    assert [line.split()[1:] for line in listed.out.splitlines()] == [["b", "older"], ["a", "old"]]
    assert "2 documents would be removed; nothing was" in listed.error
    listed = cli("delete", *place, "--namespace", "a", "--dry-run")
    assert [line.split()[1:] for line in listed.out.splitlines()] == [["a", "old"], ["a", "new"]]
    assert len(held(bank)) == 4
    ran = cli("delete", *place, "--older-than", "30d", "--namespace", "a")
    assert "Removed from namespace a: what is older than 30d, 1 documents." in ran.error
    ran = cli("delete", *place, "--older-than", "2w")
    assert "Removed from every namespace: what is older than 2w, 2 documents." in ran.error
    assert held(bank) == ["new"]
    assert_refused(cli("delete", *place, "--older-than", "soon"), "age 'soon' is none")
    assert_refused(cli("delete", *place, "--namespace", "q", "--older-than", "1h"), "no namespace 'q'")
    assert_refused(cli("delete", *place, "--namespace", "q", "--dry-run"), "no namespace 'q'")
    assert_refused(cli("delete", *place, "--document", "q", "--dry-run", "--namespace", "a"), "no document 'q'")
