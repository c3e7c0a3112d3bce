"""What the supervised stages train, in each placement, and what they leave behind."""

from pathlib import Path

import pytest
import torch

from core.adapters import load_adapters
from core.compressor import MEMORY_EMBEDDING, Compressor
from core.errors import InputError, WeightsError
from core.settings import CompressionSettings, Placement
from core.training.material import Material
from core.training.supervised import Supervised

from .small_runs import backbone, material, settings, supervised, trainer

PLACEMENTS: tuple[Placement, ...] = ("in_place", "inserted", "inserted_copy")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_each_placement_is_trained_and_can_be_used_afterwards(placement: Placement, tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        placement=placement,
        steps=2,
        evaluate_every=9,
        reconstruction=0.5,
        continuation=0.5,
        learning_rate=0.01,
    )
    stage = made.stage
    assert isinstance(stage, Supervised)
    before = {name: p.detach().clone() for name, p in made.parameters.items()}
    made.run()
    changed = {name for name, p in made.parameters.items() if not torch.equal(p, before[name])}
    assert any(".compressor." in name for name in changed)
    assert ("compressor.memory_embedding" in changed) == (placement != "in_place")

    used, chunk = backbone(), list(range(300, 340))
    load_adapters(used, tmp_path / "adapters", placement)
    compressor = Compressor(used, CompressionSettings(placement=placement, ratio=4))
    (untrained,) = compressor.compress([chunk])
    compressor.load_weights(tmp_path / "adapters")
    stage.compressor.settings = compressor.settings
    (slots,), (expected,) = compressor.compress([chunk]), stage.compressor.compress([chunk])
    # Adapters are kept in bf16, three digits.
    torch.testing.assert_close(slots.keys, expected.keys, atol=0.05, rtol=0.05)
    assert torch.equal(slots.keys, untrained.keys) == (placement == "in_place")


def test_a_memory_embedding_that_is_not_there_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    supervised(settings(placement="inserted")).save(tmp_path)
    model = backbone()
    other = Compressor(model, CompressionSettings(placement="inserted_copy"))
    before = other.memory_embedding.detach().clone()
    other.load_weights(tmp_path)  # trained for another placement, whose adapter is not loaded either
    assert torch.equal(other.memory_embedding, before)
    (tmp_path / MEMORY_EMBEDDING).unlink()
    with pytest.raises(WeightsError, match=r"memory_embedding\.safetensors cannot be read"):
        Compressor(model, CompressionSettings(placement="inserted")).load_weights(tmp_path)


def test_shares_of_pool_text_need_a_pool() -> None:
    chosen = settings(reconstruction=0.5)
    poor = Material(material().train, material().held_out, ())
    with pytest.raises(InputError, match="0 pool paragraphs"):
        Supervised(backbone(), chosen, poor)
    Supervised(backbone(), settings(), poor)


def test_a_step_has_the_share_of_pool_text_that_was_asked_for() -> None:
    stage = supervised(settings(batch=4, reconstruction=0.25, continuation=0.25))
    kinds = [piece.lessons[0].turns[0].kind for step in range(4) for piece in stage.work(step, 0, 1)]
    assert [kinds.count(kind) for kind in ("reply", "reconstruction", "continuation")] == [8, 4, 4]


def test_processes_share_a_step_and_weigh_it_alike() -> None:
    stage = supervised(settings(batch=4))
    whole = stage.work(3, 0, 1)
    shared = [stage.work(3, process, 2) for process in (0, 1)]
    assert [shared[i % 2][i // 2] for i in range(4)] == list(whole)
    assert len({piece.tokens_in_step for piece in whole}) == 1
    with torch.no_grad():
        measured = [stage(piece) for piece in whole]
    assert sum(found["tokens"] for _, found in measured) == whole[0].tokens_in_step
    # The pieces' losses sum to the mean over the step's tokens.
    nats = sum(float(stage._loss(piece.lessons, piece.ratio)[0].detach()) for piece in whole)
    assert sum(float(loss) for loss, _ in measured) == pytest.approx(nats / whole[0].tokens_in_step, rel=1e-4)


def test_lessons_that_share_a_pass_teach_the_same() -> None:
    """Losses and gradients in fp32, of a step of all kinds of lessons: read one by one, and together."""
    found = {}
    for together in (0, 2000):
        stage = supervised(
            settings(batch=24, forms=("raw", "compressed"), continuation=0.1, ratios=(2, 4), together=together)
        )
        pieces = stage.work(0, 0, 1)
        losses = [stage(piece) for piece in pieces]
        loss = sum((loss for loss, _ in losses), torch.zeros(()))
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in stage.parameters() if p.grad is not None])
        found[together] = loss.detach(), gradients, sum(measured["tokens"] for _, measured in losses)
        groups = [(len(piece.lessons), piece.lessons[0].chunk is None) for piece in pieces]
    assert max(size for size, none_open in groups if none_open) > 1
    assert {1} < {size for size, none_open in groups if not none_open}
    assert sum(size for size, _ in groups) == 24
    torch.testing.assert_close(found[2000][0], found[0][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[2000][1], found[0][1], rtol=1e-3, atol=1e-6)
    assert found[2000][2] == found[0][2]


def test_without_joint_training_the_reasoner_stays_as_it_is(tmp_path: Path) -> None:
    made = trainer(tmp_path, joint=False, steps=1, evaluate_every=9)
    assert {name.split(".lora_")[1].split(".")[1] for name in made.parameters if "lora" in name} == {"compressor"}


def test_a_compressor_alone_learns_from_every_lesson_through_slots() -> None:
    stage = supervised(settings(joint=False, batch=1))
    for step in range(len(stage._lessons)):
        (piece,) = stage.work(step, 0, 1)
        assert piece.lessons[0].chunk is not None
    loss, _ = stage(piece)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in stage.parameters())


@pytest.mark.parametrize("changes", [{"forms": ("raw", "compressed")}, {"noted": 0.5}])
def test_a_compressor_alone_is_given_nothing_that_it_cannot_learn_from(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="joint=False trains the compressor alone"):
        settings(joint=False, **changes)
    settings(joint=True, **changes)
    settings(joint=False, stage="reasoner", **changes)


def test_what_is_held_out_is_measured_for_each_form_and_objective() -> None:
    stage = supervised(settings(forms=("raw", "compressed"), reconstruction=0.2))
    with torch.no_grad():
        measured = stage.evaluate()
    assert set(measured) == {"loss_raw", "loss_compressed", "loss_reconstruction", "loss_continuation"}
    assert all(value > 0 for value in measured.values())
