"""The rewards of a question's rollouts and their advantages, worked by hand."""

import pytest

from core.training.group import Group, multi_level_reward
from core.training.rewards import StepReward
from core.training.rollouts import SampledTurn, Trajectory

from ..evaluation.made import MILL


def turn(
    text: str = "<update>x</update>", chunk: str | None = "c", before: str = "", after: str = "", recalled: str = ""
) -> SampledTurn:
    return SampledTurn((1,), (2,), (-1.0,), text, chunk, before, after, recalled)


ANSWER = turn("<answer>Jonas Ark</answer>", None, "Jonas Ark", "Jonas Ark")


def test_turns_and_outcomes_are_rewarded() -> None:
    found = Trajectory((turn(after="It is owned by Jonas Ark."), ANSWER), "Jonas Ark")
    called = Trajectory((turn("<update>x", recalled="Jonas met Ark."), turn("<update>", after="Mr Hill")), "")
    group = multi_level_reward(MILL.answers, [found, called])
    assert group.outcomes == (1.0, 0.0)
    assert group.steps == (
        (StepReward(1.0, 0.0, 1.0), StepReward(0.0, 0.0, 1.0)),
        (StepReward(0.0, 1.0, 0.0), StepReward(0.5, 0.0, 0.0)),
    )


def test_an_answer_is_compared_with_answers_and_not_with_updates() -> None:
    group = Group(
        (Trajectory((turn(), ANSWER), "Jonas Ark"), Trajectory((turn(), turn(), ANSWER), "x"), Trajectory((), "")),
        (1.0, 0.0, 0.0),
        (
            (StepReward(1.0, 0.0, 0.0), StepReward(0.0, 0.0, 1.0)),
            (StepReward(0.0, 0.0, 0.0), StepReward(0.5, 0.0, 0.0), StepReward(0.0, 0.0, 0.0)),
            (),
        ),
    )
    outcome = (2 / 3, -1 / 3)
    # Updates: step 0 has 1 and 0, step 1 has 0.5 alone. Answers have 1 and 0.
    first, second, third = group.advantages(0.8)
    assert first == pytest.approx([0.8 * outcome[0] + 0.2 * 0.5, 0.8 * outcome[0] + 0.2 * 0.5])
    assert second == pytest.approx([0.8 * outcome[1] - 0.2 * 0.5, 0.8 * outcome[1], 0.8 * outcome[1] - 0.2 * 0.5])
    assert third == []


def test_means_are_over_what_they_are_of() -> None:
    group = Group(
        (Trajectory((turn(), ANSWER), "Jonas Ark"), Trajectory((turn(),), "")),
        (1.0, 0.0),
        ((StepReward(1.0, 0.5, 1.0), StepReward(form=1.0)), (StepReward(0.0, 0.0, 0.0),)),
    )
    means = group.mean_rewards(0.8)
    assert means == pytest.approx(
        {
            "outcome": 0.5,
            "memory": 0.5,
            "callback": 0.25,
            "format": 2 / 3,
            "reward": 0.8 * 0.5 + 0.2 * (2.5 + 1 + 0) / 3,
            "turns": 1.5,
        }
    )


def test_rollouts_that_opened_nothing_have_means_too() -> None:
    group = multi_level_reward(MILL.answers, [Trajectory((), "")] * 2)
    assert set(group.mean_rewards(0.8).values()) == {0.0}
    assert group.advantages(0.8) == [[], []]
