"""What holds of every stage that trains a head of the embedder."""

from pathlib import Path

import pytest
import torch

from core.embedder import Embedder
from core.training.evidence import EvidenceTraining
from core.training.extraction import ExtractionTraining
from core.training.material import Material
from core.training.trainer import Trainer, accelerator

from .small_runs import backbone, material, settings

STAGES = {"evidence": EvidenceTraining, "extractor": ExtractionTraining}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def few() -> Material:
    whole = material()
    return Material(whole.train[:24], whole.train[24:40], ())


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
