"""Questions out of docstrings: each is answered by the sentence that is marked, word for word."""

import sysconfig
from pathlib import Path

import pytest

from core.questions import Question, read_questions
from core.training.docstring_data import docstring_questions, main
from core.training.lessons import Lessons

EMAIL = Path(sysconfig.get_path("stdlib"), "email")


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return list(docstring_questions(library=EMAIL))


def test_there_are_enough_to_learn_from(questions: list[Question]) -> None:
    assert len(questions) > 80
    assert len({q.question for q in questions}) > 0.95 * len(questions)


def test_every_answer_stands_in_its_supporting_sentence(questions: list[Question]) -> None:
    for question in questions:
        (sentence,) = question.gold[0].supporting
        assert question.answers[0] in sentence, question.id


def test_every_question_can_be_asked_of_its_text(questions: list[Question]) -> None:
    """What is asked about is named in the text that is shown, not only in its title."""
    for question in questions:
        last = question.gold[0].title.rsplit(".", 1)[-1]
        assert last in question.question
        assert last in question.gold[0].text


def test_the_same_seed_gives_the_same_file_and_lessons_come_of_it(tmp_path: Path, questions: list[Question]) -> None:
    main(tmp_path / "a.jsonl.gz", library=EMAIL)
    main(tmp_path / "b.jsonl.gz", library=EMAIL)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    read = list(read_questions(tmp_path / "a.jsonl.gz"))
    assert read == questions
    lessons = Lessons(read, ("raw",), 0)
    assert any(turn.target.startswith("none") for i in range(20) for turn in lessons.at(i).turns)


def test_another_seed_words_the_questions_otherwise(questions: list[Question]) -> None:
    assert [q.question for q in docstring_questions(1, EMAIL)] != [q.question for q in questions]
