"""Two workers of Ray make the bank that one process makes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from core.engine import Engine
from core.errors import ExtraMissingError
from core.memory_bank import MemoryBank
from core.verification import verify

from . import tiny_models
from .test_distributed_ingest import shards

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@needs_ray
@pytest.mark.timeout(900)  # Ray starts a dozen processes, and its workers give way to all others
def test_two_workers_make_the_same_bank_as_one_process(tmp_path: Path) -> None:
    model, texts = tmp_path / "model", tmp_path / "texts"
    tiny_models.causal_lm().save_pretrained(model)
    tiny_models.tokenizer().save_pretrained(model)
    texts.mkdir()
    long = topics["specialnames"] + topics["types"]
    for i in range(5):  # of two commits
        (texts / f"{i}.txt").write_text(f"{i} " + long[i * 17_000 : (i + 1) * 17_000])
    for name, on in (("alone", ()), ("bank", ("--engine", "ray", "--workers", "2"))):
        command = [sys.executable, "-m", "core", "ingest", texts, "--bank", tmp_path / name, "--chunk-tokens", "512"]
        command += ["--model", model, *on]
        # Ray gives a worker as many threads as it has CPUs, and on some processors the number of threads decides in
        # which order a product is summed: without a number of their own the two would differ in the last bits there.
        alike = {**os.environ, "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(command, capture_output=True, text=True, env=alike, cwd=Path(__file__).parents[1])
        assert ran.returncode == 0, ran.stderr
        assert "5 documents (0 unchanged)" in ran.stderr
    assert MemoryBank(path=tmp_path / "bank").digest() == MemoryBank(path=tmp_path / "alone").digest()
    one, two = shards(tmp_path / "alone"), shards(tmp_path / "bank")
    assert one == two
    assert len(one) >= 2  # so that both workers had something to do
    assert verify(tmp_path / "bank") == []
    assert not (tmp_path / "bank.parts").exists()


def test_without_ray_the_line_that_installs_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.ray_ingest import ingest_on_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with Engine.open(tmp_path / "bank") as engine, pytest.raises(ExtraMissingError, match=r"compressed-memory\[ray\]"):
        ingest_on_ray(engine, [])
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
