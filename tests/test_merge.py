"""Documents of banks that were built elsewhere arrive to the bit, or nothing does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core import bank_copy
from core.errors import BankError, BankMismatchError, ConflictError, InputError, LimitError, MissingBankError
from core.limits import set_limit
from core.memory_bank import DocumentRecord, MemoryBank
from core.merge import MergeProgress, merge
from core.settings import NamespaceLimit
from core.verification import verify

from .test_cli import assert_refused, cli  # noqa: F401 - a fixture
from .test_deletion import Killed, killing
from .test_memory_bank import FINGERPRINT, encoded, record


def built(path: Path, *documents: tuple[str, str, list[str]], ratio: int = 4) -> Path:
    """Make a bank of (namespace, document id, texts)."""
    bank = MemoryBank(FINGERPRINT.model_copy(update={"ratio": ratio}), path)
    for namespace, name, texts in documents:
        chunks = [encoded(text, namespace, seed=len(text)) for text in texts]
        held = bank.stored_chunks([chunk.chunk_id for chunk in chunks])
        said = record(name, *chunks)
        dated = DocumentRecord(name, said.sha256, said.placements, {"from": path.name}, 1000.0 + len(texts))
        bank.commit(namespace, [chunk for chunk in chunks if chunk.chunk_id not in held], [dated])
    bank.close()
    return path


def digest(path: Path) -> str:
    bank = MemoryBank(path=path)
    try:
        return bank.digest()
    finally:
        bank.close()


ONE = [("a", "x", ["one", "three"]), ("b", "x", ["fifth"])]
TWO = [("a", "y", ["one", "seven..", "nine....."]), ("c", "z", ["eleven....."])]


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [built(tmp_path / "one", *ONE), built(tmp_path / "two", *TWO)]


def test_merged_banks_are_the_bank_that_was_built_at_once(sources: list[Path], tmp_path: Path) -> None:
    heard: list[MergeProgress] = []
    report = merge(tmp_path / "all", sources, progress=heard.append)
    assert (report.documents, report.unchanged, report.chunks) == (4, 0, 6)
    assert [(step.document_id, step.documents, step.total) for step in heard] == [
        ("x", 1, 4),
        ("x", 2, 4),
        ("y", 3, 4),
        ("z", 4, 4),
    ]
    merged, at_once = MemoryBank(path=tmp_path / "all"), MemoryBank(FINGERPRINT)
    for namespace, name, texts in (*ONE, *TWO):
        chunks = [encoded(text, namespace, seed=len(text)) for text in texts]
        new = [chunk for chunk in chunks if not at_once.stored_chunks([chunk.chunk_id])]
        metadata: dict[str, object] = {"from": "one" if (namespace, name, texts) in ONE else "two"}
        at_once.commit(
            namespace,
            new,
            [DocumentRecord(name, record(name, *chunks).sha256, record(name, *chunks).placements, metadata)],
        )
    assert merged.digest() == at_once.digest()
    assert [r.added_at for r in merged.records("a")] == [1002.0, 1003.0]
    merged.close()
    assert verify(tmp_path / "all") == []


def test_merging_again_copies_nothing_and_what_is_there_stays(sources: list[Path], tmp_path: Path) -> None:
    mine = built(tmp_path / "mine", ("a", "mine", ["thirteen....."]), ("a", "x", ["one", "three"]))
    merge(mine, sources)
    before, shards = digest(mine), set((mine / "slots").iterdir())
    report = merge(mine, [*sources, sources[0]])
    assert (report.documents, report.unchanged, report.chunks) == (0, 4, 0)
    assert (digest(mine), set((mine / "slots").iterdir())) == (before, shards)
    bank = MemoryBank(path=mine)
    assert bank.document_metadata("a", "x") == {"from": "mine"}
    assert [name for name, *_ in bank.documents("a")] == ["mine", "x", "y"]


def test_other_text_under_an_id_is_an_error_before_anything_is_written(sources: list[Path], tmp_path: Path) -> None:
    mine = built(tmp_path / "mine", ("c", "z", ["other text"]))
    before = digest(mine)
    with pytest.raises(ConflictError, match=r"document 'z' of namespace 'c' is in .*mine and in .*two with other text"):
        merge(mine, sources)
    assert digest(mine) == before
    with pytest.raises(ConflictError, match="document 'x' of namespace 'b'"):
        merge(tmp_path / "new", [*sources, built(tmp_path / "third", ("b", "x", ["other text"]))])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("choice", ["keep", "replace"])
def test_a_conflict_is_resolved_as_was_said(choice: str, sources: list[Path], tmp_path: Path) -> None:
    mine = built(tmp_path / "mine", ("a", "y", ["mine"]))
    third = built(tmp_path / "third", ("c", "z", ["third"]))
    for _ in range(2):
        report = merge(mine, [*sources, third], choice)
        bank = MemoryBank(path=mine)
        texts = {
            (ns, d): bank.text(c)
            for ns in "ac"
            for d, c in ((r.document_id, r.placements[0][0]) for r in bank.records(ns))
        }
        kept = choice == "keep"
        assert texts["a", "y"] == ("mine" if kept else "one")
        assert texts["c", "z"] == ("eleven....." if kept else "third")
        assert report.kept == (2 if kept else 0)
        assert bank.stored_chunks([encoded("mine").chunk_id]) == ({encoded("mine").chunk_id} if kept else set())
        bank.close()
    assert report.replaced == 0
    assert verify(mine) == []


def test_banks_that_were_made_differently_are_both_named(sources: list[Path], tmp_path: Path) -> None:
    other = built(tmp_path / "other", ("a", "q", ["q"]), ratio=8)
    with pytest.raises(BankMismatchError, match=r"bank .*one .* and bank .*other .*: the first has ratio 4, not 8"):
        merge(tmp_path / "new", [*sources, other])
    assert not (tmp_path / "new").exists()
    with pytest.raises(BankMismatchError, match=r"bank .*other .* and bank .*one .*: the first has ratio 8, not 4"):
        merge(other, sources)


def test_a_damaged_source_is_named_and_nothing_is_written(sources: list[Path], tmp_path: Path) -> None:
    shard = min((sources[1] / "slots").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    with pytest.raises(BankError, match=rf"bank .*two is damaged in 1 places.*{shard.name}.*repair"):
        merge(tmp_path / "new", sources)
    assert not (tmp_path / "new").exists()
    with pytest.raises(MissingBankError):
        merge(tmp_path / "new", [tmp_path / "nothing"])
    for mistaken in ([], [tmp_path / "one" / ".." / "one"]):
        with pytest.raises(InputError):
            merge(tmp_path / "one", mistaken)


def test_a_source_is_not_written_meanwhile(sources: list[Path], tmp_path: Path) -> None:
    writer = MemoryBank(path=sources[0])

    def write(step: MergeProgress) -> None:
        with pytest.raises(BankError, match="being written by another process"):
            writer.delete("a", ["x"])

    assert merge(tmp_path / "new", sources, progress=write).documents == 4


def test_a_limit_refuses_before_anything_is_written(sources: list[Path], tmp_path: Path) -> None:
    mine = built(tmp_path / "mine", ("a", "x", ["one", "three"]))
    bank, before = MemoryBank(path=mine), digest(mine)
    set_limit(bank, NamespaceLimit(tokens=19), "a")
    with pytest.raises(LimitError, match="namespace 'a' may hold 19 tokens, and document 'y' would make it 20"):
        merge(mine, sources)
    assert bank.digest() == before
    set_limit(bank, NamespaceLimit(tokens=20), "a")  # "one" is there and counts once
    assert merge(mine, sources).documents == 3


POINTS = [(MemoryBank, "commit"), (MemoryBank, "_insert_document"), (MemoryBank, "_insert_chunk")]


@pytest.mark.parametrize(("target", "name"), POINTS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_merge_that_is_killed_anywhere_goes_on(
    target: type, name: str, at: int, sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_copy, "_COMMIT_CHUNKS", 1)
    whole = merge(tmp_path / "whole", sources)
    with pytest.MonkeyPatch.context() as patched:
        calls: Callable[[], int] = killing(target, name, at, patched)
        try:
            merge(tmp_path / "new", sources)
        except Killed:
            opened = MemoryBank(path=tmp_path / "new")
            left = sum(summary.documents for summary in opened.summaries())
            opened.close()
            assert merge(tmp_path / "new", sources).documents == whole.documents - left
        else:
            assert calls() < at
    assert digest(tmp_path / "new") == digest(tmp_path / "whole")
    assert verify(tmp_path / "new") == []


def test_all_documents_can_go_into_one_namespace(sources: list[Path], tmp_path: Path) -> None:
    merge(tmp_path / "new", sources[1:], namespace="n")
    bank = MemoryBank(path=tmp_path / "new")
    assert [name for name, *_ in bank.documents("n")] == ["y", "z"]
    there, here = encoded("seven..", seed=7), encoded("seven..", "n", seed=7)
    assert there.slots is not None
    assert torch.equal(bank.slots(here.chunk_id).keys, there.slots.keys)
    bank.close()
    assert verify(tmp_path / "new") == []


def test_on_the_command_line(cli, sources: list[Path], tmp_path: Path) -> None:  # noqa: F811
    new = tmp_path / "new"
    ran = cli("merge", *sources, "--bank", new)
    assert ran.code == 0
    assert "4 documents taken in (0 in place of others), 6 chunks; 0 were there already" in ran.error
    third = built(tmp_path / "third", ("c", "z", ["third"]))
    assert_refused(cli("merge", third, "--bank", new), "document 'z' of namespace 'c'", "--on-conflict keep")
    assert "1 in place of others" in cli("merge", third, "--bank", new, "--on-conflict", "replace").error
    assert_refused(cli("merge", third, "--bank", new, "--on-conflict", "maybe"), "'maybe' is none of error, keep")
    assert_refused(cli("merge", tmp_path / "none", "--bank", new), "no memory bank at")
