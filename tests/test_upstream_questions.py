"""Data as its authors publish it, read into one schema."""

import gzip
import json
from pathlib import Path

import pytest

from core.errors import InputError
from core.upstream_questions import read_hotpotqa, read_musique, read_squad

HOTPOTQA = [
    {
        "_id": "5a8b",
        "question": "Who?",
        "answer": "yes",
        "type": "comparison",
        "level": "hard",
        "context": [["A", ["One.", " Two."]], ["B", ["Three."]], ["C", ["Four."]]],
        "supporting_facts": [["A", 1], ["B", 0], ["B", 7]],
    }
]
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Who?",
    "answer": "Ann",
    "answer_aliases": ["Ann B.", "Ann"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "A", "paragraph_text": "First one. Second one.", "is_supporting": True},
        {"idx": 1, "title": "B", "paragraph_text": "Third.", "is_supporting": False},
    ],
    "question_decomposition": [{"id": 1, "question": "A >> x", "answer": "Z", "paragraph_support_idx": 0}],
}
CONTEXT = "Super Bowl 50 was a game. The Broncos won it. It was cold."
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Super_Bowl_50",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": " Who won?",
                            "answers": [
                                {"text": "The Broncos", "answer_start": 26},
                                {"text": "Broncos", "answer_start": 30},
                                {"text": "Broncos", "answer_start": 30},
                            ],
                        },
                        {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def test_hotpotqa_supports_sentences_and_forgets_those_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "hotpot_dev.json").write_text(json.dumps(HOTPOTQA))
    (question,) = read_hotpotqa(tmp_path / "hotpot_dev.json")
    assert (question.id, question.answers, question.type) == ("5a8b", ("yes",), "comparison")
    assert [(p.title, p.sentences, p.support) for p in question.paragraphs] == [
        ("A", ("One.", " Two."), (1,)),
        ("B", ("Three.",), (0,)),
        ("C", ("Four.",), ()),
    ]
    assert [p.title for p in question.gold] == ["A", "B"]


def test_musique_has_aliases_and_a_decomposition(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "musique.jsonl.gz", "wt") as file:
        file.write(json.dumps(MUSIQUE) + "\n\n")
    (question,) = read_musique(tmp_path / "musique.jsonl.gz")
    assert question.answers == ("Ann", "Ann B.")
    assert question.type == "2hop"
    assert question.decomposition == (("A >> x", "Z"),)
    assert [(p.sentences, p.support) for p in question.paragraphs] == [
        (("First one.", "Second one."), (0, 1)),
        (("Third.",), ()),
    ]


def test_squad_supports_the_sentence_of_the_answer(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps(SQUAD))
    (question,) = read_squad(tmp_path / "dev.json")
    assert (question.id, question.question, question.answers) == ("q1", "Who won?", ("The Broncos", "Broncos"))
    (paragraph,) = question.paragraphs
    assert (paragraph.title, paragraph.supporting) == ("Super Bowl 50", ("The Broncos won it.",))
    assert paragraph.text == CONTEXT


@pytest.mark.parametrize("read", [read_hotpotqa, read_musique, read_squad])
def test_another_form_is_refused_with_the_file(tmp_path: Path, read) -> None:
    (tmp_path / "x.json").write_text('{"question": 3}')
    with pytest.raises(InputError, match=r"x\.json"):
        list(read(tmp_path / "x.json"))
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json is not in the published form"):
        list(read(tmp_path / "x.json"))
    with pytest.raises(InputError, match="is no file"):
        list(read(tmp_path / "missing.json"))
