import gzip
import json
import pydoc_data.topics
from pathlib import Path

import numpy as np
import pytest

from core.benchmarks import gate, memory, second_answer, throughput, untrained
from core.benchmarks.material import numbered_files, texts
from core.benchmarks.report import machine, show
from core.errors import InputError
from core.questions import Paragraph, Question, read_pool, read_questions
from core.settings import CompressionSettings, RecallSettings

LONG = sorted(pydoc_data.topics.topics.values(), key=len)[-2:]


def test_untrained_lies_between_full_context_and_none(default_backbone):
    rows = untrained.measure(default_backbone, LONG, context=256, offset=40)
    loss = {row.form: row.loss for row in rows}
    assert loss["full"] < loss["in place, sink, ratio 4"] < loss["inserted, as in the paper, ratio 4"]
    assert loss["full"] < loss["none"]
    assert rows[0].over_full == 0
    assert rows[0].reference == 3.40


def test_untrained_starts_the_inserted_token_at_random_as_often_as_asked(default_backbone):
    rows = untrained.measure(default_backbone, [text[:4000] for text in LONG[:1]], context=256, offset=40, starts=2)
    loss = {row.form: row.loss for row in rows}
    drawn = [loss[f"inserted, random start {seed}, ratio 4"] for seed in (0, 1)]
    assert len({*drawn, loss["inserted, as in the paper, ratio 4"]}) == 3


def test_untrained_averages_keys_and_values_of_a_group(default_backbone):
    windows = untrained._windows(default_backbone, LONG, 16, 40)
    whole = CompressionSettings(chunk_tokens=16, ratio=1, sink_tokens=0)
    losses = [
        untrained.window_losses(default_backbone, windows, 16, untrained.Form("", whole, group)) for group in (0, 1, 4)
    ]
    assert losses[0].shape == (2,)
    assert losses[0].tolist() == losses[1].tolist()
    assert losses[0].tolist() != losses[2].tolist()


def test_untrained_refuses_a_text_that_is_too_short(default_backbone):
    with pytest.raises(InputError, match="text 0 has under 353 tokens"):
        untrained.measure(default_backbone, ["Too short."])


def test_throughput_gives_ratios_for_each_placement(default_backbone, default_embedder):
    steps = []
    rows = throughput.measure(
        default_backbone, default_embedder, LONG, tokens=64, repeat=1, step=lambda: steps.append(1)
    )
    assert [row.placement for row in rows] == ["in_place", "inserted", "selected"]
    assert [row.bound for row in rows] == [1.0, 0.8, 1.0]
    assert [row.target for row in rows] == [0.9, 0.7, None]
    assert all(row.tokens == pytest.approx(64, abs=2) for row in rows)
    assert all(row.compress_over_prefill > 0 and row.written_over_prefill > 0 for row in rows)
    assert len(steps) == throughput.steps_each(default_backbone.name) == 13
    assert throughput.placements("some/other-model") == ("in_place", "inserted")


def test_throughput_asks_for_more_text(default_backbone, default_embedder):
    with pytest.raises(InputError, match="tokens short"):
        throughput.measure(default_backbone, default_embedder, ["Too short."], tokens=200)


def test_memory_is_measured_in_a_process_of_its_own():
    (row,) = memory.measure(LONG, [60])
    assert 60 <= row.tokens < 200
    assert row.over_first == 1.0
    assert row.peak_mib > 300  # the model alone
    assert row.bank_mib > 0


def test_second_answer_finds_the_text_in_the_bank(default_backbone, default_embedder):
    settings = RecallSettings(form="raw", answer_tokens=4, update_tokens=8, top_k=1, max_steps=1)
    (row,) = second_answer.measure(
        default_backbone, default_embedder, [LONG[0][:2000]], "What is this about?", settings
    )
    assert row.tokens > 100
    assert row.form == "raw"
    assert row.second_over_first == row.second_seconds / row.first_seconds
    assert row.first_seconds > 0


def paragraph(title: str, *sentences: str, support: tuple[int, ...] = ()) -> Paragraph:
    return Paragraph(title=title, sentences=sentences, support=support)


def asked(question: str, *paragraphs: Paragraph) -> Question:
    return Question(id=question, dataset="made", question=question, answers=("x",), paragraphs=paragraphs)


def test_gate_counts_what_a_note_brings_near(default_embedder):
    question = asked(
        "Where was the director of the film Arrowdale born?",
        paragraph("Arrowdale (film)", "Arrowdale is a film directed by Mira Kostova.", support=(0,)),
        paragraph("Mira Kostova", "Mira Kostova was born in Plovdiv.", support=(0,)),
        paragraph("Weather", "It rains in spring."),
    )
    single = asked("Who?", paragraph("A", "b", support=(0,)))
    others = [paragraph(f"Births {n}", f"Director number {n} was born in a town.") for n in range(8)]
    (row,) = gate.measure(default_embedder, {"made": [question, single]}, others)
    assert row.questions == 1
    assert row.paragraphs == 11
    assert row.slope > 0
    assert row.with_note_at_4 == 1.0
    assert row.above_02 >= row.above_07


def test_gate_needs_multi_hop_questions(default_embedder):
    with pytest.raises(InputError, match="two gold paragraphs"):
        gate.measure(default_embedder, {"none": []}, [paragraph("A", "b")])


def test_logistic_fit_finds_the_curve_that_made_the_labels():
    random = np.random.default_rng(0)
    cosines = random.uniform(0, 1, 20_000).astype(np.float32)
    gold = random.uniform(0, 1, 20_000) < 1 / (1 + np.exp(-12 * (cosines - 0.6)))
    slope, midpoint = gate.logistic_fit(cosines, gold)
    assert slope == pytest.approx(12, abs=0.5)
    assert midpoint == pytest.approx(0.6, abs=0.01)


def test_material_is_read_from_text_and_json_lines(tmp_path):
    (tmp_path / "a.txt").write_text("plain")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "zipped"}) + "\n")
    assert texts([tmp_path / "a.txt", tmp_path / "b.jsonl.gz"]) == ["plain", "zipped"]

    (tmp_path / "c.jsonl").write_text('{"title": "no text"}\n')
    with pytest.raises(InputError, match="line 1: 'text' is None, not a str"):
        texts([tmp_path / "c.jsonl"])
    with pytest.raises(InputError, match="is no file"):
        texts([tmp_path / "missing.txt"])


def test_questions_and_pool_are_read_in_one_schema(tmp_path):
    example = asked("q", paragraph("t", "s", support=(0,)))
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write(example.model_dump_json() + "\n\n")
    assert list(read_questions(tmp_path / "c.jsonl.gz")) == [example]
    (tmp_path / "pool.jsonl").write_text('{"title": "t", "sentences": ["s"], "more": 1}\n{"sentences": ["s"]}\n')
    lines = read_pool(tmp_path / "pool.jsonl")
    assert next(lines) == paragraph("t", "s")
    with pytest.raises(InputError, match="line 2: title is"):
        next(lines)


def test_numbered_files_hold_the_tokens_asked_for_and_repeat_no_paragraph(tmp_path, default_backbone):
    files = numbered_files(["One two.\n\nThree four."], default_backbone.tokenizer, 100, tmp_path)
    written = "".join(file.read_text() for file in files)
    assert 100 <= len(default_backbone.encode(written)) < 130
    paragraphs = written.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)


def test_report_writes_the_machine_beside_the_rows(tmp_path: Path, capsys):
    row = second_answer.SecondAnswerRow(10, "raw", 2.0, 1.0, 0.5, 1)
    show("second-answer", {"text": [tmp_path]}, [row], tmp_path / "new" / "out.json")
    written = json.loads((tmp_path / "new" / "out.json").read_text())
    assert set(written["machine"]) == {"cores", "device", "torch", "dtype", "commit"}
    assert written["machine"]["cores"] == machine().cores >= 1
    assert written["rows"][0]["second_over_first"] == 0.5
    assert "0.500" in capsys.readouterr().out
