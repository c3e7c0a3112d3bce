"""What a training run is made with, flat. Saved beside the run, and compared when it is resumed."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..settings import CheckedSettings, Form, Placement, Ratio
from ..weights import DEFAULT_EMBEDDER, DEFAULT_MODEL

StageName = Literal["selector", "compressor", "reasoner", "rl", "gate", "evidence", "extractor"]


GateKind = Literal["prompt", "probes", "query"]
Sampled = Literal["all", "answers", "candidates"]
Outcome = Literal["exact_match", "f1"]
Share = Annotated[float, Field(ge=0, le=1)]


class TrainingSettings(CheckedSettings):
    """One stage of training."""

    stage: StageName
    model: str = DEFAULT_MODEL
    embedder: str = DEFAULT_EMBEDDER
    """Whose cosines the gate starts from, or learns."""
    steps: Annotated[int, Field(ge=1)] = 400
    """Optimiser steps of the whole run; the learning rate follows a cosine over them."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Lessons, or questions for RL, in a step, over all processes."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Annotated[int, Field(ge=0)] = 20
    """Steps over which the learning rate rises from 0."""
    rank: Annotated[int, Field(ge=1)] = 16
    """Of a LoRA adapter made anew; its alpha is twice that."""
    forms: tuple[Form, ...] = ("raw",)
    """What the reasoner reads while it is trained; drawn for each lesson."""
    placement: Placement = "in_place"
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (2, 4, 8, 16)
    """α is drawn from these for each lesson (LycheeMemory, section 3.1); one named twice comes twice as often."""
    joint: bool = True
    """Whether the compressor stage trains the reasoner with it; the paper keeps the reader fixed."""
    noted: Share = 0.0
    """Share of the lessons of reasoner and compressor, and of the extractor's examples, that answer from notes as the
    tagger makes them, wrong ones among them (:mod:`core.training.noting`). The others are of the labels, and of the
    pool."""
    labelled: Share = 0.0
    """Share of the answers in those lessons whose notes are labelled evidence amid sentences that do not matter. A GPU
    that learns faster than a tagger reads waits less."""
    noting_processes: Annotated[int, Field(ge=0)] = 0
    """Processes that make those notes ahead; 0: a thread of the trainer. The lessons are the same."""
    together: Annotated[int, Field(ge=0)] = 0
    """Tokens, about, that are read in one pass: lessons, texts of the stages evidence and extractor, or answers
    that RL sampled share a pass up to there. 0 reads each lesson by itself, which saves the most work, since what its
    turns share is read once; a GPU, which waits for the next pass to be asked for, wants thousands. The step is the
    same."""
    reconstruction: Share = 0.0
    """Share of the compressor stage's lessons in which the bare base repeats a span of pool text from its slots."""
    continuation: Share = 0.0
    """Share of those in which it goes on after pool text from its slots as it does from the text itself. The
    paper mixes both with question answering by weights that it does not publish."""
    group: Annotated[int, Field(ge=2)] = 8
    """RL: rollouts of a question, G; LycheeMemory samples 12, ReMemR1 16."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """RL: of the samples. Other than 1 samples from another policy than is trained, which is not corrected for."""
    outcome: Outcome = "exact_match"
    """RL: what an answer is worth: both papers take the exact match. F1 tells between wrong answers too."""
    sampled: Sampled = "all"
    """RL: what of a rollout is sampled and learned from: all that is written (both papers), or only the answer. Updates
    are greedy then and a group's answers are compared on the same notes, for a small part of the time; only the
    outcome and the answer's form are rewarded. With ``candidates`` nothing is sampled: what both readers find is
    weighed (:mod:`.choosing`)."""
    absent: Share = 0.0
    """RL: share of the questions that are asked over a haystack without their gold paragraphs, where it is right to
    answer nothing. The papers have none, so that on their questions nothing is earned by not knowing."""
    withheld: Share = 0.0
    """RL, and what is ``noted``: share of the questions whose gold paragraphs stay, without what says it
    (:func:`core.evaluation.withheld.without_answer`). A quarter made a small reasoner decline a fifth of what it could
    have answered (docs/benchmarks.md)."""
    outcome_share: Share = 0.8
    """RL: α, the outcome's share of an advantage; the rest is the turn's own (ReMemR1)."""
    kl_weight: Annotated[float, Field(ge=0)] = 1e-3
    """RL: β, what the divergence from the adapters at the start costs (both papers); 0 does not compute it."""
    clip_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """RL: ε, how far from 1 a reply's ratio counts (ReMemR1)."""
    haystack: Annotated[int, Field(ge=1)] = 20
    """RL: paragraphs that a question is asked over, its own included, which are never left out."""
    max_steps: Annotated[int, Field(ge=1)] = 8
    """RL: most chunks that a rollout reads."""
    update_tokens: Annotated[int, Field(ge=8)] = 64
    """RL: most tokens that a rollout writes after reading a chunk."""
    answer_tokens: Annotated[int, Field(ge=4)] = 64
    """RL: most tokens of a rollout's answer."""
    rollouts_at_once: Annotated[int, Field(ge=1)] = 64
    """RL: most rollouts that are decoded in one batch, by each process."""
    held_out_questions: Annotated[int, Field(ge=1)] = 16
    """RL: held-out questions that are answered at each measurement."""
    leave_out_closed_book: bool = False
    """RL: whether questions that the bare base answers without any text are replaced by others (both papers)."""
    start: str | None = None
    """RL: folder of the adapters that it starts from and stays near; a resumed run must start from the same."""
    gate: GateKind = "prompt"
    """Whether the gate reads the prompt behind each chunk's slots, or reads it once and asks with probe tokens; or
    whether only the query's side of the embeddings is trained, which reads no slots."""
    scored: Annotated[int, Field(ge=2)] = 8
    """Gate: chunks of a haystack that are scored in a step, positives and hard negatives."""
    positive_weight: Annotated[float, Field(gt=0)] = 3.0
    """Weight of a chunk that holds something over one that does not (LycheeMemory, section 3.3)."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a step's gradient."""
    evaluate_every: Annotated[int, Field(ge=1)] = 50
    save_every: Annotated[int, Field(ge=1)] = 50
    seed: int = 0

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.reconstruction + self.continuation > 1:
            raise ValueError(f"reconstruction={self.reconstruction} and continuation={self.continuation} exceed 1")
        return self

    @model_validator(mode="after")
    def _some_can_be_answered(self) -> Self:
        if self.absent + self.withheld > 1:
            raise ValueError(f"absent={self.absent} and withheld={self.withheld} exceed 1")
        return self

    @model_validator(mode="after")
    def _all_is_learned_from(self) -> Self:
        if self.reader_fixed and (self.noted or "raw" in self.forms):
            raise ValueError(
                f"joint=False trains the compressor alone, which learns nothing from forms={','.join(self.forms)} with "
                f"noted={self.noted}, where no slots are read: set forms to compressed and noted to 0"
            )
        return self

    @property
    def reader_fixed(self) -> bool:
        """Whether the compressor is trained alone."""
        return self.stage == "compressor" and not self.joint
