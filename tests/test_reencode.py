"""A bank for another model or ratio, from kept text, is the bank that would have been made with it."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from core.backbone import Backbone
from core.embedder import Embedder
from core.engine import Engine
from core.errors import BankError, BankMismatchError, InputError, MissingBankError
from core.ingest import Document, Progress
from core.memory_bank import MemoryBank
from core.reencode import open_like, reencode, text_characters
from core.settings import CompressionSettings
from core.verification import verify

from . import tiny_models
from .test_cli import assert_refused, cli  # noqa: F401 - a fixture
from .test_verification import rewritten

DOCUMENTS = [
    Document(name, topics[name][:600], {"n": len(name)}, 1000.0 + len(name)) for name in ("break", "pass", "del")
]
SETTINGS = CompressionSettings(chunk_tokens=64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model in a folder, as a user has one."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_models.causal_lm("llama", seed=1).save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


def made(model: Path, path: Path, settings: CompressionSettings = SETTINGS) -> Path:
    with Engine.open(path, model=str(model), compression=settings) as engine:
        engine.add(DOCUMENTS[:2], "a")
        engine.add(DOCUMENTS[1:], "b")
    return path


@pytest.fixture
def bank(model: Path, tmp_path: Path) -> Path:
    return made(model, tmp_path / "bank")


def test_it_is_the_bank_that_the_other_ratio_makes(bank: Path, model: Path, tmp_path: Path) -> None:
    heard: list[Progress] = []
    with open_like(bank, tmp_path / "new", ratio=8) as engine:
        assert reencode(bank, engine, heard.append) == 4
        assert reencode(bank, engine) == 0
        wanted = made(model, tmp_path / "wanted", CompressionSettings(chunk_tokens=64, ratio=8))
        assert engine.bank.digest() == MemoryBank(path=wanted).digest()
        assert [r.added_at for r in engine.bank.records("b")] == [1004.0, 1003.0]
    total = text_characters(MemoryBank(path=bank))
    assert heard[-1].characters == total
    assert [step.characters for step in heard] == sorted(step.characters for step in heard)
    assert verify(tmp_path / "new") == []


def test_another_model_and_slots_for_a_bank_of_text(model: Path, tmp_path: Path, default_embedder: Embedder) -> None:
    text = made(model, tmp_path / "text", CompressionSettings(chunk_tokens=64, encode=False))
    other: Backbone = tiny_models.backbone("llama", seed=2)
    with Engine(other, default_embedder, SETTINGS, tmp_path / "new") as engine:
        assert reencode(text, engine) == 4
        assert all(summary.slots > 0 for summary in engine.bank.summaries())
        assert engine.bank.fingerprint.weights != MemoryBank(path=text).fingerprint.weights


def test_it_goes_on_after_an_interrupt(bank: Path, tmp_path: Path) -> None:
    def interrupt(step: Progress) -> Iterator[None]:
        if step.document_id == "del":
            raise KeyboardInterrupt

    with open_like(bank, tmp_path / "whole", ratio=8) as engine:
        reencode(bank, engine)
        whole = engine.bank.digest()
    with open_like(bank, tmp_path / "new", ratio=8) as engine:
        with pytest.raises(KeyboardInterrupt):
            reencode(bank, engine, interrupt)
        assert [s.namespace for s in engine.bank.summaries()] == ["a"]
    with open_like(bank, tmp_path / "new", ratio=8) as engine:
        assert reencode(bank, engine) == 2
        assert engine.bank.digest() == whole


def test_changed_text_is_not_encoded(bank: Path, tmp_path: Path) -> None:
    wrong = zlib.compress(b"other words").hex()
    rewritten(bank, f"UPDATE chunks SET text = x'{wrong}' WHERE rowid = 1")
    with (
        open_like(bank, tmp_path / "new", ratio=8) as engine,
        pytest.raises(BankError, match=r"the text of document '.*' of namespace 'a' was changed.*repair"),
    ):
        reencode(bank, engine)


def test_places_that_cannot_be_used(bank: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="into itself"):
        open_like(bank, bank, ratio=8)
    with pytest.raises(MissingBankError):
        open_like(tmp_path / "none", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    open_like(bank, tmp_path / "new", ratio=8).close()
    with pytest.raises(BankMismatchError, match="ratio 8, not 2"):
        open_like(bank, tmp_path / "new", ratio=2)


def test_on_the_command_line(cli, bank: Path, tmp_path: Path) -> None:  # noqa: F811
    new = tmp_path / "new"
    ran = cli("reencode", "--bank", bank, "--out", new, "--ratio", "8")
    assert ran.code == 0
    assert "4 documents encoded again" in ran.error
    assert "0 documents encoded again" in cli("reencode", "--bank", bank, "--out", new, "--ratio", "8").error
    assert_refused(cli("reencode", "--bank", bank, "--out", new, "--ratio", "2"), "ratio 8, not 2")
    assert_refused(cli("reencode", "--bank", bank, "--out", bank), "into itself")
    assert_refused(cli("reencode", "--bank", tmp_path / "none", "--out", new), "no memory bank")
    assert_refused(cli("reencode", "--bank", bank, "--out", tmp_path / "x", "--ratio", "3"), "ratio=3")
