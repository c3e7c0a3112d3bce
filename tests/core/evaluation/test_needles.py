from itertools import pairwise

import pytest

from core.evaluation.__main__ import NEEDLE_KINDS
from core.evaluation.metrics import score_question
from core.evaluation.needles import HOPS, KINDS, NEEDLES, needle_questions


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_answers_stand_in_the_supporting_lines_and_in_no_other(kind: str) -> None:
    for question in needle_questions(kind, 20):
        gold = " ".join(p.text for p in question.gold)
        rest = " ".join(p.text for p in question.paragraphs if not p.support)
        assert all(answer in gold and answer not in rest for answer in question.answers)


def test_each_kind_is_as_ruler_defines_it() -> None:
    shape = {
        kind: (len(q.paragraphs), len(q.gold), len(q.answers), q.wanted)
        for kind in KINDS
        for q in needle_questions(kind, 1)
    }
    assert shape == {
        "single": (1, 1, 1, "any"),
        "multi-key": (NEEDLES, 1, 1, "any"),
        "multi-value": (NEEDLES, NEEDLES, NEEDLES, "all"),
        "variable-tracking": (HOPS + 1, HOPS + 1, HOPS + 1, "all"),
    }


def test_a_chain_hands_one_value_on_in_order() -> None:
    (question,) = needle_questions("variable-tracking", 1)
    lines, names = [p.text for p in question.paragraphs], question.answers
    assert lines[0].startswith(f"VAR {names[0]} = ")
    assert lines[1:] == [f"VAR {later} = VAR {earlier}." for earlier, later in pairwise(names)]
    assert question.ordered
    assert lines[0].split()[-1].strip(".") in question.question


def test_all_answers_are_wanted_in_any_order_and_each_counts() -> None:
    (question,) = needle_questions("multi-value", 1)
    assert score_question(", ".join(reversed(question.answers)), question).sub_exact_match == 1.0
    assert score_question(question.answers[2], question).sub_exact_match == 1 / NEEDLES
    assert score_question("", question).sub_exact_match == 0.0


def test_questions_differ_by_number_and_seed() -> None:
    made = [q.model_dump_json() for kind in KINDS for seed in (0, 1) for q in needle_questions(kind, 5, seed=seed)]
    assert len(set(made)) == 40


def test_the_command_line_knows_every_kind() -> None:
    assert tuple(KINDS) == NEEDLE_KINDS
