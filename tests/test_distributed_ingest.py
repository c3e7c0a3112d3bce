"""Parts that workers encode are joined to the bank that one process makes, to the bit."""

import random
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from core import ingest
from core.backbone import Backbone
from core.distributed_ingest import Part, cut, encode_part, ingest_distributed
from core.embedder import Embedder
from core.engine import Engine
from core.errors import BankError, InputError, LimitError, WorkerError
from core.limits import set_limit
from core.readers import SourceFile, find_files, read_file
from core.settings import CompressionSettings, NamespaceLimit
from core.verification import verify

from . import tiny_models
from .test_cli import assert_refused, cli  # noqa: F401 - a fixture

SETTINGS = CompressionSettings(chunk_tokens=64)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_models.backbone()


@pytest.fixture(autouse=True)
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_PASS_TOKENS", {"cpu": 96})
    monkeypatch.setattr(ingest, "_COMMIT_PASSES", 2)


@pytest.fixture
def files(tmp_path: Path) -> list[SourceFile]:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("break", "pass", "del"):
        (folder / f"{name}.txt").write_bytes(topics[name].encode())
    (folder / "copy.txt").write_bytes(topics["pass"].encode())
    (folder / "long.txt").write_bytes((topics["while"] + topics["break"][:400]).encode())
    return find_files([folder])


class Workers:
    """Workers of this process, that finish in an order of their own and may fail."""

    def __init__(self, tiny: Backbone, embedder: Embedder) -> None:
        self._engine = Engine(tiny, embedder, SETTINGS)
        self.encoded = 0
        self.fail_after: int | None = None

    def cut_all(self, files: Sequence[SourceFile]) -> list[object]:
        done = [cut(file, "n", self._engine.backbone.tokenizer, SETTINGS.chunk_tokens) for file in files]
        return random.Random(1).sample(done, len(done))

    def encode_all(self, parts: Sequence[tuple[Part, Path]]) -> Iterable[Path]:
        for part, at in random.Random(2).sample(parts, len(parts)):
            if self.encoded == self.fail_after:
                return
            encode_part(self._engine, "n", part.chunks, at)
            self.encoded += 1
            yield at


@pytest.fixture
def workers(tiny: Backbone, default_embedder: Embedder) -> Workers:
    return Workers(tiny, default_embedder)


@pytest.fixture
def engine(tiny: Backbone, default_embedder: Embedder, tmp_path: Path) -> Engine:
    return Engine(tiny, default_embedder, SETTINGS, tmp_path / "bank")


@pytest.fixture
def alone(tiny: Backbone, default_embedder: Embedder, files: list[SourceFile], tmp_path: Path) -> Engine:
    """What one process makes of the files."""
    engine = Engine(tiny, default_embedder, SETTINGS, tmp_path / "alone")
    engine.add((read_file(file) for file in files), "n")
    return engine


def shards(path: Path) -> dict[str, bytes]:
    """Return the slots of each shard as they lie there; the header's metadata has no order."""
    held = {file.name: file.read_bytes() for file in (path / "slots").iterdir()}
    return {name: data[8 + int.from_bytes(data[:8], "little") :] for name, data in held.items()}


def test_the_bank_is_the_one_that_one_process_makes(
    engine: Engine, alone: Engine, workers: Workers, files: list[SourceFile], tmp_path: Path
) -> None:
    report = ingest_distributed(engine, files, "n", workers.cut_all, workers.encode_all)
    assert workers.encoded > 3
    assert engine.bank.digest() == alone.bank.digest()
    assert shards(tmp_path / "bank") == shards(tmp_path / "alone")
    order = "SELECT chunk_id FROM chunks ORDER BY rowid"
    assert engine.bank.rows(order) == alone.bank.rows(order)
    assert (report.documents, report.unchanged, report.chunks_encoded) == (5, 0, len(engine.bank.rows(order)))
    assert verify(tmp_path / "bank") == []
    assert not (tmp_path / "bank.parts").exists()
    (files[0].path).write_bytes(topics["pass"][40:400].encode())
    again = ingest_distributed(engine, files, "n", workers.cut_all, workers.encode_all)
    assert again.unchanged == 4
    alone.add((read_file(file) for file in files), "n")
    assert engine.bank.digest() == alone.bank.digest()


def test_it_goes_on_with_what_is_there_when_a_worker_failed(
    engine: Engine, alone: Engine, workers: Workers, files: list[SourceFile], tmp_path: Path
) -> None:
    workers.fail_after = 2
    with pytest.raises(WorkerError, match="was not made by any worker"):
        ingest_distributed(engine, files, "n", workers.cut_all, workers.encode_all)
    workers.fail_after = None
    ingest_distributed(engine, files, "n", workers.cut_all, workers.encode_all)
    assert workers.encoded == len(shards(tmp_path / "alone"))  # none of them twice
    assert engine.bank.digest() == alone.bank.digest()


def test_a_part_that_is_damaged_or_made_differently_is_refused(
    engine: Engine, workers: Workers, default_embedder: Embedder, files: list[SourceFile], tmp_path: Path
) -> None:
    def damaged(parts: Sequence[tuple[Part, Path]]) -> Iterable[Path]:
        for at in workers.encode_all(parts):
            shard = next((at / "slots").iterdir())
            shard.write_bytes(shard.read_bytes()[:-1])
            yield at

    with pytest.raises(BankError, match=r"bank\.parts/.* is damaged in 1 places"):
        ingest_distributed(engine, files, "n", workers.cut_all, damaged)
    shutil.rmtree(tmp_path / "bank.parts")
    other = Workers(tiny_models.backbone(seed=3), default_embedder)
    with pytest.raises(BankError, match=r"was made differently: bank .* has weights"):
        ingest_distributed(engine, files, "n", other.cut_all, other.encode_all)
    assert engine.bank.summaries() == []


def test_what_cannot_be_taken_in_is_refused_before_anything_is_encoded(
    engine: Engine, workers: Workers, files: list[SourceFile], tiny: Backbone, default_embedder: Embedder
) -> None:
    set_limit(engine.bank, NamespaceLimit(documents=4))
    with pytest.raises(LimitError):
        ingest_distributed(engine, files, "n", workers.cut_all, workers.encode_all)
    with pytest.raises(InputError, match="a bank in memory has no place"):
        ingest_distributed(Engine(tiny, default_embedder, SETTINGS), files, "n", workers.cut_all, workers.encode_all)
    assert workers.encoded == 0


def test_a_file_that_changes_meanwhile_is_named(engine: Engine, workers: Workers, files: list[SourceFile]) -> None:
    def changing(files: Sequence[SourceFile]) -> list[object]:
        done = workers.cut_all(files)
        files[2].path.write_bytes(b"something else")
        return done

    with pytest.raises(InputError, match=f"{files[2].path} changed while it was taken in"):
        ingest_distributed(engine, files, "n", changing, workers.encode_all)


def test_on_the_command_line(cli, tmp_path: Path) -> None:  # noqa: F811
    place = (tmp_path / "x.txt", "--bank", tmp_path / "bank")
    assert_refused(cli("ingest", *place, "--engine", "dask"), "'dask' is none of local, ray")
    assert_refused(cli("ingest", *place, "--workers", "2"), "--workers 2 are of --engine ray")
