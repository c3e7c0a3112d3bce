"""The gate that trains how queries are embedded: its tuples, what it learns, what it leaves behind."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core.embedder import Embedder
from core.engine import Engine
from core.errors import InputError
from core.ingest import Document
from core.query_encoder import QUERIES, find_queries, read_query_card
from core.questions import Paragraph, Question
from core.settings import RecallSettings
from core.similarity import UNTRAINED
from core.training import __main__ as command_line
from core.training.material import Material
from core.training.query_gate import (
    Passages,
    Queries,
    Query,
    QueryPiece,
    QueryTraining,
    noted_query,
    query,
    read_passages,
)
from core.training.settings import TrainingSettings
from core.training.trainer import Trainer, accelerator

from .small_runs import backbone, material, model_folder, settings

EDSEL = Paragraph(
    title="Edsel Ford", sentences=("Edsel Ford was an executive.", "His father was Henry Ford."), support=(1,)
)
HENRY = Paragraph(title="Henry Ford", sentences=("Henry Ford died in Dearborn.",), support=(0,))
BREAD = Paragraph(title="Bread", sentences=("Bread needs flour.",))
HOPS = Question(
    id="1",
    dataset="test",
    question="Where did Edsel Ford's father die?",
    answers=("Dearborn",),
    paragraphs=(BREAD, EDSEL, HENRY),
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def few() -> Material:
    whole = material()
    return Material(whole.train[:60], whole.train[60:76], ())


@pytest.fixture(scope="module")
def passages(embedder: Embedder, few: Material, tmp_path_factory: pytest.TempPathFactory) -> Passages:
    return read_passages((*few.train, *few.held_out), embedder, tmp_path_factory.mktemp("vectors") / "vectors")


def query_settings(**changes: object) -> TrainingSettings:
    return settings(**{"stage": "gate", "gate": "query", "forms": ("raw",), "batch": 8, **changes})


def stage_of(embedder: Embedder, few: Material, passages: Passages, **changes: object) -> QueryTraining:
    torch.manual_seed(0)
    return QueryTraining(backbone(), embedder, query_settings(**changes), few, passages)


def test_passages_are_those_of_use_and_embedded_once(embedder: Embedder, tmp_path: Path) -> None:
    told = list[tuple[int, int]]()
    found = read_passages((HOPS, HOPS), embedder, tmp_path / "vectors", lambda *done: told.append(done))
    assert found.texts == tuple(" ".join(p.document.split()) for p in HOPS.paragraphs)
    assert (list(found.owners), found.rows[HENRY.document]) == ([0, 1, 2], (2,))
    expected = embedder.embed([p.document for p in HOPS.paragraphs])
    np.testing.assert_allclose(found.vectors.numpy(), expected, atol=5e-3)
    assert told[-1] == (3, 3)
    size = (tmp_path / "vectors").stat().st_size
    again = read_passages((HOPS,), embedder, tmp_path / "vectors")
    assert torch.equal(again.vectors, found.vectors)
    assert (tmp_path / "vectors").stat().st_size == size


def test_a_query_wants_what_is_missing_and_leaves_aside_what_is_read(embedder: Embedder, tmp_path: Path) -> None:
    passages = read_passages((HOPS,), embedder, tmp_path / "vectors")
    whole = query(passages, HOPS, HOPS.gold)
    assert (whole.text, whole.wanted, whole.aside) == (HOPS.question, (1, 2), ())
    noted = noted_query(passages, HOPS, EDSEL)
    # As the gate joins question and note.
    assert noted.text == f"{HOPS.question} His father was Henry Ford."
    assert (noted.wanted, noted.aside) == ((2,), (1,))


def test_queries_are_the_same_everywhere_and_those_of_several_hops_come_more_often(
    embedder: Embedder, tmp_path: Path
) -> None:
    single = HOPS.model_copy(update={"question": "What does bread need?", "paragraphs": (BREAD, HENRY)})
    passages = read_passages((HOPS, single), embedder, tmp_path / "vectors")
    drawn = [Queries((HOPS, single), passages, 3).at(i) for i in range(80)]
    assert drawn == [Queries((HOPS, single), passages, 3).at(i) for i in range(80)]
    assert sum(q.text.startswith(HOPS.question) for q in drawn) == 60
    assert {q.wanted for q in drawn if q.text.startswith(HOPS.question)} == {(1, 2), (1,), (2,)}
    with pytest.raises(InputError, match="no question with supporting sentences"):
        Queries((), passages, 0)


def test_a_few_steps_bring_queries_nearer_to_what_they_want(
    embedder: Embedder, few: Material, passages: Passages, tmp_path: Path
) -> None:
    stage = stage_of(embedder, few, passages, steps=8, learning_rate=2e-3, evaluate_every=100, save_every=100)

    def loss() -> float:
        with torch.no_grad():
            return sum(float(stage(piece)[0]) for piece in stage.work(0, 0, 1))

    with torch.no_grad():
        start = stage.evaluate()
    assert start["question_recall_at_1"] == start["question_recall_at_1_untrained"]
    before = loss()
    Trainer(stage, stage.settings, tmp_path, accelerator()).run()
    assert loss() < 0.9 * before

    queries = find_queries(str(tmp_path / "adapters"), embedder.name)
    assert queries == tmp_path / "adapters" / QUERIES
    used = Embedder(device="cpu", queries=queries)
    asked = few.train[0].question
    with torch.no_grad():
        expected = stage._read([asked]).numpy()
    np.testing.assert_allclose(used.embed_queries([asked]), expected, atol=2e-2)
    assert used.odds == read_query_card(queries).odds != UNTRAINED


def test_what_is_aside_counts_neither_way(embedder: Embedder, few: Material, passages: Passages) -> None:
    stage = stage_of(embedder, few, passages)
    asked = few.train[0].question

    def loss(aside: tuple[int, ...]) -> float:
        with torch.no_grad():
            return float(stage(QueryPiece((Query(asked, (0,), aside),), 1))[0])

    before, every = loss((1,)), loss(())
    stage._vectors = stage._vectors.clone()
    with torch.no_grad():
        stage._vectors[1] = stage._read([asked])[0]  # the nearest there can be
    assert loss((1,)) == pytest.approx(before)
    assert loss(()) > every + 0.1


def test_processes_share_a_step(embedder: Embedder, few: Material, passages: Passages) -> None:
    stage = stage_of(embedder, few, passages, batch=40)
    with torch.no_grad():
        whole = sum(float(stage(piece)[0]) for piece in stage.work(1, 0, 1))
        shared = [stage(piece) for process in (0, 1) for piece in stage.work(1, process, 2)]
    assert sum(float(loss) for loss, _ in shared) == pytest.approx(whole, rel=1e-3)
    assert sum(measured["queries"] for _, measured in shared) == 40


def test_the_command_trains_queries_that_an_engine_reads_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, train = model_folder(), tmp_path / "data" / "train"
    train.mkdir(parents=True)
    (train / "few.jsonl").write_text("\n".join(q.model_dump_json() for q in material().train[:20]))
    out = tmp_path / "run"
    options = ("--stage", "gate", "--gate", "query", "--data", tmp_path / "data", "--out", out, "--model", model)
    monkeypatch.setattr(sys, "argv", ["core.training", *map(str, (*options, "--steps", 2, "--batch", 4, "--rank", 2))])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert not ended.value.code
    with Engine.open(model=model, adapters=str(out / "adapters")) as engine:
        assert engine.embedder.queries == out / "adapters" / QUERIES
        engine.add([Document("henry", HENRY.document), Document("bread", BREAD.document)])
        found = engine.retrieve(HOPS.question, settings=RecallSettings(threshold=0))
    assert [opened.chunk.document_id for opened in found] == ["henry", "bread"]
