"""End-to-end reinforcement learning of compressor and reasoner, through the loop that answers questions.

GSPO (arXiv 2507.18071) as LycheeMemory (arXiv 2602.08382) uses it: compression is deterministic, so it
is recomputed with gradient, the turn's tokens are teacher-forced after it, and the loss reaches both
adapters. Text memory stops the gradient between turns; the final answer, with no slots open, trains the
reasoner only. Rewards and advantages are ReMemR1's (arXiv 2509.23040); see :mod:`.rewards` for where
its paper and its code differ.

Not of the papers: answers alone may be sampled, after updates that are greedy and thus the same for all
rollouts of a question, and some haystacks may hold no answer, where giving none is right.

Left out of the textbook algorithm: several updates for one batch of rollouts (128 rollouts in batches
of 16). Each step samples anew, so every update is on-policy, a step depends on nothing but the
parameters and its number, and a resumed run is the same run. The price is more sampling for an update.
The ratio then says how far decoding and teacher forcing are apart (precision, padding), and clipping
hardly ever acts. Also left out: a value model and the division by the group's standard deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..backbone import Backbone
from ..embedder import Embedder
from ..kv_cache import Slots
from ..settings import CompressionSettings, Ratio, RecallSettings
from ..teacher_forcing import Row, target_log_probs
from .asking import Asked, Asking
from .group import Group, Scorer, multi_level_reward
from .material import Material
from .policy_gradient import clipped_objective, is_clipped, reference_divergence, sequence_ratio
from .rollouts import SampledTurn, Task
from .settings import TrainingSettings


@dataclass(frozen=True)
class Sample:
    """A turn to learn from."""

    turn: SampledTurn
    advantage: float
    share: float
    """What the turn counts in a recorded mean: one over its question's turns and the step's questions."""
    reference: Tensor | None = None
    """float32 [tokens written], log p by the reference; ``None`` where the divergence costs nothing."""


@dataclass(frozen=True)
class Piece:
    """Turns that read the same chunk, or turns that answer; none, where a question's rollouts opened nothing."""

    chunk: str | None
    """Text to encode with gradient; ``None``: nothing is open as slots."""
    ratio: Ratio
    samples: tuple[Sample, ...]
    recorded: Mapping[str, float]
    """Their questions' shares of the step's means; with the first piece of each question only."""


class Reinforce(Asking[Piece]):
    """Maximises Σ min(s A, clip(s) A) - β KL over all turns of all rollouts of a step, divided by the rollouts.

    Every turn weighs the same, as every sequence does in GSPO, and the divisor is known to every
    process beforehand.
    """

    def __init__(
        self,
        backbone: Backbone,
        settings: TrainingSettings,
        material: Material,
        embedder: Embedder,
        reward: Scorer | None = None,
    ) -> None:
        """
        Args:
            backbone: its trained adapters, as they are now, become the reference.
            reward: what the rollouts of a question earned; what it raises stops the run. ``None``: as ``settings`` say.
        """
        # A tagger's notes are the same for all rollouts that read alike: no advantage hangs on them.
        recall = RecallSettings(
            max_steps=settings.max_steps,
            update_tokens=settings.update_tokens,
            answer_tokens=settings.answer_tokens,
            # What is written of a chunk is learned from, so it is to be written.
            read_when_sure=settings.sampled == "all",
        )
        super().__init__(backbone, settings, material, embedder, recall)
        self._reward = reward or partial(multi_level_reward, outcome=settings.outcome)

    def work(self, step: int, process: int, processes: int) -> Sequence[Piece]:
        """Sample rollouts with the parameters as they are, reward them, and return their turns by opened chunk."""
        settings, tasks = self.settings, self.drawn(step, process, processes)
        sampled = self.rollouts.sample(tasks, settings.group, settings.temperature, settings.sampled)
        pieces = [
            piece
            for task, rollouts in zip(tasks, sampled, strict=True)
            for piece in self._pieces(task, self._reward(task.gold, rollouts))
        ]
        pieces = together(pieces, settings.together)
        if not settings.kl_weight:
            return pieces
        with self.reference.in_place():
            return [self._with_reference(piece) for piece in pieces]

    def forward(self, piece: Piece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`Stage`. Measures are means over a question's turns, then over the step's questions."""
        settings, measured = self.settings, dict(piece.recorded)
        loss = torch.zeros((), device=self.backbone.device)
        if not piece.samples:
            # Processes exchange gradients after each has gone back through a loss, so an empty one must have some.
            return loss + 0 * sum(p.sum() for p in self.parameters() if p.requires_grad), measured
        sums = dict.fromkeys(("ratio", "clipped", "kl", "reply_tokens"), 0.0)
        for sample, found in zip(piece.samples, self._log_probs(piece), strict=True):
            ratio = sequence_ratio(found, torch.tensor(sample.turn.log_probs, device=found.device))
            loss = loss - clipped_objective(ratio, sample.advantage, settings.clip_ratio)
            sums["ratio"] += sample.share * float(ratio.detach())
            sums["clipped"] += sample.share * is_clipped(float(ratio.detach()), sample.advantage, settings.clip_ratio)
            sums["reply_tokens"] += sample.share * len(found)
            if sample.reference is not None:
                divergence = reference_divergence(found, sample.reference)
                loss = loss + settings.kl_weight * divergence
                sums["kl"] += sample.share * float(divergence.detach())
        for name, value in sums.items():
            measured[name] = measured.get(name, 0.0) + value
        return loss / (settings.batch * settings.group), measured

    def asked(self, tasks: Sequence[Task]) -> list[Asked]:
        """See :class:`.asking.Asking`."""
        found = []
        for task, rollouts in zip(tasks, self.rollouts.sample(tasks, 1, 0.0), strict=True):
            group = self._reward(task.gold, rollouts)
            reward = group.mean_rewards(self.settings.outcome_share)["reward"]
            found.append(Asked(group.rollouts[0].answer, group.outcomes[0], reward))
        return found

    def _pieces(self, task: Task, group: Group) -> list[Piece]:
        turns = sum(bool(turn.log_probs) for rollout in group.rollouts for turn in rollout.turns)
        share = 1 / (max(1, turns) * self.settings.batch)
        means = group.mean_rewards(self.settings.outcome_share)
        recorded = {name: value / self.settings.batch for name, value in means.items()}
        if not turns:
            recorded["ratio"] = share  # nothing was said with other odds than it was sampled with
        by_chunk: dict[str | None, list[Sample]] = {} if turns else {None: []}
        for rollout, advantages in zip(group.rollouts, group.advantages(self.settings.outcome_share), strict=True):
            for turn, advantage in zip(rollout.turns, advantages, strict=True):
                if turn.log_probs:  # what is greedy was not chosen among others
                    by_chunk.setdefault(turn.chunk, []).append(Sample(turn, advantage, share))
        compressed = task.form == "compressed"
        return [
            Piece(chunk if compressed else None, task.ratio, tuple(samples), {} if number else recorded)
            for number, (chunk, samples) in enumerate(by_chunk.items())
        ]

    def _with_reference(self, piece: Piece) -> Piece:
        if not piece.samples:
            return piece
        pairs = zip(piece.samples, self._log_probs(piece), strict=True)
        return replace(piece, samples=tuple(replace(sample, reference=found) for sample, found in pairs))

    def _log_probs(self, piece: Piece) -> list[Tensor]:
        rows = [Row(sample.turn.prompt, sample.turn.written) for sample in piece.samples]
        # Rollouts often write the same: it is read once, and its gradient is the sum of theirs.
        once = list(dict.fromkeys(rows))
        found = dict(zip(once, target_log_probs(self.backbone, once, self._slots(piece)), strict=True))
        return [found[row] for row in rows]

    def _slots(self, piece: Piece) -> Slots | None:
        if piece.chunk is None:
            return None
        self.compressor.settings = CompressionSettings(ratio=piece.ratio, placement=self.settings.placement)
        return self.compressor.forward([self.backbone.encode(piece.chunk)])[0]


def together(pieces: Sequence[Piece], tokens: int) -> list[Piece]:
    """Return ``pieces`` with those that no chunk is open for joined, up to about ``tokens`` in a pass; 0 joins none."""
    joined, group = list[Piece](), list[Piece]()

    def size(added: Piece) -> int:
        samples = [sample.turn for piece in (*group, added) for sample in piece.samples]
        # What is said alike is read once.
        rows = {(turn.prompt, turn.written): len(turn.prompt) + len(turn.written) for turn in samples}
        return len(rows) * max(rows.values(), default=0)

    def close() -> None:
        if group:
            recorded: dict[str, float] = {}
            for piece in group:
                for name, value in piece.recorded.items():
                    recorded[name] = recorded.get(name, 0.0) + value
            samples = tuple(sample for piece in group for sample in piece.samples)
            joined.append(Piece(None, group[0].ratio, samples, recorded))
            group.clear()

    for piece in pieces:
        if piece.chunk is not None or not tokens:
            joined.append(piece)
            continue
        if size(piece) > tokens:
            close()
        group.append(piece)
    close()
    return joined
