"""Lessons on plain text, their losses against the plain model, and how they mix with questions."""

import pytest
import torch

from core.compressor import Compressor
from core.errors import InputError
from core.questions import Paragraph
from core.settings import CompressionSettings
from core.teacher_forcing import Row
from core.training.material import is_held_out
from core.training.pretraining import OBJECTIVES, Objective, PoolLessons, pool_loss, pool_share
from tests.tiny_models import backbone, causal_lm, random_ids, randomize_adapter

from .small_runs import material

POOL = material().pool


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lessons_are_the_same_again_and_every_paragraph_comes_before_any_again(objective: Objective) -> None:
    lessons = PoolLessons(POOL, seed=2)
    first = [lessons.at(i, objective) for i in range(len(lessons))]
    assert first == [PoolLessons(POOL, seed=2).at(i, objective) for i in range(len(lessons))]
    assert first[:5] != [PoolLessons(POOL, seed=3).at(i, objective) for i in range(5)]
    beginnings = {p.sentences[0] for p in POOL if not is_held_out(p.text)}
    assert len(first) == len(lessons) > 50
    assert sum(any(b in lesson.chunk for b in beginnings) for lesson in first if lesson.chunk) == len(first)


def test_a_reconstruction_asks_for_what_stands_in_the_text() -> None:
    lessons = PoolLessons(POOL, seed=0)
    for index in range(30):
        lesson = lessons.at(index, "reconstruction")
        assert lesson.chunk
        assert lesson.turns
        for turn in lesson.turns:
            assert turn.kind == "reconstruction"
            span = turn.user.splitlines()[-1] + turn.target
            assert span in " ".join(lesson.chunk.split())
            assert 12 <= len(span.split()) <= 40
            assert turn.target.strip() not in turn.user


def test_a_continuation_follows_its_text_and_is_not_in_it() -> None:
    paragraphs = {p.text for p in POOL}
    lessons = PoolLessons(POOL, seed=0)
    for index in range(30):
        lesson = lessons.at(index, "continuation")
        assert lesson.chunk
        (turn,) = lesson.turns
        assert (turn.kind, turn.opening) == ("continuation", "")
        whole = lesson.chunk.rpartition("\n\n")[2] + turn.user + turn.target
        assert any(text.startswith(whole) for text in paragraphs), whole
        assert turn.target not in lesson.chunk


def test_what_is_held_out_is_not_trained_on() -> None:
    pool = [
        Paragraph(
            title="",
            sentences=(
                f"Text {i} begins with a good dozen words, as every one of them has to do.",
                f"Text {i} goes on with a good dozen words, as every one has to do.",
            ),
        )
        for i in range(400)
    ]
    trained, held = PoolLessons(pool, 0), PoolLessons(pool, 0, held_out=True)
    assert len(trained) + len(held) == 400
    assert 1 <= len(held) <= 25
    texts = {
        lessons: {lessons.at(i, "continuation").turns[0].user for i in range(len(lessons))}
        for lessons in (trained, held)
    }
    assert not texts[trained] & texts[held]


def test_a_pool_without_paragraphs_of_some_length_is_refused() -> None:
    with pytest.raises(InputError, match="1 pool paragraphs, none with two halves of 12 words"):
        PoolLessons([Paragraph(title="", sentences=("Too short.", "By far."))], 0)


@pytest.mark.parametrize(
    ("reconstruction", "continuation"), [(0.25, 0.25), (0.5, 0.1), (0.0, 0.3), (1.0, 0.0), (0.1, 0.9)]
)
def test_shares_are_kept_and_each_kind_is_counted_through(reconstruction: float, continuation: float) -> None:
    drawn = [pool_share(place, reconstruction, continuation) for place in range(200)]
    kinds = [kind for kind, _ in drawn]
    assert kinds.count("reconstruction") == pytest.approx(200 * reconstruction, abs=1)
    assert kinds.count("continuation") == pytest.approx(200 * continuation, abs=1)
    assert [n for kind, n in drawn if kind is None] == list(range(kinds.count(None)))
    assert [n for kind, n in drawn if kind] == list(range(200 - kinds.count(None)))


def test_the_losses_are_those_of_the_plain_model() -> None:
    model, chunk = backbone(), random_ids(30, seed=1)
    rows = [Row(tuple(random_ids(4, seed=2)), tuple(random_ids(9, seed=3)))]
    exact, lossy = (Compressor(model, CompressionSettings(ratio=r)).compress([chunk])[0] for r in (1, 4))
    ids = [*chunk, *rows[0].prompt, *rows[0].target]
    with torch.no_grad():
        plain = torch.log_softmax(causal_lm()(torch.tensor([ids])).logits[0, -10:-1], dim=-1)
    expected = -plain.gather(1, torch.tensor(rows[0].target)[:, None]).sum()
    found = pool_loss(model, "reconstruction", chunk, rows, exact)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    # Slots that keep everything say what the text says; others do not.
    assert float(pool_loss(model, "continuation", chunk, rows, exact)) == pytest.approx(0, abs=1e-3)
    assert float(pool_loss(model, "continuation", chunk, rows, lossy)) > 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_bare_base_reads_and_only_the_compressor_learns(objective: Objective) -> None:
    model, chunk = backbone(), random_ids(30, seed=1)
    for role in ("compressor", "reasoner"):
        model.add_adapter(role, rank=2, alpha=4)
        randomize_adapter(model, role, 0)
    (slots,) = Compressor(model, CompressionSettings(ratio=4)).forward([chunk])
    rows = [Row(tuple(random_ids(4, seed=2)), tuple(random_ids(9, seed=3)))]
    pool_loss(model, objective, chunk, rows, slots).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.adapter_parameters("compressor"))
    assert all(p.grad is None for p in model.adapter_parameters("reasoner"))
