"""The command line: what it makes, and how it says that it cannot."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from core.adapters import holds_adapter, save_adapters
from core.selector import SELECTOR, new_selector, save_selector
from core.settings import Placement
from core.training import __main__ as command_line
from core.training.sample_data import write_sample
from core.training.sample_model import write_sample_model

from .small_runs import backbone


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_sample_model(folder)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["core.training", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("placement", ["in_place", "selected"])
def test_a_compressor_is_carried_over_to_its_own_placement_alone(placement: Placement, tmp_path: Path) -> None:
    start, made, made_anew = tmp_path / "start", tmp_path / "made", backbone()
    made_anew.add_adapter("compressor", rank=2, alpha=4)
    made_anew.add_adapter("reasoner", rank=2, alpha=4)
    save_adapters(made_anew, ["compressor"], start, "in_place")
    save_selector(new_selector(made_anew), start)
    (start / "gate").mkdir()
    (start / "gate" / "head.safetensors").write_bytes(b"of a gate")
    save_adapters(made_anew, ["reasoner"], made, placement)
    command_line._carry_over(start, made)
    assert holds_adapter(made / "compressor") == (placement == "in_place")
    assert (made / SELECTOR).is_file()
    assert (made / "gate" / "head.safetensors").read_bytes() == b"of a gate"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stage", "juggler"], "stage='juggler'"),
        (["--stage", "reasoner", "--ratios", "2,x"], "--ratios='2,x'"),
        (["--stage", "reasoner", "--ratios", "3"], "ratios.0=3"),
        (["--stage", "reasoner", "--forms", "cooked"], "forms.0='cooked'"),
        (["--stage", "reasoner", "--steps", "0"], "steps=0"),
        (["--stage", "gate", "--gate", "open"], "gate='open'"),
        (["--stage", "compressor", "--reconstruction", "0.7", "--continuation", "0.7"], "exceed 1"),
        (["--stage", "reasoner", "--model", "{missing}/model"], "missing"),
        (["--stage", "reasoner", "--model", "{model}", "--adapters", "{missing}"], "no adapters.json there"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sample: Path,
    model: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
) -> None:
    filled = [option.format(missing=tmp_path / "missing", model=model) for option in options]
    assert run(monkeypatch, "--data", sample, "--out", tmp_path / "run", *filled) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_a_missing_data_folder_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--stage", "reasoner", "--data", tmp_path / "none", "--out", tmp_path / "run") == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'} has no train/")


def test_an_interrupted_command_leaves_a_checkpoint_and_ends_with_130_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sample: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ("--stage", "reasoner", "--data", sample, "--out", out, "--model", model, "--batch", 1, "--rank", 2)
    presser = threading.Thread(target=press_when_running, args=(out / "metrics.jsonl",))
    presser.start()
    assert run(monkeypatch, *options) == 130
    presser.join()
    assert (out / "checkpoint.safetensors").is_file()
    assert run(monkeypatch, *options) == 2
    assert "holds a run already: add --resume" in capsys.readouterr().err
    assert run(monkeypatch, *options, "--resume", "--minutes", "0") == 0
    assert "The time is up" in capsys.readouterr().err
    assert (out / "adapters" / "reasoner" / "adapter_model.safetensors").is_file()


def test_what_lies_beside_the_adapters_of_the_base_is_kept_by_a_stage_that_leaves_it(
    monkeypatch: pytest.MonkeyPatch, sample: Path, model: Path, tmp_path: Path
) -> None:
    small = ("--stage", "reasoner", "--data", sample, "--model", model, "--batch", 1, "--rank", 2, "--steps", 1)
    assert run(monkeypatch, *small, "--out", tmp_path / "first") == 0
    start = tmp_path / "first" / "adapters"
    (start / "evidence").mkdir()
    (start / "evidence" / "head.safetensors").write_bytes(b"head")
    (start / "CARD.md").write_text("Of the first.")
    before = (start / "reasoner" / "adapter_model.safetensors").read_bytes()
    assert run(monkeypatch, *small, "--out", tmp_path / "second", "--adapters", start, "--warmup", 0) == 0
    made = tmp_path / "second" / "adapters"
    assert (made / "evidence" / "head.safetensors").read_bytes() == b"head"
    assert (made / "reasoner" / "adapter_model.safetensors").read_bytes() != before
    assert not (made / "CARD.md").exists()


def press_when_running(metrics: Path) -> None:
    """Press Ctrl-C as soon as something is recorded."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (metrics.is_file() and metrics.stat().st_size):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
