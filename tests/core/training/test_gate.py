"""The gate's stage: its tuples, its measures, what it learns and what it leaves behind."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.adapters import NO_ADAPTERS, load_adapters
from core.embedder import Embedder
from core.errors import InputError
from core.questions import Question
from core.slot_gate import ProbeGate, SlotGate, load_gate
from core.training.__main__ import prepare_adapters
from core.training.gate import GateTraining, chunk_cosines, hardest, recall_at
from core.training.haystacks import Haystack
from core.training.material import Material
from core.training.settings import GateKind, TrainingSettings
from core.training.trainer import Trainer, accelerator
from tests.tiny_models import backbone

from .small_runs import material, settings

KINDS: tuple[GateKind, ...] = ("prompt", "probes")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def stage_of(embedder: Embedder, chosen: TrainingSettings, adapters: Path | None = None) -> GateTraining:
    torch.manual_seed(0)
    model = backbone()
    prepare_adapters(model, ("gate",), chosen, str(adapters or NO_ADAPTERS))
    return GateTraining(model, embedder, chosen, marked(), adapters)


def marked() -> Material:
    """Return questions whose gold chunks end in a mark, which slots show and the similarity hardly does."""

    def mark(question: Question) -> Question:
        paragraphs = tuple(
            p.model_copy(update={"sentences": (*p.sentences, "zebra zebra zebra zebra zebra.")}) if p.support else p
            for p in question.paragraphs
        )
        return question.model_copy(update={"paragraphs": paragraphs})

    whole = material()
    return Material(tuple(map(mark, whole.train[:60])), tuple(map(mark, whole.train[60:68])), whole.pool)


def gate_settings(**changes: object) -> TrainingSettings:
    return settings(**{"stage": "gate", "haystack": 6, "scored": 4, "ratios": (4,), "steps": 2, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_teach_the_gate_what_the_embedding_does_not_say(
    embedder: Embedder, tmp_path: Path, kind: GateKind
) -> None:
    chosen = gate_settings(gate=kind, steps=16, learning_rate=0.01, evaluate_every=100, save_every=100)
    stage = stage_of(embedder, chosen)
    with torch.no_grad():
        before = stage.evaluate()
    assert before["recall_at_1"] == before["recall_at_1_cosine"]  # it starts where the retriever is
    Trainer(stage, chosen, tmp_path, accelerator()).run()
    with torch.no_grad():
        after = stage.evaluate()
    assert after["loss"] < 0.8 * before["loss"]

    # What was saved can be used: the same kind, the same scores but for bf16, calibrated.
    model = backbone()
    load_adapters(model, tmp_path / "adapters", "in_place")
    loaded = load_gate(model, tmp_path / "adapters")
    assert type(loaded) is (ProbeGate if kind == "probes" else SlotGate)
    again = stage_of(embedder, chosen, tmp_path / "adapters")
    with torch.no_grad():
        calibrated = again.evaluate()
    assert calibrated["recall_at_1"] == pytest.approx(after["recall_at_1"], abs=0.13)
    assert calibrated["loss"] <= after["loss"] + 0.05
    other: GateKind = "prompt" if kind == "probes" else "probes"
    with pytest.raises(InputError, match=f"gate='{other}'"):
        stage_of(embedder, gate_settings(gate=other), tmp_path / "adapters")


def test_a_step_scores_every_positive_and_the_hardest_others() -> None:
    holds = (False, True, False, False, True, False)
    cosines = np.array([0.9, 0.1, 0.5, 0.7, 0.2, 0.8], dtype=np.float32)
    assert hardest(holds, cosines, 4) == [4, 1, 0, 5]
    assert hardest(holds, cosines, 9) == [4, 1, 0, 5, 3, 2]


def test_recall_is_the_share_of_what_is_held_among_the_first() -> None:
    scores, holds = torch.tensor([0.1, 0.9, 0.5, 0.3]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert [recall_at(k, scores, holds) for k in (1, 2, 3, 4)] == [0.0, 0.5, 0.5, 1.0]


def test_cosines_are_those_of_use(embedder: Embedder) -> None:
    chunks = ("Anna Holm kept the lighthouse at Skagen.", "Bread needs flour.", "A museum in Aalborg shows ships.")
    haystack = Haystack("Who kept the lighthouse?", (), chunks, (True, False, False))
    expected = embedder.embed(chunks) @ embedder.embed([haystack.question])[0]
    np.testing.assert_allclose(chunk_cosines(haystack, embedder), expected, atol=5e-3)
    noted = Haystack(haystack.question, ("Ships are in Aalborg.",), chunks, haystack.holds)
    assert chunk_cosines(noted, embedder)[2] > chunk_cosines(haystack, embedder)[2]


def test_processes_share_a_step_and_weigh_it_alike(embedder: Embedder) -> None:
    stage = stage_of(embedder, gate_settings(batch=4))
    whole, shared = stage.work(1, 0, 1), [stage.work(1, process, 2) for process in (0, 1)]
    assert [shared[i % 2][i // 2] for i in range(4)] == list(whole)
    assert {piece.chunks_in_step for piece in whole} == {16}
    with torch.no_grad():
        assert sum(stage(piece)[1]["chunks"] for piece in whole) == 16
