"""Advantages, ratio, objective and divergence, worked by hand."""

import math

import pytest
import torch

from core.training.policy_gradient import (
    choice_divergence,
    clipped_objective,
    expected_reward,
    is_clipped,
    mixed_advantages,
    outcome_advantages,
    reference_divergence,
    sequence_ratio,
    state_advantages,
)


def test_outcomes_are_centred_over_the_group_and_not_scaled() -> None:
    assert outcome_advantages([1, 0, 0, 1]) == [0.5, -0.5, -0.5, 0.5]
    # Divided by the standard deviation, these would be as large as those above.
    assert outcome_advantages([0.51, 0.49]) == pytest.approx([0.01, -0.01])
    assert outcome_advantages([1, 1, 1]) == [0, 0, 0]


def test_states_are_centred_over_the_rollouts_that_came_to_the_step() -> None:
    # Step 0: mean of 3, 1, 2 is 2. Step 1: mean of 1 and 0 is 0.5. Step 2: one rollout alone.
    found = state_advantages([[3, 1, 5], [1], [2, 0]])
    assert found == [[1, 0.5, 0], [-1], [0, -0.5]]


def test_a_rollout_without_turns_has_no_state_advantage() -> None:
    assert state_advantages([[], [2], [4]]) == [[], [-1], [1]]
    assert state_advantages([[], []]) == [[], []]


def test_every_turn_gets_its_rollouts_outcome_and_its_own_state() -> None:
    found = mixed_advantages([0.5, -0.5], [[1, -1], [0]], 0.8)
    assert found[0] == pytest.approx([0.8 * 0.5 + 0.2, 0.8 * 0.5 - 0.2])
    assert found[1] == pytest.approx([-0.4])


def test_a_long_rollout_counts_once_in_the_mean_of_outcomes() -> None:
    # Expanded into turns first, the mean would be 3/4 and the first rollout's advantage 1/4.
    outcome = outcome_advantages([1, 0])
    assert mixed_advantages(outcome, [[0, 0, 0], [0]], 1.0) == [[0.5, 0.5, 0.5], [-0.5]]


def test_the_ratio_is_of_whole_replies_and_normalised_by_length() -> None:
    old = torch.log(torch.tensor([0.5, 0.25]))
    new = torch.log(torch.tensor([0.5, 0.5]))
    # Twice as likely over two tokens: the square root of 2.
    assert sequence_ratio(new, old).item() == pytest.approx(math.sqrt(2))
    assert sequence_ratio(old, old).item() == 1.0


def test_the_gradient_of_the_ratio_at_1_is_the_mean_of_the_tokens() -> None:
    new = torch.log(torch.tensor([0.5, 0.25, 0.1])).requires_grad_()
    sequence_ratio(new, new.detach()).backward()
    torch.testing.assert_close(new.grad, torch.full((3,), 1 / 3))


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "clipped"),
    [
        (1.1, 2.0, 2.2, False),
        (1.5, 2.0, 2.4, True),  # more of what is good already is not paid for beyond 1.2
        (0.5, 2.0, 1.0, False),
        (1.5, -2.0, -3.0, False),  # more of what is bad is charged in full
        (0.5, -2.0, -1.6, True),
        (0.9, -2.0, -1.8, False),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_the_objective_is_the_smaller_of_the_clipped_and_the_plain(
    ratio: float, advantage: float, objective: float, clipped: bool
) -> None:
    given = torch.tensor(ratio, requires_grad=True)
    found = clipped_objective(given, advantage, 0.2)
    assert found.item() == pytest.approx(objective)
    assert is_clipped(ratio, advantage, 0.2) == clipped
    found.backward()
    assert given.grad is not None
    assert given.grad.item() == pytest.approx(0.0 if clipped else advantage)


def test_the_divergence_is_k3_and_zero_where_nothing_differs() -> None:
    new, reference = torch.log(torch.tensor([0.5, 0.2])), torch.log(torch.tensor([0.25, 0.2]))
    # 0.25/0.5 - log(0.25/0.5) - 1 = 0.5 + log 2 - 1, and 0; the mean of both.
    assert reference_divergence(new, reference).item() == pytest.approx((math.log(2) - 0.5) / 2)
    assert reference_divergence(new, new).item() == 0.0


def test_the_divergence_estimates_kl_and_is_never_negative() -> None:
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    each = torch.stack([reference_divergence(policy[i].log()[None], reference[i].log()[None]) for i in range(3)])
    assert (each >= 0).all()
    exact = (policy * (policy / reference).log()).sum()
    torch.testing.assert_close((policy * each).sum(), exact)


def test_the_expected_reward_and_its_gradient_by_hand() -> None:
    # p = 3/4 and 1/4: Σ p R = 3/4 · 0.2 + 1/4 = 0.4; by a score p (R - 0.4).
    scores = torch.log(torch.tensor([3.0, 1.0])).requires_grad_()
    expected = expected_reward(scores, [0.2, 1.0])
    expected.backward()
    assert expected.item() == pytest.approx(0.4)
    torch.testing.assert_close(scores.grad, torch.tensor([0.75 * -0.2, 0.25 * 0.6]))
    with torch.autocast("cpu", torch.bfloat16):
        assert expected_reward(scores.detach(), [0.2, 1.0]).item() == pytest.approx(0.4, abs=1e-6)


def test_the_divergence_of_choices_by_hand() -> None:
    # 3/4 log((3/4)/(1/2)) + 1/4 log((1/4)/(1/2)), whatever is added to all scores.
    scores, reference = torch.log(torch.tensor([3.0, 1.0])), torch.tensor([5.0, 5.0])
    found = choice_divergence(scores, reference)
    assert found.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert choice_divergence(scores + 7, scores).item() == pytest.approx(0.0, abs=1e-6)
