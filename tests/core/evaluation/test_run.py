"""The command of the documentation, as typed, on a little data with the real models."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.adapters import save_adapters
from core.compressor import Compressor
from core.evaluation.__main__ import FORMATS, main
from core.evaluation.question_files import READERS
from core.settings import CompressionSettings

from ..training.small_runs import backbone, model_folder
from .made import POOL, QUESTIONS

QUICK = "raw:max_steps=1,update_tokens=16,answer_tokens=8"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    for name, lines in (("asked.jsonl.gz", QUESTIONS), ("pool.jsonl.gz", POOL)):
        with gzip.open(folder / name, "wt") as file:
            file.writelines(line.model_dump_json() + "\n" for line in lines)
    return folder / "asked.jsonl.gz", folder / "pool.jsonl.gz"


def command(files: tuple[Path, Path], out: Path, *more: object) -> list[str]:
    data, pool = files
    return [str(part) for part in ("--data", data, "--pool", pool, "--out", out, *more)]


def test_a_run_writes_results_goes_on_and_refuses_other_settings(files, tmp_path: Path, capsys) -> None:
    out = tmp_path / "results"
    assert main(command(files, out, "--documents", 4, 8, "--systems", QUICK, "bm25:passages=2", "--questions", 1)) == 0
    whole = json.loads((out / "results.json").read_text())
    assert [(c["system"], c["documents"], c["questions"]) for c in whole["cells"]] == [
        (QUICK, 4, 1),
        ("bm25:passages=2", 4, 1),
        (QUICK, 8, 1),
        ("bm25:passages=2", 8, 1),
    ]
    for question in whole["questions"]:
        assert question["peak_bytes"] > 10**8
        assert question["asking"]["tokens_written"] > 0
        assert question["scores"].keys() == {"exact_match", "f1", "sub_exact_match"}
        assert question["gold_read"] > 0
    assert "| 8 |" in capsys.readouterr().out
    assert len(list(out.glob("*.png"))) == 5
    before = (out / "records.jsonl").read_text()

    more = command(files, out, "--documents", 4, "--systems", "bm25:passages=2", "--questions", 2)
    assert main(more) == 0
    after = (out / "records.jsonl").read_text()
    assert after.startswith(before)
    assert after.count("\n") == before.count("\n") + 1

    assert main([*more, "--seed", "1"]) == 2
    assert "error: " in (said := capsys.readouterr().err)
    assert "seed 0, now 1" in said


def test_a_compressors_adapter_is_used_for_its_own_placement(files, tmp_path: Path, capsys) -> None:
    model = backbone()
    model.add_adapter("compressor", rank=2, alpha=4)
    save_adapters(model, ["compressor"], tmp_path / "adapters", "inserted_copy")
    Compressor(model, CompressionSettings(placement="inserted_copy")).save_weights(tmp_path / "adapters")
    chosen = ("--model", model_folder(), "--adapters", tmp_path / "adapters", "--documents", 6, "--questions", 1)
    assert main(command(files, tmp_path / "out", *chosen, "--systems", "compressed")) == 2
    assert "adapter is for inserted_copy: add placement=inserted_copy to the name" in capsys.readouterr().err
    both = ("compressed:placement=in_place", "compressed:placement=inserted_copy")
    assert main(command(files, tmp_path / "out", *chosen, "--systems", *both)) == 2
    assert "name one placement for all systems of the run" in capsys.readouterr().err
    for name in both:  # that of the adapter with it, the other without
        assert main(command(files, tmp_path / name[-4:], *chosen, "--systems", name)) == 0
    weights = {json.loads((tmp_path / name[-4:] / "run.json").read_text())["weights"] for name in both}
    assert len(weights) == 2
    assert main(command(files, tmp_path / "out", *chosen, "--systems", "raw")) == 0


def test_one_haystack_is_shared_and_the_time_limit_ends_in_good_order(files, tmp_path: Path, capsys) -> None:
    shared = command(files, tmp_path, "--documents", 6, "--systems", "bm25:passages=2", "--shared-haystack")
    assert main([*shared, "--minutes", "0"]) == 0
    assert "The time is up: 0 results" in capsys.readouterr().err
    assert main(shared) == 0
    (cell,) = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert (cell["questions"], cell["documents"]) == (2, 6)


@pytest.mark.parametrize("lacking", ["absent", "withheld"])
def test_without_what_says_it_what_is_declined_is_reported(files, tmp_path: Path, capsys, lacking: str) -> None:
    absent = command(files, tmp_path, "--documents", 6, "--systems", "bm25:passages=2", QUICK, "--questions", 2)
    assert main([*absent, f"--{lacking}"]) == 0
    assert "declined" in capsys.readouterr().out
    whole = json.loads((tmp_path / "results.json").read_text())
    if lacking == "absent":
        assert [cell["gold_read"] for cell in whole["cells"]] == [None, None]
    for cell in whole["cells"]:
        empty = [q["prediction"] == "" for q in whole["questions"] if q["system"] == cell["system"]]
        assert cell["declined"]["mean"] >= sum(empty) / 2
    assert main(absent) == 2
    assert f"{lacking} True, now False" in capsys.readouterr().err


def test_what_is_left_out_is_one_of_two_things(files, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command(files, tmp_path, "--systems", "bm25"), "--absent", "--withheld"])
    assert "--withheld: not allowed with argument --absent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--documents", "400"], "the pool has"),
        (["--systems", "oracle"], "there is no system 'oracle'"),
        (["--shared-haystack", "--gap", "2"], "leave out --shared-haystack"),
        (["--shared-haystack", "--absent"], "leave out --shared-haystack"),
        (["--gap", "2", "--absent"], "--gap and --absent do not go together: give one of them"),
        (["--shared-haystack", "--withheld"], "--withheld is about the evidence of one question"),
        (["--offset", "7"], "with --offset 7"),
        (["--pool", "/nowhere.jsonl"], "/nowhere.jsonl is no file"),
        (["--data", "/nowhere.jsonl"], "/nowhere.jsonl is no file"),
    ],
)
def test_what_cannot_be_run_is_one_line(files, tmp_path: Path, capsys, more: list[str], said: str) -> None:
    assert main([*command(files, tmp_path / "out", "--systems", "bm25", "--documents", "5"), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


def test_nothing_to_ask_is_said(tmp_path: Path, capsys) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert "give --data FILE, or --needles single" in capsys.readouterr().err


def test_ctrl_c_leaves_what_was_answered_and_exit_code_130(files, tmp_path: Path) -> None:
    arguments = command(files, tmp_path, "--documents", 4, 5, 6, 7, 8, "--systems", "bm25", "memagent")
    process = subprocess.Popen(
        [sys.executable, "-m", "core.evaluation", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    records = tmp_path / "records.jsonl"
    while process.poll() is None and not (records.is_file() and records.stat().st_size):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Interrupted: " in error
    assert "Traceback" not in error
    done = records.read_text().count("\n")
    assert len(json.loads((tmp_path / "results.json").read_text())["questions"]) == done >= 1


def test_the_command_line_knows_every_form_of_data() -> None:
    assert tuple(READERS) == FORMATS
