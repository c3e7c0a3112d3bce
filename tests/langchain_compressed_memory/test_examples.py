"""The examples under docs/langchain, run as a reader would."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.training.sample_data import write_sample

EXAMPLES = Path(__file__).parents[2] / "docs" / "langchain"
ARGUMENTS = {"long_conversation.py": ["--data", "DATA", "--turns", "12", "--questions", "1"]}
SAID = {
    "chain.py": ["break ", "'total_tokens': "],
    "own_chat_model.py": ["'total_tokens': "],
    "agent.py": [],
    "long_conversation.py": ["12 turns, 1 questions about turns 1 to 2", "| compressed memory | "],
    "chat_per_user.py": ["ada ", "bob ", "no namespace was given"],
}


def test_every_example_is_run():
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_an_example_runs_and_says_something(name, tmp_path):
    write_sample(tmp_path)
    data = str(tmp_path / "train" / "reference.jsonl.gz")
    arguments = [data if argument == "DATA" else argument for argument in ARGUMENTS.get(name, [])]
    run = subprocess.run([sys.executable, name, *arguments], cwd=EXAMPLES, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()
    for part in SAID[name]:
        assert part in run.stdout
