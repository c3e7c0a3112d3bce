"""Taking documents in: whole, once, and the same however often it was interrupted."""

import datetime
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from core import ingest
from core.backbone import Backbone
from core.compressor import Compressor
from core.embedder import Embedder
from core.engine import Engine
from core.errors import InputError
from core.ingest import Document, Ingest, Progress
from core.memory_bank import MemoryBank
from core.settings import CompressionSettings, RecallSettings, replaced

from . import tiny_models

SETTINGS = CompressionSettings(chunk_tokens=64)
DOCUMENTS = [Document(name, topics[name]) for name in ("assert", "break", "del", "for", "global", "pass", "while")]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_models.backbone()


@pytest.fixture
def engine(tiny: Backbone, default_embedder: Embedder) -> Engine:
    return Engine(tiny, default_embedder, SETTINGS)


def test_the_chunks_of_a_document_joined_are_the_document(engine: Engine) -> None:
    engine.add(DOCUMENTS)
    for document in DOCUMENTS:
        chunks = [c for c in engine.bank.index("default").chunks if c.document_id == document.document_id]
        assert "".join(engine.bank.text(c.chunk_id) for c in chunks) == document.text
        assert [c.span.start for c in chunks] == [0, *(c.span.end for c in chunks[:-1])]


def test_a_chunk_has_the_slots_that_the_compressor_gives_it_alone(engine: Engine, tiny: Backbone) -> None:
    engine.add(DOCUMENTS)
    for chunk in engine.bank.index("default").chunks[:5]:
        (alone,) = Compressor(tiny, SETTINGS).compress([tiny.encode(engine.bank.text(chunk.chunk_id))])
        stored = engine.bank.slots(chunk.chunk_id)
        assert torch.equal(stored.positions, alone.positions)
        torch.testing.assert_close(stored.keys, alone.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(stored.values, alone.values, rtol=1e-4, atol=1e-4)


def test_what_is_there_already_is_not_encoded_again(engine: Engine) -> None:
    first, again = engine.add(DOCUMENTS), engine.add(DOCUMENTS)
    assert first.chunks_encoded > 0
    assert (again.unchanged, again.chunks_encoded) == (len(DOCUMENTS), 0)


def test_the_same_text_under_two_ids_is_encoded_once_and_both_are_there(engine: Engine) -> None:
    report = engine.add([Document("a", topics["pass"]), Document("b", topics["pass"])])
    assert report.chunks_encoded == len(engine.bank.index("default").chunks)
    assert [document_id for document_id, *_ in engine.bank.documents("default")] == ["a", "b"]


def test_a_changed_document_replaces_the_old_one(engine: Engine) -> None:
    engine.add([Document("a", topics["pass"]), Document("b", topics["break"])])
    engine.add([Document("a", topics["del"])])
    texts = [engine.bank.text(c.chunk_id) for c in engine.bank.index("default").chunks if c.document_id == "a"]
    assert "".join(texts) == topics["del"]


def test_a_document_may_say_when_it_was_taken_in_and_goes_by_its_age(engine: Engine) -> None:
    month = datetime.timedelta(days=30)
    engine.add([Document("old", topics["pass"], added_at=time.time() - 31 * 86400), Document("new", topics["break"])])
    assert engine.delete(older_than=month, document_ids=["new"]) == []
    assert engine.delete(older_than=month, compact=False) == ["old"]
    assert engine.delete(older_than=datetime.datetime.now(datetime.UTC)) == ["new"]


def test_changed_metadata_of_the_same_text_is_kept(engine: Engine) -> None:
    engine.add([Document("a", topics["pass"], {"year": 1991})])
    assert engine.add([Document("a", topics["pass"], {"year": 1992})]).chunks_encoded == 0
    assert engine.bank.document_metadata("default", "a") == {"year": 1992}


def test_progress_rises_to_the_whole_and_counts_encoded_tokens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ingest._PASS_TOKENS, "cpu", 128)
    seen: list[Progress] = []
    report = engine.add(DOCUMENTS, progress=seen.append)
    assert seen[-1].characters == sum(len(d.text) for d in DOCUMENTS)
    assert [p.characters for p in seen] == sorted(p.characters for p in seen)
    assert 0 < seen[len(seen) // 2].tokens_encoded < report.tokens_encoded


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document("void", "  \n"), "document 'void' is empty"),
        (Document("odd", "a \ud800 b"), r"'odd' has '\\ud800' at character 2"),
        (Document("when", "text", {"at": datetime.date(1991, 2, 20)}), "metadata of document 'when' cannot be kept"),
    ],
)
def test_a_document_that_cannot_be_kept_is_refused_and_the_others_stay(
    engine: Engine, document: Document, message: str
) -> None:
    engine.add(DOCUMENTS[:1])
    before = engine.bank.digest()
    with pytest.raises(InputError, match=message):
        engine.add([document])
    assert engine.bank.digest() == before


def test_an_id_that_comes_twice_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="document id 'a' comes twice"):
        engine.add([Document("a", "one text"), Document("a", "another text")])


def test_a_namespace_without_a_name_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="namespace is ' '"):
        engine.add(DOCUMENTS, namespace=" ")


CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from pydoc_data.topics import topics
    from core import ingest
    from core.embedder import Embedder
    from core.engine import Engine
    from tests.test_ingest import INTERRUPTED, SETTINGS
    from tests import tiny_models

    ingest._PASS_TOKENS["cpu"] = 256  # many commits in a short text
    engine = Engine(tiny_models.backbone(), Embedder(), SETTINGS, Path(sys.argv[1]))
    print("started", flush=True)
    report = engine.add(INTERRUPTED, progress=lambda p: print(p.tokens_encoded, flush=True))
    print("done", report.chunks_encoded, flush=True)
    """
)
INTERRUPTED = [Document(name, topics[name]) for name in ("assignment", "comparisons", "calls", "while", "try")]


def run_child(bank: Path, kill_after: float | None) -> bool:
    """Ingest in a process of its own, killed ``kill_after`` seconds after it began; return whether it was done."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, bank], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child.pid, signal.SIGKILL)
    said = child.stdout.read()
    child.wait()
    child.stdout.close()
    return "done" in said


def test_an_ingest_killed_at_random_moments_ends_in_the_same_bank(tmp_path: Path) -> None:
    started = time.monotonic()
    assert run_child(tmp_path / "whole", None)
    length = (time.monotonic() - started) / 2
    moments, kills = random.Random(7), 0
    while not run_child(tmp_path / "killed", moments.uniform(0, length) if kills < 2 else None):
        kills += 1
        # At any moment the bank opens and holds whole documents only.
        opened = MemoryBank(path=tmp_path / "killed")
        for namespace in opened.summaries():
            for document_id, *_ in opened.documents(namespace.namespace):
                held = [c for c in opened.index(namespace.namespace).chunks if c.document_id == document_id]
                assert "".join(opened.text(c.chunk_id) for c in held) == topics[document_id]
        opened.close()
    assert kills, "the child was never killed: the test showed nothing"
    whole, killed = (MemoryBank(path=tmp_path / name) for name in ("whole", "killed"))
    assert killed.digest() == whole.digest()
    with killed.writing():
        pass
    assert len(list((tmp_path / "killed/slots").iterdir())) == len(list((tmp_path / "whole/slots").iterdir()))


def test_an_ingest_that_is_interrupted_goes_on_where_it_was(
    tiny: Backbone, default_embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ingest._PASS_TOKENS, "cpu", 128)

    def interrupt(progress: Progress) -> None:
        if progress.tokens_encoded > 600:
            raise KeyboardInterrupt

    bank = MemoryBank(Engine(tiny, default_embedder, SETTINGS).bank.fingerprint, tmp_path / "bank")
    compressor = Compressor(tiny, SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        Ingest(bank, compressor, default_embedder, "a").run(DOCUMENTS, interrupt)
    resumed = Ingest(bank, compressor, default_embedder, "a").run(DOCUMENTS)
    whole = MemoryBank(bank.fingerprint)
    complete = Ingest(whole, compressor, default_embedder, "a").run(DOCUMENTS)
    assert 0 < resumed.tokens_encoded < complete.tokens_encoded
    assert bank.digest() == whole.digest()


def test_text_alone_is_kept_where_nothing_is_to_be_encoded(tiny: Backbone, default_embedder: Embedder) -> None:
    whole = Engine(tiny, default_embedder, SETTINGS)
    text = Engine(tiny, default_embedder, replaced(SETTINGS, encode=False))
    passes = []
    text.compressor.compress = lambda chunks: passes.append(chunks)
    reports = [engine.add(DOCUMENTS) for engine in (whole, text)]
    assert passes == []
    assert reports[0].chunks_encoded == reports[1].chunks_encoded > 0
    assert {"cut", "encode", "embed", "store"} == reports[0].seconds.keys()
    assert {"cut", "embed", "store"} == reports[1].seconds.keys()
    chunks = [engine.bank.index("default").chunks for engine in (whole, text)]
    assert [c.chunk_id for c in chunks[0]] == [c.chunk_id for c in chunks[1]]
    assert all(c.slots > 0 for c in chunks[0])
    assert all(c.slots == 0 for c in chunks[1])
    assert [o.chunk.chunk_id for o in whole.retrieve("What does pass do?")] == [
        o.chunk.chunk_id for o in text.retrieve("What does pass do?")
    ]


def test_a_bank_of_text_alone_is_read_raw_and_says_so(tiny: Backbone, default_embedder: Embedder) -> None:
    engine = Engine(tiny, default_embedder, replaced(SETTINGS, encode=False))
    engine.add(DOCUMENTS[:1])
    assert engine.form(RecallSettings()) == engine.form(RecallSettings(form="raw")) == "raw"
    with pytest.raises(InputError, match=r"form='compressed' reads slots.*keeps text only: ask for form='raw'"):
        engine.ask("What?", settings=RecallSettings(form="compressed"))
    assert (
        engine.ask("What does assert do?", settings=RecallSettings(max_steps=1, update_tokens=8)).usage.slots_read == 0
    )
