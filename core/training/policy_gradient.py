"""The policy gradient as pure functions: advantages, the sequence-level ratio, the clipped objective, the divergence.

GSPO is arXiv 2507.18071, GRPO arXiv 2402.03300, ReMemR1 arXiv 2509.23040.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def outcome_advantages(rewards: Sequence[float]) -> list[float]:
    """Return A_out of each rollout of one question: its outcome less the mean of the group (ReMemR1).

    Not divided by the standard deviation, which would blow up questions on which the rollouts hardly
    differ (GRPO, section 4.1.2, divides).
    """
    return _centred(rewards)


def state_advantages(rewards: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return A_state,t of each turn: its R_state less the mean over the rollouts at the same step t (ReMemR1).

    In the paper the rollouts of a question have read the same chunk at step t. Here the gate follows
    the memory, so from the second step on they may have read different ones; the mean over the step
    is the baseline all the same, and leaves the gradient without bias because no rollout chose it.

    Args:
        rewards: for each rollout, R_state of its turns in order. Rollouts may differ in length: one
            that has ended does not count at later steps.
    """
    longest = max(map(len, rewards), default=0)
    found: list[list[float]] = [[] for _ in rewards]
    for step in range(longest):
        there = [row for row, turns in enumerate(rewards) if step < len(turns)]
        for row, advantage in zip(there, _centred([rewards[row][step] for row in there]), strict=True):
            found[row].append(advantage)
    return found


def mixed_advantages(
    outcome: Sequence[float], state: Sequence[Sequence[float]], outcome_share: float
) -> list[list[float]]:
    """Return A = α A_out + (1 - α) A_state,t for each turn of each rollout (ReMemR1, α = 0.8).

    Args:
        outcome: A_out of each rollout, computed over whole rollouts, before they become turns: a long
            one would otherwise count several times in the mean.
        state: A_state,t of each rollout's turns.
        outcome_share: α.
    """
    return [
        [outcome_share * whole + (1 - outcome_share) * step for step in steps]
        for whole, steps in zip(outcome, state, strict=True)
    ]


def sequence_ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """Return s = (π(y) / π_old(y))^(1/|y|) = exp(mean_t(log π(y_t) - log π_old(y_t))), a scalar (GSPO, equation 7).

    Args:
        log_probs: float32 [tokens] of one reply, with gradient.
        old_log_probs: float32 [tokens], of the same tokens when they were sampled.
    """
    return (log_probs - old_log_probs).mean().exp()


def clipped_objective(ratio: Tensor, advantage: float, clip: float) -> Tensor:
    """Return min(s A, clip(s, 1 - ε, 1 + ε) A), to be maximised (GSPO, equation 5, one sequence).

    Args:
        ratio: s, a scalar.
        clip: ε.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def is_clipped(ratio: float, advantage: float, clip: float) -> bool:
    """Return whether the clipped term is the smaller, so that the reply has no gradient."""
    return (advantage > 0 and ratio > 1 + clip) or (advantage < 0 and ratio < 1 - clip)


def reference_divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Return the mean over tokens of π_ref/π - log(π_ref/π) - 1, a scalar (GRPO, equation 4).

    It estimates KL(π || π_ref) without bias, and is never negative.

    Args:
        log_probs: float32 [tokens], with gradient.
        reference: float32 [tokens], log π_ref of the same tokens.
    """
    difference = reference - log_probs
    return (difference.exp() - difference - 1).mean()


def expected_reward(scores: Tensor, rewards: Sequence[float]) -> Tensor:
    """Return Σ p(c) R(c) over candidates c, p = softmax(scores): a scalar, to be maximised.

    It is minimum risk training (arXiv 1512.02433, section 3): what policy gradients estimate from samples, exactly,
    where there are few answers to choose from. The gradient by a score is p(c) (R(c) - Σ p R), so that what is better
    than expected becomes likelier.

    Args:
        scores: float32 [candidates], with gradient: log p of each, up to what is added to all.
        rewards: R of each.
    """
    # No matrix product, which would be in bf16 where training is.
    return (scores.softmax(dim=0) * scores.new_tensor(rewards)).sum()


def choice_divergence(scores: Tensor, reference: Tensor) -> Tensor:
    """Return KL(p || p_ref) = Σ p (log p - log p_ref), a scalar, of the choices softmax of both come to.

    Args:
        scores: float32 [candidates], with gradient.
        reference: float32 [candidates], of the same by the reference.
    """
    log_probs = scores.log_softmax(dim=0)
    return (log_probs.exp() * (log_probs - reference.log_softmax(dim=0))).sum()


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values) if values else 0.0
    return [value - mean for value in values]
