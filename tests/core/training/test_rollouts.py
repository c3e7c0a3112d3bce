"""Rollouts are what the recall loop does, with a record of it."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from core.backbone import Backbone
from core.compressor import Compressor
from core.embedder import Embedder
from core.engine import Engine
from core.generation import Prompt
from core.ingest import Document
from core.kv_cache import Prefix
from core.prompts import ANSWER_OPENING, NOTHING_FOUND
from core.settings import CompressionSettings, Form, RecallSettings, replaced
from core.teacher_forcing import Row, target_log_probs
from core.training.rollouts import Rollouts, SampledTurn, Task, Trajectory

from ..evaluation.made import ARROWDALE, MILL, POOL
from .babbler import babbler

RECALL = RecallSettings(max_steps=3, update_tokens=8, answer_tokens=4, threshold=0.2)
DOCUMENTS = tuple(
    Document(str(number), paragraph.document)
    for number, paragraph in enumerate((*ARROWDALE.paragraphs, *MILL.paragraphs[:1], *POOL[:2]))
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def model() -> Backbone:
    return babbler("compressor", "reasoner", scale=0.1, adapters=0.05)


def rollouts(model: Backbone, embedder: Embedder, at_once: int = 64, recall: RecallSettings = RECALL) -> Rollouts:
    compressor = Compressor(model, CompressionSettings(ratio=4))
    return Rollouts(model, compressor, embedder, recall, placement="in_place", at_once=at_once)


def task(form: Form = "compressed", seed: str = "0") -> Task:
    return Task(MILL, DOCUMENTS, form, 2, seed)


@pytest.mark.parametrize("tagger", [False, True])
@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_a_greedy_group_is_what_the_engine_answers(
    model: Backbone, embedder: Embedder, judging: Embedder, form: Form, tagger: bool
) -> None:
    embedder = judging if tagger else embedder
    # Whatever is there is opened, so that the tagger has something to rule out. What is learned from is the model's own
    # answer, whatever of it would be withheld in use.
    recall = replaced(RECALL, form=form, threshold=0.0 if tagger else RECALL.threshold, max_steps=5, decline_bias=0.0)
    tasks, ruled_out = [task(form), replace(task(form), question=ARROWDALE)], 0
    groups = rollouts(model, embedder, recall=recall).sample(tasks, 2, 0.0)
    engine = Engine(model, embedder, CompressionSettings(ratio=2))
    engine.add(DOCUMENTS)
    for asked, group in zip(tasks, groups, strict=True):
        answer = engine.ask(asked.question.question, settings=recall)
        assert group[0] == group[1]
        assert (group[0].answer or NOTHING_FOUND) == answer.text
        read = [engine.bank.text(step.chunk.chunk_id) for step in answer.steps]
        shown = [turn.chunk for turn in group[0].turns if turn.chunk is not None]
        assert shown == [text for text in read if not tagger or text in shown]
        ruled_out += len(read) - len(shown)
        assert answer.usage.model_calls == len(group[0].turns) > 0
        assert answer.usage.tokens_written == sum(len(turn.written) for turn in group[0].turns)
    assert any(turn.chunk is None for turn in groups[0][0].turns)
    assert tagger == (ruled_out > 0)  # what it rules out is not shown to the reasoner
    engine.close()


def test_the_same_seed_samples_the_same_whatever_else_is_sampled(model: Backbone, embedder: Embedder) -> None:
    (alone,) = rollouts(model, embedder).sample([task()], 3, 1.0)
    other = replace(task("raw", "1"), question=ARROWDALE)
    _, beside = rollouts(model, embedder).sample([other, task()], 3, 1.0)
    (in_parts, _) = rollouts(model, embedder, at_once=1).sample([task(), other], 3, 1.0)
    assert without_log_probs(alone) == without_log_probs(beside) == without_log_probs(in_parts)
    (differently,) = rollouts(model, embedder).sample([task(seed="1")], 3, 1.0)
    assert without_log_probs(alone) != without_log_probs(differently)
    assert len(set(without_log_probs(alone))) > 1


def without_log_probs(group: tuple[Trajectory, ...]) -> tuple[Trajectory, ...]:
    """Leave out what differs between batches by rounding."""
    return tuple(replace(t, turns=tuple(replace(turn, log_probs=()) for turn in t.turns)) for t in group)


@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_recorded_log_probs_are_those_of_teacher_forcing(model: Backbone, embedder: Embedder, form: Form) -> None:
    (group,) = rollouts(model, embedder).sample([task(form)], 8, 1.0)
    compressor = Compressor(model, CompressionSettings(ratio=2))
    turns = [turn for rollout in group for turn in rollout.turns]
    assert any(turn.chunk is None for turn in turns)
    for turn in turns:
        opened = form == "compressed" and turn.chunk is not None
        slots = compressor.compress([model.encode(turn.chunk)])[0] if opened else None
        with torch.no_grad():
            (found,) = target_log_probs(model, [Row(turn.prompt, turn.written)], slots)
        torch.testing.assert_close(found, torch.tensor(turn.log_probs), atol=2e-4, rtol=0)


def test_where_only_answers_are_sampled_updates_are_those_of_the_greedy_rollout(
    model: Backbone, judging: Embedder
) -> None:
    ((greedy,),) = rollouts(model, judging).sample([task("raw")], 1, 0.0)
    (group,) = rollouts(model, judging).sample([task("raw")], 6, 1.0, "answers")
    for rollout in group:
        assert rollout.turns[:-1] == greedy.turns[:-1]
        assert not any(turn.log_probs for turn in rollout.turns[:-1])
        answer = rollout.turns[-1]
        assert answer.prompt == greedy.turns[-1].prompt
        assert len(answer.log_probs) == len(answer.written)
    assert len({rollout.turns[-1].written for rollout in group}) > 1


def test_rollouts_that_share_their_updates_are_those_that_each_go_through_them(
    model: Backbone, judging: Embedder
) -> None:
    asking = rollouts(model, judging)
    tasks = [task("raw"), replace(task("compressed", "1"), question=ARROWDALE)]

    def heat(prompt: Prompt) -> float:
        return float(prompt.prefill == ANSWER_OPENING)

    apart, shared = (list(asking._sampled(tasks, 4, alike, heat)) for alike in (1, 4))
    assert [*map(without_log_probs, shared)] == [*map(without_log_probs, apart)]
    assert [*map(without_log_probs, asking.sample(tasks, 4, 1.0, "answers"))] == [*map(without_log_probs, apart)]
    assert [len(set(without_log_probs(group))) > 1 for group in shared] == [True, True]


def test_what_is_sampled_is_read_with_merged_adapters_and_what_is_learned_is_not(
    model: Backbone, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[bool] = []
    hidden = model.hidden

    def watched(*args: Tensor, **options: bool) -> tuple[Tensor, Prefix]:
        with torch.enable_grad():
            found = hidden(*args, **options)
        reached.append(found[0].requires_grad)
        return found

    monkeypatch.setattr(model, "hidden", watched)
    ((rollout, *_),) = rollouts(model, embedder).sample([task("raw")], 2, 1.0)
    assert reached
    assert not any(reached)
    target_log_probs(model, [Row(rollout.turns[0].prompt, rollout.turns[0].written)])
    assert reached[-1]


def test_each_turn_knows_the_memory_it_was_shown_and_left(model: Backbone, embedder: Embedder) -> None:
    (group,) = rollouts(model, embedder).sample([task("raw")], 8, 1.0)
    noted = [rollout for rollout in group if rollout.turns and rollout.turns[-1].after]
    assert noted
    for rollout in group:
        memory = ""
        for turn in rollout.turns:
            assert turn.before == memory
            prompt = model.tokenizer.decode(turn.prompt)
            assert all(line in prompt for line in memory.splitlines())
            assert turn.text.startswith("<answer>" if turn.chunk is None else "<update>")
            memory = turn.after
        assert bool(memory) == any(turn.chunk is None for turn in rollout.turns)


def test_what_a_callback_brings_back_is_recorded(model: Backbone, embedder: Embedder) -> None:
    narrow = RecallSettings(max_steps=3, update_tokens=8, answer_tokens=4, top_k=2, callback_threshold=0.2)
    compressor = Compressor(model, CompressionSettings())
    asking = Rollouts(model, compressor, embedder, narrow, placement="in_place", at_once=16)
    (group,) = asking.sample([replace(task("raw"), question=ARROWDALE)], 12, 1.0)
    pairs = [pair for rollout in group for pair in pairwise(rollout.turns)]
    brought = [(turn.recalled, following.chunk) for turn, following in pairs if turn.recalled]
    # The director's name makes a chunk relevant that the scan had passed over.
    assert brought
    assert all(recalled == chunk == ARROWDALE.paragraphs[0].document for recalled, chunk in brought)


def test_where_nothing_opens_there_is_no_turn_and_no_answer(model: Backbone, embedder: Embedder) -> None:
    nothing = RecallSettings(threshold=1.0)
    compressor = Compressor(model, CompressionSettings())
    strict = Rollouts(model, compressor, embedder, nothing, placement="in_place", at_once=8)
    assert strict.sample([task()], 2, 1.0) == [(Trajectory((), ""),) * 2]


def test_a_turn_has_what_it_wrote_and_no_more(model: Backbone, embedder: Embedder) -> None:
    (group,) = rollouts(model, embedder).sample([task()], 4, 1.0)
    turns: list[SampledTurn] = [turn for rollout in group for turn in rollout.turns]
    for turn in turns:
        assert 0 < len(turn.written) == len(turn.log_probs) <= 8
        assert all(score < 0 for score in turn.log_probs)
