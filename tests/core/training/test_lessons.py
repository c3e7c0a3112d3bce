"""What the supervised stages are shown: the same everywhere, and true."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.errors import InputError
from core.questions import Question
from core.settings import Form
from core.training.lessons import QUOTED_WORDS, Lesson, Lessons, Turn, quotation
from core.training.sample_data import sample_questions
from core.working_memory import find_evidence, words

FORMS: tuple[Form, ...] = ("raw", "compressed")
QUESTIONS = sample_questions()[0]


def digest() -> str:
    """Hash the lessons of a pass and a half."""
    lessons = Lessons(QUESTIONS, FORMS, seed=3)
    return hashlib.sha256(repr([lessons.at(i) for i in range(len(lessons) * 3 // 2)]).encode()).hexdigest()


def text_of(lesson: Lesson, turn: Turn) -> str:
    """Return the text that a turn reads, from the slots' text or out of the prompt."""
    if lesson.chunk is not None:
        return lesson.chunk
    found = re.search(r"<text>\n(.*)\n</text>", turn.user, re.DOTALL)
    assert found
    return found.group(1)


def updates(form: Form, questions: list[Question] = QUESTIONS) -> Iterator[tuple[Lesson, Turn, str]]:
    """Yield every turn of a pass that reads a text, with that text."""
    lessons = Lessons(questions, (form,), seed=0)
    for index in range(len(lessons)):
        lesson = lessons.at(index)
        yield from ((lesson, t, text_of(lesson, t)) for t in lesson.turns if not t.target.endswith("</answer>"))


def asked(turn: Turn) -> str:
    found = re.search(r"^Question: (.*)$", turn.user, re.MULTILINE)
    assert found
    return found.group(1)


def noted(turn: Turn) -> list[str]:
    return [line for line in turn.target.split("</update>")[0].splitlines() if line != "none"]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_makes_the_same_lessons(hash_seed: str) -> None:
    code = "from tests.core.training.test_lessons import digest; print(digest())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.strip() == digest()


def test_lessons_can_be_had_in_any_order_and_another_seed_gives_others() -> None:
    lessons = Lessons(QUESTIONS, FORMS, seed=0)
    backwards = [lessons.at(i) for i in reversed(range(20))]
    assert backwards[::-1] == [lessons.at(i) for i in range(20)]
    assert backwards[::-1] != [Lessons(QUESTIONS, FORMS, seed=1).at(i) for i in range(20)]
    assert [lessons.at(i) for i in range(20)] != [lessons.at(len(lessons) + i) for i in range(20)]


@pytest.mark.parametrize("form", FORMS)
def test_every_target_is_found_again_in_the_text_as_evidence(form: Form) -> None:
    count = 0
    for _, turn, text in updates(form):
        for line in noted(turn):
            found = find_evidence(line, text)
            assert found is not None, line
            assert " ".join(words(line)) in " ".join(words(text[found.start : found.end]))
            assert len(line.split()) <= QUOTED_WORDS
            count += 1
    assert count > 300


@pytest.mark.parametrize("form", FORMS)
def test_a_text_that_helps_nothing_holds_no_support_of_its_question(form: Form) -> None:
    gold: dict[str, set[str]] = {}
    for question in QUESTIONS:
        gold.setdefault(question.question, set()).update(p.text for p in question.gold)
    idle = [(turn, text) for _, turn, text in updates(form) if not noted(turn)]
    assert len(idle) > 50
    for turn, text in idle:
        assert turn.target == "none</update>"
        assert not any(paragraph in text for paragraph in gold[asked(turn)]), asked(turn)


def test_texts_are_as_long_as_their_form_allows() -> None:
    lengths = {form: [len(text.split()) for _, _, text in updates(form)] for form in FORMS}
    longest_pair = 2 * max(len(p.document.split()) for q in QUESTIONS for p in q.gold)
    assert max(lengths["raw"]) <= max(180, longest_pair) + 10  # titles are not counted
    assert 500 < max(lengths["compressed"]) <= 700 + 30


def test_a_pass_asks_every_question_about_one_paragraph() -> None:
    seen = {asked(turn) for _, turn, _ in updates("compressed")}
    assert {q.question for q in QUESTIONS if len(q.gold) == 1} <= seen


def test_a_pass_answers_every_question_from_its_supporting_sentences() -> None:
    lessons = Lessons(QUESTIONS, FORMS, seed=0)
    turns = [t for i in range(len(lessons)) for t in lessons.at(i).turns if t.target.endswith("</answer>")]
    assert sorted(asked(t) for t in turns) == sorted(q.question for q in QUESTIONS)
    by_question = {(q.question, q.answers[0]): q for q in QUESTIONS}
    for turn in turns:
        question = by_question[asked(turn), turn.target.removesuffix("</answer>")]
        assert all(sentence in turn.user for p in question.gold for sentence in p.supporting)


def test_a_second_hop_is_asked_with_and_without_what_the_first_said() -> None:
    pair = next(q for q in QUESTIONS if len(q.gold) > 1)
    turns = [t for _, t, _ in updates("compressed", [pair, pair]) if asked(t) == pair.question]
    without, with_notes = turns[:2]
    assert "Notes so far" not in without.user
    assert "Notes so far" in with_notes.user
    assert noted(without) != []
    assert noted(with_notes) != []


@pytest.mark.parametrize(
    ("anchors", "quoted"),
    [
        (["1857"], "1857, a year after the old one fell."),
        (["nowhere", "THE OLD ONE"], "the old one fell."),
        (["fell"], "the old one fell."),
        (["lit in 18"], "The lighthouse was lit in 1857, a year"),  # whole words only
        (["?", ""], "The lighthouse was lit in 1857, a year"),
        ([], "The lighthouse was lit in 1857, a year"),
    ],
)
def test_a_quotation_begins_at_the_first_anchor_that_the_sentence_has(anchors: list[str], quoted: str) -> None:
    assert quotation("The lighthouse was lit in 1857, a year after the old one fell.", anchors) == quoted


def test_a_table_that_nobody_could_read_is_left_out() -> None:
    table = QUESTIONS[0].gold[0].model_copy(update={"sentences": ("cell " * 2000,), "support": (0,)})
    long = QUESTIONS[0].model_copy(update={"paragraphs": (table,), "question": "What does the table say?"})
    lessons = Lessons([*QUESTIONS[:6], long], FORMS, seed=0)
    turns = [turn for i in range(len(lessons)) for turn in lessons.at(i).turns]
    assert turns
    assert not any("cell cell" in turn.user or "the table say" in turn.user for turn in turns)


def test_an_answer_of_a_whole_paragraph_is_left_out() -> None:
    long = QUESTIONS[0].model_copy(update={"answers": ("word " * 13,), "question": "What does it all say?"})
    short = QUESTIONS[1].model_copy(update={"answers": ("word " * 12,), "question": "What does some of it say?"})
    lessons = Lessons([*QUESTIONS[2:8], long, short], FORMS, seed=0)
    turns = [turn for i in range(len(lessons)) for turn in lessons.at(i).turns]
    assert not any(long.question in turn.user for turn in turns)
    assert any(short.question in turn.user for turn in turns)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_questions_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} questions with supporting sentences"):
        Lessons(QUESTIONS[:count], FORMS, 0)
