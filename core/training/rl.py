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
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ..adapters import save_adapters
from ..backbone import Backbone
from ..compressor import Compressor
from ..embedder import Embedder
from ..errors import InputError
from ..evaluation.haystack import Pool, own_haystack
from ..evaluation.metrics import score_answer
from ..evaluation.withheld import Lacking
from ..kv_cache import Slots
from ..questions import Question
from ..settings import CompressionSettings, Form, Ratio, RecallSettings
from ..teacher_forcing import Row, target_log_probs
from .group import Group, Scorer, multi_level_reward
from .material import Material
from .policy_gradient import clipped_objective, is_clipped, reference_divergence, sequence_ratio
from .question_order import QuestionOrder
from .reference import Reference
from .rollouts import Rollouts, SampledTurn, Task
from .settings import TrainingSettings
from .shuffled import Shuffled
from .stage import Stage


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


class Reinforce(Stage[Piece]):
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
        super().__init__()
        # Registered, so that the loop sees what is trained and wraps it for several processes.
        self.causal_lm = backbone.causal_lm
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        self.compressor = Compressor(backbone, CompressionSettings(ratio=4, placement=settings.placement))
        if settings.start:
            self.compressor.load_weights(Path(settings.start))
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        self._reference = Reference(trained)
        self._reward = reward or partial(multi_level_reward, outcome=settings.outcome)
        closed_book = backbone if settings.leave_out_closed_book else None
        self._order = QuestionOrder(material.train, settings.seed, closed_book)
        # Of all data sets, which lie one after the other.
        self._held_out = Shuffled(material.held_out, 0, "held out").order(0)[: settings.held_out_questions]
        if not self._held_out:
            raise InputError("there are 0 held-out questions to measure on: give more training questions in --data")
        others = (p for question in (*material.train, *material.held_out) for p in question.paragraphs)
        self._pool = Pool((*material.pool, *others))
        # A tagger's notes are the same for all rollouts that read alike: no advantage hangs on them.
        recall = RecallSettings(
            max_steps=settings.max_steps,
            update_tokens=settings.update_tokens,
            answer_tokens=settings.answer_tokens,
            # What is written of a chunk is learned from, so it is to be written.
            read_when_sure=settings.sampled == "all",
        )
        self._rollouts = Rollouts(
            backbone,
            self.compressor,
            embedder,
            recall,
            placement=settings.placement,
            at_once=settings.rollouts_at_once,
        )

    def work(self, step: int, process: int, processes: int) -> Sequence[Piece]:
        """Sample rollouts with the parameters as they are, reward them, and return their turns by opened chunk."""
        places = range(step * self.settings.batch, (step + 1) * self.settings.batch)[process::processes]
        tasks = [self._drawn(place) for place in places]
        settings = self.settings
        sampled = self._rollouts.sample(tasks, settings.group, settings.temperature, settings.sampled)
        pieces = [
            piece
            for task, rollouts in zip(tasks, sampled, strict=True)
            for piece in self._pieces(task, self._reward(task.gold, rollouts))
        ]
        pieces = together(pieces, settings.together)
        if not settings.kl_weight:
            return pieces
        with self._reference.in_place():
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

    def evaluate(self) -> dict[str, float]:
        """Answer held-out questions greedily, slots at α = 4; return exact match, F1 and mean reward for each form.

        Where questions without an answer are learned from, also the share of the same questions that is declined over
        a haystack without their gold paragraphs, or without what says the answer in them.
        """
        found: dict[str, float] = {}
        for form in dict.fromkeys(self.settings.forms):
            groups = self._answered(form)
            scores = [
                score_answer(g.rollouts[0].answer, q.answers) for q, g in zip(self._held_out, groups, strict=True)
            ]
            rewards = [group.mean_rewards(self.settings.outcome_share)["reward"] for group in groups]
            found[f"exact_match_{form}"] = sum(score.exact_match for score in scores) / len(scores)
            found[f"f1_{form}"] = sum(score.f1 for score in scores) / len(scores)
            found[f"reward_{form}"] = sum(rewards) / len(rewards)
            shares: dict[Lacking, float] = {"absent": self.settings.absent, "withheld": self.settings.withheld}
            for lacking, share in shares.items():
                if share:
                    declined = [group.outcomes[0] for group in self._answered(form, lacking)]
                    name = "declined" if lacking == "absent" else "declined_withheld"
                    found[f"{name}_{form}"] = sum(declined) / len(declined)
        return found

    def _answered(self, form: Form, lacking: Lacking = None) -> list[Group]:
        tasks = [self._task(question, form, 4, 0, "held out", lacking) for question in self._held_out]
        answered = self._rollouts.sample(tasks, 1, 0.0)
        return [self._reward(task.gold, rollouts) for task, rollouts in zip(tasks, answered, strict=True)]

    def save(self, folder: Path) -> None:
        """Write every adapter there is, so that the next stage finds those it does not train; and the compressor's."""
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        self.compressor.save_weights(folder)

    def _drawn(self, place: int) -> Task:
        """Return what is asked in ``place``: the same in any process."""
        random = Random(f"{self.settings.seed}:{place}")
        form, ratio = random.choice(self.settings.forms), random.choice(self.settings.ratios)
        lot = random.random() - self.settings.absent
        lacking: Lacking = "absent" if lot < 0 else "withheld" if lot < self.settings.withheld else None
        seed = self.settings.seed + place
        return self._task(self._order.at(place), form, ratio, seed, f"{self.settings.seed}:{place}", lacking)

    def _task(
        self, question: Question, form: Form, ratio: Ratio, haystack_seed: int, seed: str, lacking: Lacking
    ) -> Task:
        documents = max(self.settings.haystack, len(question.paragraphs))
        haystack = own_haystack(question, self._pool, documents, seed=haystack_seed, lacking=lacking)
        return Task(question, haystack.documents, form, ratio, seed, lacking is not None)

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
