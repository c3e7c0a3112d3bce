"""Which question comes when, and which are left out."""

import pytest

from core.backbone import Backbone
from core.errors import InputError
from core.questions import Question
from core.training.question_order import QuestionOrder

from ...tiny_models import tokenizer, writer


def question(number: int, *answers: str) -> Question:
    return Question(id=str(number), dataset="made", question=f"Question {number}?", answers=answers, paragraphs=())


QUESTIONS = tuple(question(number, f"answer {number}") for number in range(7))


def test_every_question_comes_once_in_each_pass_and_passes_differ() -> None:
    order = QuestionOrder(QUESTIONS, 3)
    first, second = ([order.at(epoch * 7 + i).id for i in range(7)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == [str(number) for number in range(7)]
    assert first != second


def test_a_place_has_the_same_question_whatever_was_asked_before() -> None:
    once, again, other = QuestionOrder(QUESTIONS, 3), QuestionOrder(QUESTIONS, 3), QuestionOrder(QUESTIONS, 4)
    assert [once.at(i) for i in range(20)] == [again.at(i) for i in reversed(range(20))][::-1]
    assert [once.at(i) for i in range(20)] != [other.at(i) for i in range(20)]


def test_what_the_base_answers_without_text_is_replaced() -> None:
    # The model writes "Ark" whatever it is asked.
    (ark,), (last,) = (tokenizer().encode(text, add_special_tokens=False) for text in (" Ark", ">"))
    model = Backbone(writer([ark, tokenizer().eos_token_id], last), tokenizer(), "writer")
    questions = (*QUESTIONS, *(question(10 + number, "Ark") for number in range(7)))
    order = QuestionOrder(questions, 0, model)
    drawn = [order.at(place) for place in range(14)]
    assert all("Ark" not in found.answers for found in drawn)
    assert any("Ark" in QuestionOrder(questions, 0).at(place).answers for place in range(14))
    again = QuestionOrder(questions, 0, model)
    assert [again.at(place) for place in reversed(range(14))][::-1] == drawn


def test_without_questions_there_is_nothing_to_learn() -> None:
    with pytest.raises(InputError, match="0 questions"):
        QuestionOrder((), 0)
