"""Reinforcement learning of which answer is chosen, of those that both readers find.

In use an answer is chosen of what the reasoner writes, the spans that the extractor finds, and that the notes do not
say it (:mod:`core.reader_fusion`). These are few, and each can be rewarded, so the reward that a policy expects can be
computed, where :mod:`.rl` estimates it from samples: minimum risk training (Shen et al., arXiv 1512.02433). A question
is read once, greedily, through the loop that answers questions, and what it is answered from is learned from in the
same step, so that every update is on-policy.

What is deduced (a working, yes or no) is answered in use without a choice. Here it is one of the candidates, as it is
written: where only what is said could be learned from, a reasoner that says more and more would unlearn to deduce.

The policy is the reasoner's alone. How likely the extractor finds a span is left out: it has learned from the same
questions, of which it is surer than of new ones, and a reasoner that learned beside it would leave too much to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..embedder import Embedder
from ..engine import DECLINE_BIAS, EXTRACTOR_WEIGHT
from ..errors import InputError
from ..generation import reply_rows
from ..prompts import UNKNOWN
from ..settings import RecallSettings
from ..teacher_forcing import Row, target_log_probs
from .asking import Asked, Asking
from .material import Material
from .policy_gradient import choice_divergence, expected_reward
from .rewards import outcome_reward
from .rollouts import Chosen, Task
from .settings import TrainingSettings

DECIDED = 0.01
"""Largest p(c) |R(c) - Σ p R| up to which a choice is as good as made, and is not gone back through."""


@dataclass(frozen=True)
class ChoicePiece:
    """The choice that one question comes to; no rows, where there is none, or none that matters."""

    rows: tuple[Row, ...]
    """The prompt and each candidate."""
    favoured: tuple[float, ...]
    """Nats that are added to log p of each."""
    rewards: tuple[float, ...]
    recorded: Mapping[str, float]
    """The question's share of the step's means."""
    reference: Tensor | None = None
    """float32 [candidates], scores by the reference; ``None`` where the divergence costs nothing."""


class ChooseAnswers(Asking[ChoicePiece]):
    """Maximises the mean over a step's questions of Σ p(c) R(c) - β KL, over the candidates c of each."""

    def __init__(self, backbone: Backbone, settings: TrainingSettings, material: Material, embedder: Embedder) -> None:
        """
        Args:
            backbone: its trained adapters, as they are now, become the reference.
            embedder: with the extractor whose spans are candidates.

        Raises:
            InputError: it has none.
        """
        if embedder.extractor is None:
            raise InputError(
                f"--sampled candidates: no extractor is trained for embedder {embedder.name!r}: train one with --stage "
                "extractor and give its folder as --adapters, or sample answers"
            )
        recall = RecallSettings(
            max_steps=settings.max_steps,
            update_tokens=settings.update_tokens,
            answer_tokens=settings.answer_tokens,
            decline_bias=DECLINE_BIAS,
            extractor_weight=EXTRACTOR_WEIGHT,
        )
        super().__init__(backbone, settings, material, embedder, recall)

    def work(self, step: int, process: int, processes: int) -> Sequence[ChoicePiece]:
        """Ask questions with the parameters as they are, and return what each was answered from."""
        tasks = self.drawn(step, process, processes)
        pieces = [self._piece(*pair) for pair in zip(tasks, self.rollouts.choose(tasks), strict=True)]
        if not self.settings.kl_weight:
            return pieces
        with self.reference.in_place():
            return [replace(piece, reference=self._scores(piece)) if piece.rows else piece for piece in pieces]

    def forward(self, piece: ChoicePiece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`Stage`. Measures are means over the step's questions."""
        settings, measured = self.settings, dict(piece.recorded)
        if not piece.rows:
            # Processes exchange gradients after each has gone back through a loss, so an empty one must have some.
            return 0 * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum(), measured
        scores = self._scores(piece)
        loss = -expected_reward(scores, piece.rewards)
        if piece.reference is not None:
            divergence = choice_divergence(scores, piece.reference)
            loss = loss + settings.kl_weight * divergence
            measured["kl"] = float(divergence.detach()) / settings.batch
        return loss / settings.batch, measured

    def asked(self, tasks: Sequence[Task]) -> list[Asked]:
        """See :class:`.asking.Asking`. The reward is the outcome."""
        found = []
        for task, chosen in zip(tasks, self.rollouts.choose(tasks), strict=True):
            outcome = outcome_reward(chosen.answer, task.gold, self.settings.outcome)
            found.append(Asked(chosen.answer, outcome, outcome))
        return found

    def _piece(self, task: Task, chosen: Chosen) -> ChoicePiece:
        def earned(answer: str) -> float:
            return outcome_reward(answer, task.gold, self.settings.outcome)

        outcome, choice = earned(chosen.answer), chosen.choice
        rewards = tuple(map(earned, choice.answers)) if choice else ()
        favoured = tuple(DECLINE_BIAS if reply == UNKNOWN else 0.0 for reply in choice.replies) if choice else ()
        expected, open_still = outcome, False
        if choice:
            policy = (torch.tensor(choice.log_probs) + torch.tensor(favoured)).softmax(dim=0)
            expected = float(policy @ torch.tensor(rewards))
            open_still = bool((policy * (torch.tensor(rewards) - expected)).abs().max() > DECIDED)
        means = {
            "outcome": outcome,
            "expected": expected,
            "best": max(rewards, default=outcome),
            "candidates": float(len(rewards)),
            "deduced": float(choice is not None and choice.deduced),
            "open": float(open_still),
        }
        rows = reply_rows(self.backbone, choice.prompt, choice.replies) if choice and open_still else ()
        recorded = {name: value / self.settings.batch for name, value in means.items()}
        return ChoicePiece(tuple(rows), favoured, rewards, recorded)

    def _scores(self, piece: ChoicePiece) -> Tensor:
        found = target_log_probs(self.backbone, piece.rows)
        return torch.stack([log_probs.sum() for log_probs in found]) + torch.tensor(
            piece.favoured, device=self.backbone.device
        )
