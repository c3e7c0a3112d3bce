"""Questions on plain facts: each follows from its labelled sentences, and comparisons from their working."""

import gzip
import json
import re
from pathlib import Path

import pytest

from core.errors import InputError
from core.prompts import parse_answer
from core.questions import Paragraph, Question, read_questions
from core.training.encyclopaedia_data import encyclopaedia_questions, main

NATIONS = ("American", "Danish", "Indian")


def person(i: int) -> Paragraph:
    return Paragraph(
        title=f"Anna Holm{i}x",
        sentences=(
            f"Anna Holm{i}x (born {1 + i} May {1850 + 3 * (i // 2)}) is a {NATIONS[i % 3]} film director.",
            f"She was born in Skagen{i}x.",
        ),
    )


def film(i: int) -> Paragraph:
    return Paragraph(
        title=f"Lighthouse{i}x (film)",
        sentences=(f"Lighthouse{i}x is a {1900 + 3 * (i // 2)} film directed by Anna Holm{i}x.", "It was shown twice."),
    )


PARAGRAPHS = [made(i) for i in range(12) for made in (person, film)]


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return list(encyclopaedia_questions(PARAGRAPHS, 80))


def test_each_is_answered_by_its_labelled_sentences(questions: list[Question]) -> None:
    assert len(questions) == 80 == len({q.question for q in questions})
    assert {q.type for q in questions} == {"comparison", "bridge_comparison", "compositional", "single"}
    for question in questions:
        said = " ".join(sentence for p in question.gold for sentence in p.supporting)
        hops = {"single": 1, "comparison": 2, "compositional": 2, "bridge_comparison": 4}[question.type or ""]
        assert len(question.gold) == hops
        assert len(question.paragraphs) > hops  # others lie beside them
        if question.working is None:
            assert question.answers[0] in said
        elif question.answers[0] not in ("yes", "no"):
            assert question.answers[0] in question.question


def test_what_is_compared_is_worked_out(questions: list[Question]) -> None:
    worked = [q for q in questions if q.working]
    assert {q.type for q in worked} == {"comparison", "bridge_comparison"}
    agreeing = [q.answers[0] == "yes" for q in worked if q.answers[0] in ("yes", "no")]
    assert abs(2 * sum(agreeing) - len(agreeing)) <= 2  # half of them
    for question in worked:
        assert question.working is not None
        assert question.working.count(" -> Anna Holm") == 2 * (question.type == "bridge_comparison")
        said = " ".join(sentence for p in question.gold for sentence in p.supporting)
        if question.answers[0] in ("yes", "no"):
            nations = [known.rsplit(": ", 1)[1] for known in question.working.split("; ")]
            assert (nations[0] == nations[1]) == (question.answers[0] == "yes")
            assert all(nation in said for nation in nations)
            other = "no" if question.answers[0] == "yes" else "yes"
            worked = f"<answer><working>{question.working}</working>{other}</answer>"
            assert parse_answer(worked, question.question) == question.answers[0]
            continue
        first, other, wanted = question.working.split("; ")
        years = [int(known.rsplit(": ", 1)[1]) for known in (first, other)]
        assert all(str(year) in said for year in years)
        shown = [known.split(": ")[0].split(" -> ")[0] for known in (first, other)]
        word = re.search(r"\b(first|earlier|older|later|younger|recently)\b", question.question)
        assert word is not None
        assert wanted == ("last" if word[1] in ("later", "younger", "recently") else "first")
        chosen = parse_answer(f"<answer><working>{question.working}</working></answer>", "")
        assert chosen in question.answers
        # Its words say it too.
        wrong = f"{question.working.removesuffix(wanted)}{'first' if wanted == 'last' else 'last'}"
        assert parse_answer(f"<answer><working>{wrong}</working></answer>", question.question) == chosen
        assert chosen == shown[years.index(max(years) if wanted == "last" else min(years))]
        # In the order of the question.
        assert question.question.index(shown[0]) < question.question.index(shown[1])


def test_the_same_seed_gives_the_same_file_without_what_is_measured_on(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "pool").mkdir()
    rows = [json.dumps({"title": p.title, "sentences": p.sentences}) for p in PARAGRAPHS]
    (tmp_path / "pool" / "wikipedia.jsonl").write_text("\n".join(rows) + "\n")
    asked = Question(id="1", dataset="d", question="Who?", answers=("A",), paragraphs=(person(40),))
    (tmp_path / "train" / "a.jsonl").write_text(json.dumps(asked.model_dump(mode="json")) + "\n")
    gold = person(3).model_copy(update={"support": (0,)})
    measured = asked.model_copy(update={"paragraphs": (gold, person(4))})
    (tmp_path / "dev.jsonl").write_text(json.dumps(measured.model_dump(mode="json")) + "\n")

    made = tmp_path / "train" / "encyclopaedia.jsonl.gz"
    main(tmp_path, made, count=60, without=[tmp_path / "dev.jsonl"])
    first = made.read_bytes()
    main(tmp_path, made, count=60, without=[tmp_path / "dev.jsonl"])  # what it made itself is no text to ask about
    assert made.read_bytes() == first
    main(tmp_path, tmp_path / "other.jsonl.gz", count=60, seed=1)
    assert gzip.decompress((tmp_path / "other.jsonl.gz").read_bytes()) != gzip.decompress(first)

    (tmp_path / "train" / "a.jsonl").unlink()
    main(tmp_path, tmp_path / "later.jsonl.gz", count=60)
    assert not any(
        p.title == person(40).title for q in read_questions(tmp_path / "later.jsonl.gz") for p in q.paragraphs
    )

    titles = {p.title for q in read_questions(made) for p in q.paragraphs}
    assert person(3).title not in titles
    assert {person(4).title, person(40).title} <= titles


def test_text_that_says_nothing_plain_is_refused() -> None:
    with pytest.raises(InputError, match="0 paragraphs say something plain"):
        list(encyclopaedia_questions([Paragraph(title="A", sentences=("Oil was used.",))], 5))
