"""Runs that stop, go on, and spread over processes, against one that did neither."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from core.errors import InputError
from core.training.supervised import Piece, Supervised
from core.training.trainer import CHECKPOINT, METRICS, SETTINGS, Trainer, schedule

from .one_run import CHANGES
from .small_runs import settings, supervised, trainer


class InterruptedInStepOne(Supervised):
    """Somebody presses Ctrl-C while the second step is on its way."""

    def work(self, step: int, process: int, processes: int) -> list[Piece]:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return list(super().work(step, process, processes))


def records(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / METRICS).read_text().splitlines()]


def timeless(out: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in r.items() if name != "seconds"} for r in records(out)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    finished = trainer(out).run()
    assert (finished.step, finished.steps, finished.interrupted) == (4, 4, False)
    return out


def interrupted(out: Path) -> Path:
    """Make a run that was interrupted in its second step."""
    finished = trainer(out, InterruptedInStepOne, save_every=100).run()
    assert (finished.step, finished.interrupted) == (2, True)
    return out


def assert_same_run(found: Path, expected: Path) -> None:
    ours, theirs = load_file(found / CHECKPOINT), load_file(expected / CHECKPOINT)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    assert timeless(found) == timeless(expected)


# ---- stopping and going on ----


def test_a_run_that_was_interrupted_and_resumed_is_the_run_that_was_not(whole: Path, tmp_path: Path) -> None:
    interrupted(tmp_path)
    assert trainer(tmp_path).run(resume=True).step == 4
    assert_same_run(tmp_path, whole)


def test_training_changes_both_adapters_and_the_optimiser_knows(whole: Path) -> None:
    held = load_file(whole / CHECKPOINT)
    start = dict(supervised(settings()).named_parameters())
    for role in ("compressor", "reasoner"):
        changed = [n for n in held if f".{role}." in n and n.startswith("parameter.")]
        assert changed
        assert any(not torch.equal(held[n], start[n.removeprefix("parameter.")]) for n in changed), role
        assert any(held[n].abs().sum() > 0 for n in held if f".{role}." in n and n.startswith("exp_avg."))


def test_when_the_time_is_up_a_checkpoint_is_left_and_the_run_can_go_on(whole: Path, tmp_path: Path) -> None:
    finished = trainer(tmp_path).run(minutes=0)
    assert (finished.step, finished.interrupted) == (0, False)
    assert (tmp_path / CHECKPOINT).is_file()
    trainer(tmp_path).run(resume=True)
    assert_same_run(tmp_path, whole)


def test_what_a_killed_run_recorded_after_its_checkpoint_is_dropped(whole: Path, tmp_path: Path) -> None:
    interrupted(tmp_path)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 3, "loss": 99.0}\n{"step": 4, "lo')
    trainer(tmp_path).run(resume=True)
    assert_same_run(tmp_path, whole)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(whole: Path, tmp_path: Path) -> None:
    interrupted(tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    trainer(tmp_path).run(resume=True)
    assert_same_run(tmp_path, whole)


def test_a_finished_run_is_left_as_it_is(whole: Path) -> None:
    before = load_file(whole / CHECKPOINT)
    assert trainer(whole).run(resume=True).step == 4
    after = load_file(whole / CHECKPOINT)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_records_hold_every_step_once_and_what_is_held_out(whole: Path) -> None:
    found = records(whole)
    assert [r["step"] for r in found if "loss" in r] == [1, 2, 3, 4]
    assert [r["step"] for r in found if "held_out_loss_compressed" in r] == [0, 2, 4]
    assert all(r["tokens"] > 0 and r["gradient_norm"] > 0 for r in found if "loss" in r)
    assert (whole / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((whole / "tensorboard").glob("events.*"))


# ---- folders that do not fit ----


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed(whole: Path) -> None:
    with pytest.raises(InputError, match="holds a run already: add --resume"):
        trainer(whole).run()


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"learning_rate": 1e-3}, r"learning_rate 0\.0005, not 0\.001"), ({"ratios": (4,)}, r"ratios .*, not \[4\]")],
)
def test_a_run_of_other_settings_is_refused_by_the_difference(
    whole: Path, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(InputError, match=f"other settings: {named}"):
        trainer(whole, **changes).run(resume=True)


def test_how_often_is_measured_and_saved_may_change(whole: Path) -> None:
    assert trainer(whole, evaluate_every=3, save_every=1).run(resume=True).step == 4


def test_settings_that_an_older_release_did_not_know_are_as_they_are_by_default(whole: Path) -> None:
    held = json.loads((whole / SETTINGS).read_text())
    del held["reconstruction"]
    (whole / SETTINGS).write_text(json.dumps(held))
    assert trainer(whole).run(resume=True).step == 4
    held["reconstruction"] = 0.25
    (whole / SETTINGS).write_text(json.dumps(held))
    with pytest.raises(InputError, match=r"reconstruction 0\.25, not 0\.0"):
        trainer(whole).run(resume=True)
    held["reconstruction"] = 0.0
    (whole / SETTINGS).write_text(json.dumps(held))


def test_a_checkpoint_of_another_stage_is_refused(whole: Path, tmp_path: Path) -> None:
    made = trainer(tmp_path, joint=False)
    made.run(minutes=0)
    (tmp_path / SETTINGS).unlink()
    with pytest.raises(InputError, match=r"has no .*reasoner.*another model or stage"):
        trainer(tmp_path).run(resume=True)


# ---- processes ----


@pytest.mark.timeout(900)  # three fresh processes, each of which imports everything
def test_two_processes_make_the_same_steps_as_one(tmp_path: Path) -> None:
    lessons = [
        lesson
        for step in (0, 1)
        for piece in trainer(tmp_path / "x", **CHANGES).stage.work(step, 0, 1)
        for lesson in piece.lessons
    ]
    # Each step has pieces that leave the compressor out, which is what makes spreading hard.
    assert {lesson.chunk is None for lesson in lessons} == {True, False}
    program = "tests.core.training.one_run"
    two_processes = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command, out in (([program], "one"), (two_processes, "two")):
        started = [sys.executable, "-m", *command, str(tmp_path / out)]
        run = subprocess.run(started, capture_output=True, text=True, check=False, env=environment, timeout=420)
        assert run.returncode == 0, run.stderr[-2000:]
    one, two = load_file(tmp_path / "one" / CHECKPOINT), load_file(tmp_path / "two" / CHECKPOINT)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-7, msg=name)
    for ours, theirs in zip(timeless(tmp_path / "one"), timeless(tmp_path / "two"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    chosen = settings(batch=3)
    two = cast(Accelerator, SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match="batch=3 cannot be shared by 2 processes: make it a multiple"):
        Trainer(supervised(chosen), chosen, tmp_path, two)


# ---- the learning rate ----


def test_the_learning_rate_rises_straight_and_falls_to_a_tenth() -> None:
    rates = [schedule(step, warmup=4, steps=24) for step in range(25)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[14] == pytest.approx(0.55)
    assert rates[24] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in pairwise(rates[4:]))
    assert schedule(0, warmup=0, steps=1) == 1.0
