"""The query's adapter: what it changes, what it leaves alone, and where it is found."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from core.adapters import SHIPPED
from core.chunking import Span
from core.embedder import Embedder
from core.engine import Engine
from core.errors import WeightsError
from core.ingest import Document
from core.query_encoder import QUERIES, find_queries, save_queries, trainable
from core.settings import CompressionSettings, RecallSettings
from core.similarity import UNTRAINED, Odds
from core.weights import DEFAULT_EMBEDDER
from core.working_memory import Note, WorkingMemory

TEXTS = ["Who kept the lighthouse at Skagen?", "Anna Holm kept it until 1857. It burned whale oil."]
ODDS = Odds(20.0, 0.4)
TEXT_ONLY = CompressionSettings(encode=False)
EDSEL = "Edsel Ford was an executive. His father was Henry Ford."
HENRY = "Henry Ford was a maker of cars. He died in Dearborn in 1947."
FORD = "A ford is a shallow place in a river that can be crossed on foot."


@pytest.fixture(scope="module")
def plain() -> Embedder:
    return Embedder(device="cpu")


def written(embedder: Embedder, folder: Path, name: str = DEFAULT_EMBEDDER, scale: float = 0.05) -> Path:
    """Write an adapter that changes what is read, as training would have made it."""
    torch.manual_seed(0)
    made = trainable(embedder.model, 4)
    with torch.no_grad():
        for parameter in made.encoder.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=scale)
    save_queries(made, name, ODDS, folder)
    return folder / QUERIES


def test_only_queries_are_read_through_the_adapter(plain: Embedder, tmp_path: Path) -> None:
    trained = Embedder(device="cpu", queries=written(plain, tmp_path))
    assert np.array_equal(trained.embed(TEXTS), plain.embed(TEXTS))
    cosines = (trained.embed_queries(TEXTS) * plain.embed(TEXTS)).sum(axis=1)
    assert (cosines < 0.9).all()
    assert np.linalg.norm(trained.embed_queries(TEXTS), axis=1) == pytest.approx(1)
    assert (trained.odds, plain.odds) == (ODDS, UNTRAINED)
    assert trained.fingerprint.startswith(f"{plain.fingerprint} ")


def test_merged_it_reads_as_it_did_in_training(plain: Embedder, tmp_path: Path) -> None:
    queries = written(plain, tmp_path)
    unmerged = trainable(plain.model, 4, queries).encoder.eval()
    with torch.no_grad():
        expected = unmerged.encode(TEXTS, normalize_embeddings=True)
    # The merged copy is in bf16 where the machine has it.
    np.testing.assert_allclose(Embedder(device="cpu", queries=queries).embed_queries(TEXTS), expected, atol=2e-2)


def test_an_adapter_before_training_changes_nothing(plain: Embedder, tmp_path: Path) -> None:
    save_queries(trainable(plain.model, 4), DEFAULT_EMBEDDER, ODDS, tmp_path)
    untrained = Embedder(device="cpu", queries=tmp_path / QUERIES)
    assert np.array_equal(untrained.embed_queries(TEXTS), plain.embed(TEXTS))
    assert np.array_equal(plain.embed_queries(TEXTS), plain.embed(TEXTS))


def test_word_embeddings_are_held_once(plain: Embedder, tmp_path: Path) -> None:
    trained = Embedder(device="cpu", queries=written(plain, tmp_path))
    one, other = (m[0].auto_model.get_input_embeddings().weight for m in (trained.model, trained._reader))
    assert one.data_ptr() == other.data_ptr()


def test_what_is_written_is_small_and_says_nothing_of_this_machine(plain: Embedder, tmp_path: Path) -> None:
    queries = written(plain, tmp_path)
    assert {file.name for file in queries.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "queries.json",
    }
    assert json.loads((queries / "queries.json").read_text()) == {
        "embedder": DEFAULT_EMBEDDER,
        "slope": 20.0,
        "midpoint": 0.4,
    }
    assert not json.loads((queries / "adapter_config.json").read_text())["base_model_name_or_path"]
    with safe_open(queries / "adapter_model.safetensors", "pt") as held:
        assert {held.get_tensor(name).dtype for name in held.keys()} == {torch.bfloat16}  # noqa: SIM118 - a safetensors file is no mapping


def test_where_it_is_found(plain: Embedder, tmp_path: Path) -> None:
    shipped = SHIPPED / DEFAULT_EMBEDDER / QUERIES
    assert find_queries("none", DEFAULT_EMBEDDER) is None
    assert find_queries("default", DEFAULT_EMBEDDER) == shipped
    assert find_queries("default", "another-embedder") is None
    # A folder without one, or with one for another embedder, leaves that which ships.
    assert find_queries(str(tmp_path), DEFAULT_EMBEDDER) == shipped
    written(plain, tmp_path, "another-embedder")
    assert find_queries(str(tmp_path), DEFAULT_EMBEDDER) == shipped
    assert find_queries(str(tmp_path), "another-embedder") == tmp_path / QUERIES
    written(plain, tmp_path)
    assert find_queries(str(tmp_path), DEFAULT_EMBEDDER) == tmp_path / QUERIES


def test_an_engine_reads_queries_by_what_its_adapters_say() -> None:
    with Engine.open(compression=TEXT_ONLY) as usual, Engine.open(compression=TEXT_ONLY, adapters="none") as plain:
        assert usual.embedder.queries == SHIPPED / DEFAULT_EMBEDDER / QUERIES
        assert plain.embedder.queries is None
        for engine in (usual, plain):
            engine.add([Document("edsel", EDSEL), Document("henry", HENRY), Document("ford", FORD)])
        memory = WorkingMemory((Note(EDSEL, EDSEL, "", "edsel", Span(0, len(EDSEL)), 1.0),))
        asked = "Where did the father of Edsel Ford die?"
        alone = [
            engine.gate(RecallSettings()).probabilities(asked, WorkingMemory(), engine.bank.index("default"))
            for engine in (usual, plain)
        ]
        found = [
            dict(zip((c.document_id for c in index.chunks), gate.probabilities(asked, memory, index), strict=True))
            for engine in (usual, plain)
            for index, gate in [(engine.bank.index("default"), engine.gate(RecallSettings()))]
        ]
    assert np.array_equal(*alone)  # where nothing is known, nothing is missing yet
    # What is known is near itself, and was read; against it, what is missing comes nearer.
    assert found[0]["henry"] / found[0]["edsel"] > found[1]["henry"] / found[1]["edsel"]


def test_what_cannot_be_used_is_refused_by_name(plain: Embedder, tmp_path: Path) -> None:
    queries = written(plain, tmp_path)
    (queries / "queries.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"queries\.json cannot be read"):
        find_queries(str(tmp_path), DEFAULT_EMBEDDER)
    written(plain, tmp_path)
    config = json.loads((queries / "adapter_config.json").read_text())
    (queries / "adapter_config.json").write_text(json.dumps({**config, "r": 7}))
    with pytest.raises(WeightsError, match="is of another model"):
        Embedder(device="cpu", queries=queries)
    (queries / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"it needs adapter_config\.json and"):
        Embedder(device="cpu", queries=queries)
