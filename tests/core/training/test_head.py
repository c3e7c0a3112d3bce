"""What holds of every stage that trains a head of the embedder."""

import sys
from pathlib import Path

import pytest
import torch

from core.adapters import save_adapters
from core.embedder import Embedder
from core.engine import Engine
from core.training import __main__ as command_line
from core.training.evidence import EvidenceTraining
from core.training.extraction import ExtractionTraining
from core.training.material import Material
from core.training.trainer import Trainer, accelerator

from .small_runs import backbone, material, model_folder, settings
from .test_evidence import SINGLE, YEAST

STAGES = {"evidence": EvidenceTraining, "extractor": ExtractionTraining}


def stage_of(stage: str, embedder: Embedder, few: Material, **changes: object) -> EvidenceTraining | ExtractionTraining:
    torch.manual_seed(0)
    chosen = settings(**{"stage": stage, "forms": ("raw",), "evaluate_every": 100, **changes})
    return STAGES[stage](backbone(), embedder, chosen, few)


@pytest.mark.parametrize("stage", STAGES)
def test_processes_share_a_step(stage: str, embedder: Embedder, few: Material) -> None:
    training = stage_of(stage, embedder, few, batch=20)
    with torch.no_grad():
        whole = sum(float(training(piece)[0]) for piece in training.work(1, 0, 1))
        shared = [training(piece) for process in (0, 1) for piece in training.work(1, process, 2)]
    assert sum(float(loss) for loss, _ in shared) == pytest.approx(whole, rel=1e-3)
    assert sum(measured["examples"] for _, measured in shared) == 20


@pytest.mark.parametrize("stage", STAGES)
def test_resumed_it_is_the_same_run(stage: str, embedder: Embedder, few: Material, tmp_path: Path) -> None:
    changes = {"steps": 3, "batch": 4, "save_every": 1}
    whole = stage_of(stage, embedder, few, **changes)
    Trainer(whole, whole.settings, tmp_path / "whole", accelerator()).run()
    first = stage_of(stage, embedder, few, **changes)
    assert Trainer(first, first.settings, tmp_path / "parts", accelerator()).run(minutes=1e-9).step < 3
    rest = stage_of(stage, embedder, few, **changes)
    Trainer(rest, rest.settings, tmp_path / "parts", accelerator()).run(resume=True)
    for (name, one), other in zip(whole.named_parameters(), rest.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_trains_a_head_that_an_engine_uses(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, train = model_folder(), tmp_path / "data" / "train"
    train.mkdir(parents=True)
    (train / "few.jsonl").write_text("\n".join(q.model_dump_json() for q in material().train[:24]))
    out, start = tmp_path / "run", tmp_path / "start"
    save_adapters(backbone(), (), start, "in_place")
    (start / "gate").mkdir()
    (start / "gate" / "head.bin").write_bytes(b"as it was")
    options = ("--stage", stage, "--data", tmp_path / "data", "--out", out, "--model", model, "--adapters", start)
    monkeypatch.setattr(sys, "argv", ["core.training", *map(str, (*options, "--steps", 2, "--batch", 4, "--rank", 2))])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert not ended.value.code
    assert (out / "adapters" / "gate" / "head.bin").read_bytes() == b"as it was"
    with Engine.open(model=model, adapters=str(out / "adapters")) as engine:
        used = {"evidence": engine.embedder.tagger, "extractor": engine.embedder.extractor}
        assert used[stage] == out / "adapters" / stage
        asked, text = SINGLE.question, YEAST.document
        found = {
            "evidence": engine.embedder.evidence(asked, (), text),
            "extractor": engine.embedder.extract(asked, (text,)),
        }
        assert found[stage]
