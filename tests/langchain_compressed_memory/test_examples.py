"""The examples under docs/langchain, run as a reader would."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "langchain"
SAID = {
    "chain.py": ["break ", "'total_tokens': "],
    "own_chat_model.py": ["'total_tokens': "],
    "agent.py": [],
    "chat_per_user.py": ["ada ", "bob ", "no namespace was given"],
}


def test_every_example_is_run():
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_an_example_runs_and_says_something(name):
    run = subprocess.run([sys.executable, name], cwd=EXAMPLES, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()
    for part in SAID[name]:
        assert part in run.stdout
