"""Recall of gold paragraphs, on haystacks where it can be said what is found."""

import json

import pytest

from core.embedder import Embedder
from core.evaluation.haystack import Pool, own_haystack
from core.evaluation.retrieval import PassageVectors, main, measure

from .made import ARROWDALE, MILL, POOL, QUESTIONS, paragraph

# Nothing in the question leads to the second paragraph but what the first one says.
BRIDGE = ARROWDALE.model_copy(
    update={
        "id": "bridge",
        "question": "In which town did the director of the film Arrowdale grow up?",
        "paragraphs": (
            paragraph("Arrowdale (film)", "The film Arrowdale was made by the director Mira Kostova.", support=(0,)),
            paragraph("Kostova family", "Mira Kostova grew up in Plovdiv with two sisters.", support=(0,)),
        ),
    }
)
PEOPLE = [paragraph(f"Family {n}", f"Person {n} grew up in a town with {n} brothers.") for n in range(20)]


def test_each_way_of_searching_is_measured_at_each_size(default_embedder: Embedder) -> None:
    steps = []
    gates = {"gate": default_embedder}
    rows = measure(gates, QUESTIONS, Pool(POOL), (5, 30), data="made", step=lambda: steps.append(1))
    assert len(steps) == 4
    found = {(row.documents, row.searcher): row for row in rows}
    assert {row.searcher for row in rows} == {
        "BM25",
        "embedding",
        "gate, question alone",
        "gate, one known, question alone",
        "gate, one known, with memory",
        "gate, one known, with memory and its names",
    }
    assert found[30, "BM25"].questions == 2
    assert found[30, "gate, one known, with memory"].questions == 1  # the other has one gold paragraph
    assert found[30, "BM25"].gold == 1.5
    assert found[30, "gate, one known, with memory"].gold == 1.0
    for row in rows:
        assert 0 <= row.at_1 <= row.at_4 <= row.at_8 <= 1
        assert row.at_8_low <= row.at_8 <= row.at_8_high
    assert found[30, "BM25"].at_8 == 1.0
    assert found[30, "embedding"].at_8 == found[30, "gate, question alone"].at_8


def test_memory_finds_what_the_question_alone_does_not(default_embedder: Embedder) -> None:
    rows = measure({"gate": default_embedder}, [BRIDGE], Pool(PEOPLE), (20,))
    found = {row.searcher: row for row in rows}
    assert found["gate, one known, with memory"].at_1 == 1.0
    assert found["gate, one known, question alone"].at_1 < 1.0


def test_vectors_are_made_once_and_the_same_as_alone(default_embedder: Embedder) -> None:
    haystack = own_haystack(MILL, Pool(POOL), 6)
    vectors = PassageVectors(default_embedder)
    index = vectors.index(haystack.documents)
    (query,) = default_embedder.embed([haystack.documents[2].text])
    similarities = index.similarities(query[None], None)
    assert similarities.argmax() == 2
    assert similarities.max() == pytest.approx(1, abs=0.02)
    vectors._embedder = None
    again = vectors.index(haystack.documents[::-1])
    assert again.similarities(query[None], None).argmax() == 3


def test_the_command_writes_its_rows(tmp_path, capsys) -> None:
    (tmp_path / "q.jsonl").write_text("".join(q.model_dump_json() + "\n" for q in QUESTIONS))
    (tmp_path / "p.jsonl").write_text("".join(p.model_dump_json() + "\n" for p in POOL[:8]))
    data = ["--data", str(tmp_path / "q.jsonl"), "--pool", str(tmp_path / "p.jsonl")]
    assert main([*data, "--documents", "5", "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    # The gate as it ships, and beside it the one whose queries are read as passages are.
    gates = (
        "question alone",
        *(f"one known, {way}" for way in ("question alone", "with memory", "with memory and its names")),
    )
    assert [row["searcher"] for row in rows[2:]] == [f"{g}, {way}" for g in ("gate", "untrained gate") for way in gates]
    assert main([*data, "--documents", "5", "--adapters", "none", "--json", str(tmp_path / "out.json")]) == 0
    assert len(json.loads((tmp_path / "out.json").read_text())["rows"]) == 6
    assert main([*data, "--documents", "50"]) == 2
    assert "the pool has" in capsys.readouterr().err
