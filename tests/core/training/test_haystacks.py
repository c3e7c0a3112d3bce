"""What the gate is shown: enough chunks, true labels, notes as if some had been read."""

import pytest

from core.errors import InputError
from core.training.haystacks import Haystack, Haystacks

from .small_runs import material

QUESTIONS = material().train
BY_TEXT = {q.question: q for q in QUESTIONS}


def haystacks(noted: float, chunks: int = 12, seed: int = 0) -> list[Haystack]:
    made = Haystacks(QUESTIONS, material().pool, chunks, seed, noted=noted)
    return [made.at(i) for i in range(120)]


def test_the_same_seed_gives_the_same_and_another_others() -> None:
    assert haystacks(0.5) == haystacks(0.5)
    assert haystacks(0.5) != haystacks(0.5, seed=1)


@pytest.mark.parametrize("noted", [0.0, 1.0])
def test_a_chunk_holds_something_exactly_where_it_is_gold_and_unread(noted: float) -> None:
    for haystack in haystacks(noted):
        question = BY_TEXT[haystack.question]
        gold = {p.document for p in question.gold}
        assert len(haystack.chunks) == len(set(haystack.chunks)) == 12
        assert [chunk in gold for chunk in haystack.chunks] == list(haystack.holds)
        assert any(haystack.holds)
        unread = [p for p in question.gold if p.document in haystack.chunks]
        for paragraph in question.gold:
            said = set(paragraph.supporting) <= set(haystack.notes)
            assert said != (paragraph in unread) or paragraph in unread  # read ones are noted
        if noted == 0:
            assert len(unread) == len(question.gold)
        elif len({p.text for p in question.gold}) > 1:
            assert 0 < len(unread) < len(question.gold)


def test_every_question_comes_once_in_a_pass() -> None:
    made = Haystacks(QUESTIONS, (), 4, 0, noted=0.5)
    assert sorted(made.at(i).question for i in range(len(made))) == sorted(q.question for q in QUESTIONS)


def test_without_questions_there_is_nothing_to_learn() -> None:
    with pytest.raises(InputError, match="no question with supporting sentences"):
        Haystacks((), (), 4, 0, noted=0.5)
