"""Learning which candidate is the answer, on a tiny random model."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from core.backbone import Backbone
from core.embedder import Embedder
from core.embedder_head import find_head
from core.engine import DECLINE_BIAS, EXTRACTOR_WEIGHT, Engine
from core.errors import InputError
from core.evidence import Tagger
from core.extraction import Extractor
from core.generation import reply_rows
from core.ingest import Document
from core.prompts import NOTHING_FOUND, UNKNOWN
from core.questions import Question
from core.reader_fusion import candidates
from core.settings import CompressionSettings, RecallSettings, replaced
from core.teacher_forcing import target_log_probs
from core.training.__main__ import prepare_adapters
from core.training.choosing import DECIDED, ChooseAnswers
from core.training.policy_gradient import expected_reward
from core.training.rewards import outcome_reward
from core.training.rollouts import Chosen, Rollouts, Task
from core.training.trainer import Trainer
from core.weights import DEFAULT_EMBEDDER

from .babbler import babbler, gradients, material, one_step, settings


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    tagger, extractor = (find_head(kind, "default", DEFAULT_EMBEDDER) for kind in (Tagger, Extractor))
    return Embedder(device="cpu", tagger=tagger, extractor=extractor)


def stage(embedder: Embedder, **changes: object) -> ChooseAnswers:
    model = babbler("reasoner", scale=0.1, adapters=0.05, also=("Jonas Ark",))
    small = {"sampled": "candidates", "forms": ("raw",), "outcome": "f1", "kl_weight": 0.0, "haystack": 4}
    return ChooseAnswers(model, settings(**{**small, **changes}), material(), embedder)


def test_it_is_chosen_from_what_the_engine_chooses_from(embedder: Embedder) -> None:
    choosing = stage(embedder)
    (task,) = choosing.drawn(0, 0, 1)
    (chosen,) = choosing.rollouts.choose([task])
    assert chosen.choice is not None
    assert (chosen.choice.replies[-1], chosen.choice.answers[-1]) == (UNKNOWN, "")
    assert chosen.choice.answers[:-1] == chosen.choice.replies[:-1]
    assert len(set(chosen.choice.replies)) == len(chosen.choice.replies) > 2
    recall = RecallSettings(
        form="raw",
        max_steps=2,
        update_tokens=8,
        answer_tokens=4,
        decline_bias=DECLINE_BIAS,
        extractor_weight=EXTRACTOR_WEIGHT,
    )
    with Engine(choosing.backbone, embedder, CompressionSettings(ratio=4)) as engine:
        engine.add(task.documents)
        answer = engine.ask(task.question.question, settings=recall)
    assert answer.text == (chosen.answer or NOTHING_FOUND)
    extraction = embedder.extract(task.question.question, [note.line for note in answer.memory.notes])
    assert extraction is not None
    told = candidates(chosen.choice.replies[0], extraction, EXTRACTOR_WEIGHT, DECLINE_BIAS)
    assert chosen.choice.replies == tuple(candidate.text for candidate in told)


def test_what_is_learned_is_the_expected_reward_of_the_policy_that_chose(embedder: Embedder) -> None:
    choosing = stage(embedder)
    (task,) = choosing.drawn(0, 0, 1)
    (chosen,) = choosing.rollouts.choose([task])
    (piece,) = choosing.work(0, 0, 1)
    assert chosen.choice is not None
    answers = chosen.choice.answers
    assert piece.rewards == tuple(outcome_reward(a, task.question.answers, "f1") for a in answers)
    assert len(set(piece.rewards)) > 1
    assert piece.favoured == (*[0.0] * (len(answers) - 1), DECLINE_BIAS)
    scores = torch.tensor(chosen.choice.log_probs) + torch.tensor(piece.favoured)
    measured = one_step(choosing, [piece])
    assert measured["loss"] == pytest.approx(-float(expected_reward(scores, piece.rewards)), abs=1e-4)
    assert measured["expected"] == pytest.approx(-measured["loss"], abs=1e-4)
    assert (measured["best"], measured["candidates"], measured["open"]) == (max(piece.rewards), len(answers), 1.0)
    assert measured["outcome"] == outcome_reward(chosen.answer, task.question.answers, "f1")
    assert gradients(choosing)
    assert all(".reasoner." in name for name in gradients(choosing))


def test_a_choice_that_is_made_or_cannot_matter_is_not_gone_back_through(embedder: Embedder) -> None:
    choosing = stage(embedder)
    (task,) = choosing.drawn(0, 0, 1)
    (chosen,) = choosing.rollouts.choose([task])
    assert chosen.choice is not None
    told = chosen.choice.replies
    # One is left with nearly all that the others had, so that p(c) |R(c) - mean| is beneath the bound.
    for sure, rows in ((0.0, len(told)), (50.0, 0)):
        log_probs = (sure, *[0.0] * (len(told) - 1))
        piece = choosing._piece(task, replace(chosen, choice=replace(chosen.choice, log_probs=log_probs)))
        assert (len(piece.rows), piece.recorded["open"]) == (rows, float(rows > 0))
    measured = one_step(choosing, [piece])
    assert measured["loss"] == 0.0
    assert not gradients(choosing)
    absent = choosing._piece(replace(task, absent=True), chosen)
    assert absent.rewards == (*[0.0] * (len(told) - 1), 1.0)  # to decline is right where nothing says it
    nothing = choosing._piece(task, replace(chosen, answer="", choice=None))
    assert (nothing.rows, nothing.recorded["expected"]) == ((), 0.0)
    assert 0 < DECIDED < 0.1


def test_the_divergence_is_from_the_start(embedder: Embedder) -> None:
    choosing = stage(embedder, kl_weight=0.5)
    measured = one_step(choosing, choosing.work(0, 0, 1))
    assert measured["kl"] == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for name, parameter in choosing.named_parameters():
            if ".reasoner." in name:
                parameter += 0.05
    measured = one_step(choosing, choosing.work(0, 0, 1))
    assert measured["kl"] > 1e-4
    assert measured["loss"] == pytest.approx(0.5 * measured["kl"] - measured["expected"], abs=1e-4)


def test_two_processes_do_together_what_one_does(embedder: Embedder) -> None:
    alone, together = stage(embedder, batch=2), stage(embedder, batch=2)
    measured = one_step(alone, alone.work(1, 0, 1))
    assert measured["loss"] == pytest.approx(-measured["expected"], abs=1e-4)
    parts = [one_step(together, together.work(1, process, 2)) for process in (0, 1)]
    for name, value in measured.items():
        assert sum(part.get(name, 0.0) for part in parts) == pytest.approx(value, abs=1e-4), name
    assert gradients(alone).keys() == gradients(together).keys()
    for name, gradient in gradients(alone).items():
        torch.testing.assert_close(gradients(together)[name], gradient, atol=1e-4, rtol=1e-3)


def test_the_expected_reward_rises(embedder: Embedder, tmp_path) -> None:
    choosing = stage(embedder, steps=12, warmup=1, learning_rate=3e-3, evaluate_every=12, save_every=12)
    before = one_step(choosing, choosing.work(0, 0, 1))["expected"]
    choosing.zero_grad()
    Trainer(choosing, choosing.settings, tmp_path, Accelerator(cpu=True)).run()
    after = one_step(choosing, choosing.work(0, 0, 1))["expected"]
    assert after > before + 0.05


def test_without_an_extractor_there_is_nothing_to_choose_from() -> None:
    with pytest.raises(InputError, match=r"no extractor is trained for embedder .*--stage extractor"):
        stage(Embedder(device="cpu"))


@pytest.fixture(scope="module")
def default(embedder: Embedder) -> ChooseAnswers:
    asked = settings(sampled="candidates", forms=("raw",), outcome="f1", kl_weight=0.0, answer_tokens=96)
    trained = Backbone.load()
    prepare_adapters(trained, ("reasoner",), asked, "default")
    return ChooseAnswers(trained, asked, material(), embedder)


def comparison(*answers: str) -> Task:
    ages = Question(
        id="ages",
        dataset="made",
        question="Who was born first, Ruth Calder or Anton Ravn?",
        answers=answers,
        paragraphs=(),
    )
    documents = (
        Document("Ruth Calder", "Ruth Calder (born 3 May 1871) was a Scottish painter."),
        Document("Anton Ravn", "Anton Ravn (born 9 June 1858) was a Danish composer."),
    )
    return Task(ages, documents, "raw", 4, "0")


def test_what_is_worked_out_is_learned_from_as_it_is_written(default: ChooseAnswers) -> None:
    task = comparison("Anton Ravn")
    (chosen,) = default.rollouts.choose([task])
    assert (chosen.answer, chosen.choice is not None) == ("Anton Ravn", True)
    assert chosen.choice is not None
    assert chosen.choice.deduced
    assert chosen.choice.replies[0].startswith("<working>")
    assert chosen.choice.answers[0] == "Anton Ravn"
    assert "Ruth Calder" in chosen.choice.answers
    assert (chosen.choice.replies[-1], chosen.choice.answers[-1]) == (UNKNOWN, "")
    for gold, first in (("Anton Ravn", 1.0), ("Ruth Calder", 0.0)):
        piece = default._piece(comparison(gold), chosen)
        assert (piece.rewards[0], max(piece.rewards), piece.recorded["deduced"]) == (first, 1.0, 1.0)
    rows = reply_rows(default.backbone, chosen.choice.prompt, chosen.choice.replies)
    with torch.no_grad(), default.backbone.merged():
        log_probs = [float(found.sum()) for found in target_log_probs(default.backbone, rows)]
    assert log_probs == pytest.approx(chosen.choice.log_probs, abs=0.02)


def test_what_was_cut_off_is_no_choice(default: ChooseAnswers) -> None:
    rollouts = Rollouts(
        default.backbone,
        default.compressor,
        default.rollouts._embedder,
        replaced(default.rollouts._recall, answer_tokens=12),
        placement="in_place",
        at_once=1,
    )
    (chosen,) = rollouts.choose([comparison("Anton Ravn")])
    assert chosen == Chosen("", None)
