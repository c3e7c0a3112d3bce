"""A namespace with a limit takes in what fits, and of what does not fit nothing."""

from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from core.backbone import Backbone
from core.embedder import Embedder
from core.engine import Engine
from core.errors import BankError, InputError, LimitError
from core.ingest import Document
from core.limits import BankLimits, read_limits, set_limit
from core.memory_bank import MemoryBank
from core.settings import CompressionSettings, NamespaceLimit
from core.verification import repair, verify

from . import tiny_models
from .test_cli import assert_refused, cli  # noqa: F401 - a fixture
from .test_verification import no_engine, rewritten

DOCUMENTS = [Document(name, topics[name][:600]) for name in ("break", "pass", "del")]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_models.backbone()


@pytest.fixture
def engine(tiny: Backbone, default_embedder: Embedder, tmp_path: Path) -> Engine:
    return Engine(tiny, default_embedder, CompressionSettings(chunk_tokens=64), tmp_path / "bank")


def tokens(engine: Engine, namespace: str = "default") -> int:
    return {s.namespace: s.tokens for s in engine.bank.summaries()}.get(namespace, 0)


def test_what_does_not_fit_is_refused_whole_before_anything_is_encoded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.add(DOCUMENTS)
    size, before = tokens(engine), engine.bank.digest()
    engine.delete()
    set_limit(engine.bank, NamespaceLimit(tokens=size - 1))
    with monkeypatch.context() as patched:
        patched.setattr(type(engine.compressor), "compress", lambda *_: pytest.fail("something was encoded"))
        with pytest.raises(
            LimitError, match=rf"namespace 'default' may hold {size - 1:,} tokens, and document 'del' .*--tokens N"
        ):
            engine.add(DOCUMENTS)
    assert engine.bank.rows("SELECT 1 FROM chunks") == []
    set_limit(engine.bank, NamespaceLimit(tokens=size))
    engine.add(DOCUMENTS)
    assert tokens(engine) == size
    assert engine.bank.digest() == before


def test_what_is_there_already_and_what_it_replaces_count_as_they_are_stored(engine: Engine) -> None:
    engine.add(DOCUMENTS)
    set_limit(engine.bank, NamespaceLimit(tokens=tokens(engine), documents=4), "default")
    assert engine.add(DOCUMENTS).unchanged == 3
    engine.add([Document("copy", topics["break"][:600])])  # stored once
    engine.add([Document("pass", topics["pass"][:400])])  # smaller than what it replaces
    with pytest.raises(LimitError, match=r"may hold .* tokens, and document 'copy' would make it"):
        engine.add([Document("copy", topics["while"])])
    with pytest.raises(LimitError, match=r"may hold 4 documents, and document 'fifth' would make it 5"):
        engine.add([Document("fifth", topics["break"])])
    engine.add([Document("fifth", topics["while"])], "other")  # whose limit is another


def test_a_namespace_over_a_new_limit_can_shrink_and_not_grow(engine: Engine) -> None:
    engine.add(DOCUMENTS)
    set_limit(engine.bank, NamespaceLimit(tokens=10, documents=1))
    engine.add([Document("pass", topics["pass"][:400])])
    with pytest.raises(LimitError):
        engine.add([Document("pass", topics["while"])])
    with pytest.raises(LimitError, match="documents"):
        engine.add([Document("more", "a")])
    engine.delete()
    engine.add([Document("a", "few words")])


def test_documents_past_the_limit_are_not_read(engine: Engine) -> None:
    set_limit(engine.bank, NamespaceLimit(tokens=300))
    read = 0

    def endless() -> Iterator[Document]:
        nonlocal read
        while True:
            read += 1
            yield Document(str(read), f"{read} " + topics["pass"])

    with pytest.raises(LimitError):
        engine.add(endless())
    assert read < 10


def test_limits_are_the_banks_own_and_survive_repair(engine: Engine, tmp_path: Path) -> None:
    engine.add(DOCUMENTS[:1], "a")
    set_limit(engine.bank, NamespaceLimit(documents=5))
    set_limit(engine.bank, NamespaceLimit(tokens=7), "a")
    set_limit(engine.bank, NamespaceLimit(tokens=8), "b")
    set_limit(engine.bank, None, "b")
    wanted = BankLimits(every=NamespaceLimit(documents=5), own={"a": NamespaceLimit(tokens=7)})
    engine.close()
    path = tmp_path / "bank"
    assert read_limits(MemoryBank(path=path)) == wanted
    assert verify(path) == []
    rewritten(path, "DELETE FROM chunks")  # the catalogue is written anew
    assert repair(path, no_engine).lost == ("break (namespace a)",)
    assert read_limits(MemoryBank(path=path)) == wanted


def test_limits_that_were_changed_are_named(engine: Engine, tmp_path: Path) -> None:
    engine.add(DOCUMENTS[:1])
    set_limit(engine.bank, NamespaceLimit(documents=5))
    engine.close()
    path = tmp_path / "bank"
    rewritten(path, "UPDATE meta SET value = replace(value, '5', '9') WHERE key = 'limits'")
    (damage,) = verify(path)
    assert "the limits of its namespaces were changed" in damage.what
    with pytest.raises(BankError, match="limits of its namespaces were changed"):
        read_limits(MemoryBank(path=path))
    assert repair(path, no_engine).lost == ()
    assert verify(path) == []
    assert read_limits(MemoryBank(path=path)) == BankLimits()


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"documents": -1}, {"chunks": 3}])
def test_limits_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        NamespaceLimit(**wrong)


def test_on_the_command_line(cli, engine: Engine, tmp_path: Path) -> None:  # noqa: F811
    engine.add(DOCUMENTS[:1], "a")
    place = ("--bank", tmp_path / "bank")
    ran = cli("limit", *place, "--tokens", "1000", "--documents", "2")
    assert ran.out.splitlines()[0] == "each namespace: at most 2 documents, 1,000 tokens"
    assert "a: as each namespace; holds 1 documents" in ran.out
    assert "a: at most 1 documents; holds" in cli("limit", *place, "--namespace", "a", "--documents", "1").out
    assert "a: as each namespace" in cli("limit", *place, "--namespace", "a", "--none").out
    assert_refused(cli("limit", *place, "--tokens", "0"), "tokens=0")
    assert_refused(cli("limit", *place, "--tokens", "5", "--none"), "--none takes a limit back")
    assert_refused(cli("limit", "--bank", tmp_path / "none"), "no memory bank")
