"""Hand-written questions on the reference that Python carries."""

import json
from pathlib import Path

from core.evaluation.haystack import Pool, own_haystack
from core.evaluation.reference_questions import main, reference_questions
from core.questions import read_pool, read_questions


def test_every_question_has_one_section_and_one_sentence_of_it() -> None:
    questions, _ = reference_questions()
    assert len(questions) >= 30  # a release may word a few otherwise
    assert len({q.question for q in questions}) == len(questions)
    for question in questions:
        (gold,) = question.gold
        assert len(gold.support) == 1


def test_an_entry_stands_under_its_signature_and_ends_where_the_next_begins() -> None:
    questions, _ = reference_questions()
    (asked,) = [q for q in questions if q.question == "When does str.isdigit return True?"]
    assert asked.gold[0].title == "str.isdigit()"
    assert "isidentifier" not in asked.gold[0].text
    assert asked.gold[0].supporting[0].startswith('Return "True" if all characters in the string are digits')


def test_no_section_of_the_pool_answers_a_question() -> None:
    questions, pool = reference_questions()
    gold = {q.gold[0].text for q in questions}
    assert len(pool) > 500
    assert not gold & {paragraph.text for paragraph in pool}


def test_the_files_are_what_the_evaluation_reads(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    questions = list(read_questions(tmp_path / "python-reference.jsonl"))
    pool = Pool(read_pool(tmp_path / "python-reference-pool.jsonl"))
    assert [q.id for q in questions] == [q.id for q in reference_questions()[0]]
    haystack = own_haystack(questions[0], pool, 50)
    assert len(haystack.documents) == 50
    assert list(haystack.supporting[questions[0].id])
    assert json.loads((tmp_path / "python-reference.jsonl").read_text().splitlines()[0])["answers"]
