"""The examples under docs/llamaindex, run as a reader would, but in one process, so that models are loaded once."""

import runpy
import sys
from pathlib import Path

import pytest

from core import Engine
from core.training.sample_data import write_sample

EXAMPLES = Path(__file__).parents[2] / "docs" / "llamaindex"
ARGUMENTS = {
    "comparison.py": [
        "--data",
        "DATA",
        "--questions",
        "1",
        "--documents",
        "1",
        "--tokens",
        "8",
        "--out",
        "results.jsonl",
    ],
}
SAID = {
    "documents.py": ["break ", "'tokens_read': "],
    "pipeline.py": [" nodes from 3 files", "break.txt ", "['assert.txt', 'del.txt']"],
    "agent.py": ["Edith keeps bees in Crail", "left: ['bob']"],
    "own_llm.py": ["Answer from the notes in a few words.", "'tokens_read': "],
    "comparison.py": ["| `VectorStoreIndex` | 1 |", "| `CompressedMemoryQueryEngine` | 1 |"],
}


def test_every_example_is_run():
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_an_example_runs_and_says_something(name, tmp_path, monkeypatch, capsys):
    write_sample(tmp_path)
    data = str(tmp_path / "train" / "reference.jsonl.gz")
    arguments = [data if argument == "DATA" else argument for argument in ARGUMENTS.get(name, [])]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    said = capsys.readouterr().out
    for part in SAID[name]:
        assert part in said


def test_a_comparison_that_was_stopped_goes_on(tmp_path, monkeypatch, capsys):
    write_sample(tmp_path)
    data = tmp_path / "train" / "reference.jsonl.gz"
    namespace = runpy.run_path(str(EXAMPLES / "comparison.py"))
    ((documents, questions),) = namespace["blocks"](data, 1, 1)
    done = [
        {"data": data.stem, "system": system, "id": questions[0].id}
        | dict.fromkeys(("contained", "f1", "tokens", "seconds", "taken"), 0.25)
        for system in namespace["systems"](Engine.open(), 8)
    ]
    out = tmp_path / "results.jsonl"
    out.write_text("".join(namespace["json"].dumps(record) + "\n" for record in done))
    monkeypatch.setattr(
        sys, "argv", ["comparison.py", "--data", str(data), *ARGUMENTS["comparison.py"][2:-1], str(out)]
    )
    namespace["main"]()
    assert len(out.read_text().splitlines()) == len(done) == 5
    assert capsys.readouterr().out.count("| 0.25 | 0.25 |") == 5
    assert documents
