"""The stage on a tiny random model: where gradients go, what a step depends on, and that a reward rises."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from core.embedder import Embedder
from core.errors import InputError
from core.teacher_forcing import Row, target_log_probs
from core.training.group import Group, Scorer, multi_level_reward
from core.training.material import Material
from core.training.rl import Piece, Reinforce, together
from core.training.rollouts import Trajectory
from core.training.trainer import CHECKPOINT, METRICS, Trainer

from ..evaluation.made import MILL, POOL
from .babbler import babbler, gradients, material, one_step, settings


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def stage(embedder: Embedder, reward: Scorer | None = None, **changes: object) -> Reinforce:
    model = babbler("compressor", "reasoner", scale=0.1, adapters=0.05)
    return Reinforce(model, settings(**changes), material(), embedder, reward)


def ranked(gold: Sequence[str], rollouts: Sequence[Trajectory]) -> Group:
    """Reward each rollout more than the one before, because what a random model writes earns all of them the same."""
    group = multi_level_reward(gold, rollouts)
    return replace(group, outcomes=tuple(place / len(rollouts) for place in range(len(rollouts))))


def test_gradients_reach_compressor_and_reasoner_and_nothing_else(embedder: Embedder) -> None:
    reinforce = stage(embedder, ranked)
    one_step(reinforce, reinforce.work(0, 0, 1))
    reached = gradients(reinforce)
    for role in ("compressor", "reasoner"):
        assert any(f".{role}." in name for name in reached), role
    assert all(".compressor." in name or ".reasoner." in name for name in reached)


def test_an_answer_trains_the_reasoner_only(embedder: Embedder) -> None:
    reinforce = stage(embedder)
    answers = [piece for piece in reinforce.work(0, 0, 1) if piece.chunk is None]
    assert answers
    assert all(sample.turn.text.startswith("<answer>") for piece in answers for sample in piece.samples)
    # None of them is right, so none is better than another: give each an advantage.
    praised = [replace(p, samples=tuple(replace(s, advantage=1.0) for s in p.samples)) for p in answers]
    one_step(reinforce, praised)
    assert gradients(reinforce)
    assert all(".reasoner." in name for name in gradients(reinforce))


def test_the_raw_form_opens_no_slots(embedder: Embedder) -> None:
    reinforce = stage(embedder, forms=("raw",))
    pieces = reinforce.work(0, 0, 1)
    assert len(pieces) > 1
    assert all(piece.chunk is None for piece in pieces)
    one_step(reinforce, pieces)
    assert all(".reasoner." in name for name in gradients(reinforce))


def test_the_first_update_is_on_policy_and_at_the_reference(embedder: Embedder) -> None:
    reinforce = stage(embedder)
    measured = one_step(reinforce, reinforce.work(0, 0, 1))
    assert measured["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert measured["clipped"] == 0.0
    assert measured["kl"] == pytest.approx(0.0, abs=1e-6)
    assert 1 <= measured["reply_tokens"] <= 8
    assert {"outcome", "memory", "callback", "format", "reward", "turns"} <= set(measured)


def test_the_divergence_is_from_the_start_and_not_from_the_last_step(embedder: Embedder) -> None:
    reinforce = stage(embedder)
    with torch.no_grad():
        for name, parameter in reinforce.named_parameters():
            if ".reasoner." in name:
                parameter += 0.05
    measured = one_step(reinforce, reinforce.work(0, 0, 1))
    assert measured["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert measured["kl"] > 1e-3
    without = stage(embedder, kl_weight=0.0)
    assert one_step(without, without.work(0, 0, 1))["kl"] == 0.0


def test_the_loss_at_the_start_is_minus_the_mean_advantage(embedder: Embedder) -> None:
    # At ratio 1 a turn's objective is its advantage.
    reinforce = stage(embedder, ranked)
    pieces = reinforce.work(0, 0, 1)
    advantages = [sample.advantage for piece in pieces for sample in piece.samples]
    assert any(advantages)
    assert one_step(reinforce, pieces)["loss"] == pytest.approx(-sum(advantages) / 8, abs=1e-4)


def test_two_processes_do_together_what_one_does(embedder: Embedder) -> None:
    alone = stage(embedder, batch=2)
    measured = one_step(alone, alone.work(1, 0, 1))
    together = stage(embedder, batch=2)
    parts = [one_step(together, together.work(1, process, 2)) for process in (0, 1)]
    for name, value in measured.items():
        assert sum(part.get(name, 0.0) for part in parts) == pytest.approx(value, abs=1e-4), name
    assert gradients(alone).keys() == gradients(together).keys()
    for name, gradient in gradients(alone).items():
        torch.testing.assert_close(gradients(together)[name], gradient, atol=1e-4, rtol=1e-3)


def test_a_step_depends_on_nothing_but_parameters_and_number(embedder: Embedder) -> None:
    reinforce = stage(embedder)
    first = reinforce.work(3, 0, 1)
    reinforce.work(4, 0, 1)
    reinforce.evaluate()
    again, other = reinforce.work(3, 0, 1), reinforce.work(4, 0, 1)
    assert written(first) == written(again) != written(other)


def written(pieces: Sequence[Piece]) -> list[tuple[int, ...]]:
    return [sample.turn.written for piece in pieces for sample in piece.samples]


def test_rollouts_that_opened_nothing_have_a_loss_of_nothing(embedder: Embedder) -> None:
    def nothing_opened(gold: Sequence[str], rollouts: Sequence[Trajectory]) -> Group:
        return multi_level_reward(gold, [Trajectory((), "")] * len(rollouts))

    reinforce = stage(embedder, nothing_opened)
    (piece,) = reinforce.work(0, 0, 1)
    measured = one_step(reinforce, [piece])
    assert (measured["loss"], measured["outcome"], measured["turns"], measured["ratio"]) == (0.0, 0.0, 0.0, 1.0)
    assert not gradients(reinforce)


def test_where_only_answers_are_sampled_only_answers_are_learned(embedder: Embedder) -> None:
    reinforce = stage(embedder, ranked, sampled="answers", forms=("raw",))
    (piece,) = reinforce.work(0, 0, 1)
    assert len(piece.samples) == 8
    assert all(sample.turn.text.startswith("<answer>") for sample in piece.samples)
    assert len({sample.turn.prompt for sample in piece.samples}) == 1
    measured = one_step(reinforce, [piece])
    assert measured["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert gradients(reinforce)


def test_replies_that_are_alike_are_read_once_and_learned_each(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()

    def counted(backbone, rows, *args):
        read.append(len(rows))
        return target_log_probs(backbone, rows, *args)

    def apart(self: Reinforce, piece: Piece) -> list[torch.Tensor]:
        rows = [Row(sample.turn.prompt, sample.turn.written) for sample in piece.samples]
        return target_log_probs(self.backbone, rows)

    reinforce = stage(embedder, sampled="answers", forms=("raw",))
    (piece,) = reinforce.work(0, 0, 1)
    told = piece.samples[:3]
    alike = replace(piece, samples=tuple(replace(told[row % 3], advantage=float(row - 3)) for row in range(8)))
    monkeypatch.setattr("core.training.rl.target_log_probs", counted)
    measured = one_step(reinforce, [alike])
    assert read == [len({sample.turn.written for sample in told})]
    assert read[0] > 1
    found = gradients(reinforce)
    reinforce.zero_grad()
    monkeypatch.setattr(Reinforce, "_log_probs", apart)
    assert one_step(reinforce, [alike]) == pytest.approx(measured, abs=1e-4)
    for name, gradient in gradients(reinforce).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3)


def test_questions_that_share_a_pass_teach_the_same(embedder: Embedder) -> None:
    """Losses, measures and gradients of a step whose answers are read question by question, and together."""
    found = {}
    for tokens in (0, 100_000):
        reinforce = stage(embedder, ranked, sampled="answers", forms=("raw", "compressed"), batch=4, together=tokens)
        pieces = reinforce.work(0, 0, 1)
        found[tokens] = len(pieces), one_step(reinforce, pieces), gradients(reinforce)
    assert (found[0][0], found[100_000][0]) == (4, 1)
    assert found[100_000][1] == pytest.approx(found[0][1], abs=1e-4)
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(found[100_000][2][name], gradient, atol=1e-4, rtol=1e-3)


def test_no_more_is_joined_than_a_pass_has_tokens_for_and_nothing_that_a_chunk_is_open_for(embedder: Embedder) -> None:
    reinforce = stage(embedder, ranked, sampled="answers", forms=("raw",), batch=4)
    pieces = reinforce.work(0, 0, 1)
    size = max(len({s.turn.written for s in p.samples}) * len(s.turn.prompt) for p in pieces for s in p.samples)
    opened = [replace(piece, chunk="A text.") for piece in pieces]
    assert together(opened, 100_000) == opened
    for tokens in (1, 3 * size, 100_000):
        joined = together(pieces, tokens)
        assert [s for piece in joined for s in piece.samples] == [s for piece in pieces for s in piece.samples]
    assert len(together(pieces, 1)) == 4 > len(together(pieces, 3 * size)) > len(together(pieces, 100_000)) == 1


def test_where_the_answer_is_withheld_it_is_rightly_left_unanswered(embedder: Embedder) -> None:
    (mill,) = MILL.gold
    near = mill.model_copy(update={"sentences": (*mill.sentences, "Its wheel turns to the left.")})
    question = MILL.model_copy(update={"paragraphs": (near,)})
    model, asked = babbler("reasoner", scale=0.1), Material((question,), (question,), POOL)
    reinforce = Reinforce(model, settings(withheld=0.5, batch=8, forms=("raw",)), asked, embedder)
    drawn = [reinforce._drawn(place) for place in range(8)]
    assert 0 < sum(task.absent for task in drawn) < 8
    for task in drawn:
        said = any(answer in document.text for answer in question.answers for document in task.documents)
        assert said != task.absent
        assert any("Its wheel turns to the left." in document.text for document in task.documents)
    assert reinforce.evaluate()["declined_withheld_raw"] in (0.0, 1.0)
    with pytest.raises(InputError, match=r"absent=0\.6 and withheld=0\.6 exceed 1"):
        stage(embedder, absent=0.6, withheld=0.6)


def test_without_its_paragraphs_a_question_is_rightly_left_unanswered(embedder: Embedder) -> None:
    asked = list[tuple[str, ...]]()

    def reward(gold: Sequence[str], rollouts: Sequence[Trajectory]) -> Group:
        asked.append(tuple(gold))
        return multi_level_reward(gold, rollouts)

    reinforce = stage(embedder, reward, absent=0.5, batch=8, forms=("raw",))
    drawn = [reinforce._drawn(place) for place in range(8)]
    assert 0 < sum(task.absent for task in drawn) < 8
    for task in drawn:
        assert any("Jonas Ark" in document.text for document in task.documents) != task.absent
        assert len(task.documents) == 4
    reinforce.work(0, 0, 1)
    assert asked == [() if task.absent else task.question.answers for task in drawn]
    asked.clear()
    measured = reinforce.evaluate()
    assert asked == [drawn[0].question.answers, ()]
    assert measured["declined_raw"] in (0.0, 1.0)


def test_an_answer_is_worth_what_the_settings_say(embedder: Embedder) -> None:
    part = [Trajectory((), "Jonas")]
    worth = [
        stage(embedder, None, outcome=outcome)._reward(("Jonas Ark",), part).outcomes
        for outcome in ("exact_match", "f1")
    ]
    assert worth == [(0.0,), (pytest.approx(2 / 3),)]


def failing_at(call: int) -> Scorer:
    """Return a reward that raises when it is asked for the ``call``-th time; the first is the measurement at step 0."""
    asked = 0

    def reward(gold: Sequence[str], rollouts: Sequence[Trajectory]) -> Group:
        nonlocal asked
        asked += 1
        if asked == call:
            raise ZeroDivisionError("no words in the gold answer")
        return multi_level_reward(gold, rollouts)

    return reward


def trained(embedder: Embedder, folder: Path, reward: Scorer = multi_level_reward) -> None:
    changes = {"steps": 3, "warmup": 0, "learning_rate": 1e-2, "evaluate_every": 3, "save_every": 1}
    reinforce = stage(embedder, reward, **changes)
    Trainer(reinforce, reinforce.settings, folder, Accelerator(cpu=True)).run(resume=True)


def test_an_error_in_a_reward_stops_the_run_and_a_resumed_run_is_the_same_run(
    embedder: Embedder, tmp_path: Path
) -> None:
    trained(embedder, tmp_path / "whole")
    with pytest.raises(ZeroDivisionError, match="no words in the gold answer"):
        trained(embedder, tmp_path / "stopped", failing_at(3))
    stopped = load_file(tmp_path / "stopped" / CHECKPOINT)
    trained(embedder, tmp_path / "stopped")
    whole, resumed = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0)
    assert any(not torch.equal(stopped[name], tensor) for name, tensor in whole.items())
    assert records(tmp_path / "whole") == records(tmp_path / "stopped")


def records(folder: Path) -> list[dict[str, float]]:
    lines = (folder / METRICS).read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def test_held_out_questions_are_measured_the_same_each_time(embedder: Embedder) -> None:
    reinforce = stage(embedder, forms=("raw", "compressed"))
    measured = reinforce.evaluate()
    assert set(measured) == {
        f"{name}_{form}" for name in ("exact_match", "f1", "reward") for form in ("raw", "compressed")
    }
    assert all(0 <= value <= 2 for value in measured.values())
    assert reinforce.evaluate() == measured


def test_a_reward_in_reach_rises(embedder: Embedder) -> None:
    model = babbler("compressor", "reasoner", scale=0.1)
    # From source text, where what is noted hangs on the words that are written.
    changes = {"outcome_share": 0.2, "kl_weight": 0.0, "max_steps": 1, "forms": ("raw",)}
    reinforce = Reinforce(model, settings(**changes), material(), embedder)
    optimizer = torch.optim.AdamW([p for p in reinforce.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0)
    noted = []
    for step in range(20):
        noted.append(one_step(reinforce, reinforce.work(step, 0, 1))["memory"])
        optimizer.step()
        optimizer.zero_grad()
    assert sum(noted[:3]) / 3 < 0.7
    assert sum(noted[-3:]) / 3 > 0.8
