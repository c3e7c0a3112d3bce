"""The rollouts of one question with what they earned: rewards, then advantages over the group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .policy_gradient import mixed_advantages, outcome_advantages, state_advantages
from .rewards import StepReward, callback_reward, format_reward, memory_reward, outcome_reward
from .rollouts import SampledTurn, Trajectory
from .settings import Outcome


@dataclass(frozen=True)
class Group:
    """G rollouts of one question, rewarded."""

    rollouts: tuple[Trajectory, ...]
    outcomes: tuple[float, ...]
    """R_out of each rollout."""
    steps: tuple[tuple[StepReward, ...], ...]
    """What each turn of each rollout earned, the final answer's turn included."""

    def advantages(self, outcome_share: float) -> list[list[float]]:
        """Return A of each turn of each rollout.

        The final answer is a step of its own, whichever number it has: it is compared with the other
        rollouts' answers, not with what they wrote after a chunk.
        """
        reads = [sum(turn.chunk is not None for turn in rollout.turns) for rollout in self.rollouts]
        totals = [[step.total for step in steps] for steps in self.steps]
        updates = state_advantages([total[:read] for total, read in zip(totals, reads, strict=True)])
        answers = state_advantages([total[read:] for total, read in zip(totals, reads, strict=True)])
        state = [[*update, *answer] for update, answer in zip(updates, answers, strict=True)]
        return mixed_advantages(outcome_advantages(self.outcomes), state, outcome_share)

    def mean_rewards(self, outcome_share: float) -> dict[str, float]:
        """Return means by kind, and ``reward``, the mix of outcome and R_state.

        Outcomes are over rollouts, memory and callback over the turns that read a chunk, the rest over all turns.
        """
        steps = [step for steps in self.steps for step in steps]
        turns = [turn for rollout in self.rollouts for turn in rollout.turns]
        reading = [step for step, turn in zip(steps, turns, strict=True) if turn.chunk is not None]
        outcome = _mean(self.outcomes)
        return {
            "outcome": outcome,
            "memory": _mean([step.memory for step in reading]),
            "callback": _mean([step.callback for step in reading]),
            "format": _mean([step.form for step in steps]),
            "reward": outcome_share * outcome + (1 - outcome_share) * _mean([step.total for step in steps]),
            "turns": len(turns) / len(self.rollouts),
        }


Scorer = Callable[[Sequence[str], Sequence[Trajectory]], Group]
"""Takes the gold answers of a question, none where there is nothing to be found, and its rollouts."""


def multi_level_reward(gold: Sequence[str], rollouts: Sequence[Trajectory], outcome: Outcome = "exact_match") -> Group:
    """Reward the rollouts of a question as :mod:`.rewards` says; a final answer is a turn that earns r_fmt only."""
    return Group(
        tuple(rollouts),
        tuple(outcome_reward(rollout.answer, gold, outcome) for rollout in rollouts),
        tuple(tuple(_step_reward(turn, gold) for turn in rollout.turns) for rollout in rollouts),
    )


def _step_reward(turn: SampledTurn, gold: Sequence[str]) -> StepReward:
    form = format_reward(turn.text)
    if turn.chunk is None:
        return StepReward(form=form)
    return StepReward(
        memory_reward(gold, turn.before, turn.after),
        callback_reward(gold, turn.recalled, turn.after, turn.chunk),
        form,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
