"""The recipe of RULER-HQA, point by point."""

import hashlib
import json
import subprocess
import sys

import pytest

from core.errors import InputError
from core.evaluation.haystack import Haystack, Pool, own_haystack, shared_haystack, supporting_spans, usable
from core.evaluation.needles import KINDS, needle_questions
from core.questions import Question

from .made import ARROWDALE, MILL, POOL, QUESTIONS, paragraph

PRINT_DIGEST = """
from tests.core.evaluation.test_haystack import digest
print(digest())
"""


def digest() -> str:
    """Hash haystacks of every kind, and generated questions."""
    pool = Pool(POOL)
    built = [own_haystack(q, pool, n, seed=3) for q in QUESTIONS for n in (5, 20, 50)]
    built += [own_haystack(ARROWDALE, pool, 50, gap=7), shared_haystack(QUESTIONS, pool, 50)]
    made = [q.model_dump_json() for kind in KINDS for q in needle_questions(kind, 5, seed=2)]
    return hashlib.sha256(json.dumps([*map(texts, built), made]).encode()).hexdigest()


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(POOL)


def texts(haystack: Haystack) -> list[str]:
    return [document.text for document in haystack.documents]


def gold_places(haystack: Haystack, question: Question) -> list[int]:
    return [int(name) - 1 for name in haystack.supporting[question.id]]


def test_another_process_builds_the_same() -> None:
    run = subprocess.run([sys.executable, "-c", PRINT_DIGEST], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


def test_the_order_in_which_the_pool_was_read_does_not_count(pool: Pool) -> None:
    assert texts(own_haystack(MILL, Pool(reversed(POOL)), 20)) == texts(own_haystack(MILL, pool, 20))


@pytest.mark.parametrize("documents", [3, 10, 50])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_the_question_s_own_paragraphs_are_there_once_and_gold_is_where_it_says(
    pool: Pool, question: Question, documents: int
) -> None:
    haystack = own_haystack(question, pool, documents)
    assert len(haystack.documents) == len(set(texts(haystack))) == documents
    assert [document.document_id for document in haystack.documents] == [str(n + 1) for n in range(documents)]
    assert {p.document for p in question.paragraphs} <= set(texts(haystack))
    placed = {texts(haystack)[place] for place in gold_places(haystack, question)}
    assert placed == {p.document for p in question.gold}


def test_supporting_sentences_are_found_by_their_characters(pool: Pool) -> None:
    haystack = own_haystack(ARROWDALE, pool, 10)
    said = [
        haystack.documents[int(name) - 1].text[span.start : span.end]
        for name, spans in haystack.supporting["arrowdale"].items()
        for span in spans
    ]
    assert sorted(said) == ["Arrowdale is a film directed by Mira Kostova.", "She was born in Plovdiv."]
    untitled = paragraph("", "One.", "Two.", support=(0, 1))
    assert [untitled.document[s.start : s.end] for s in supporting_spans(untitled)] == ["One.", "Two."]


def test_a_shorter_haystack_s_documents_are_among_a_longer_one_s(pool: Pool) -> None:
    short, middle, long = (set(texts(own_haystack(ARROWDALE, pool, n))) for n in (5, 20, 50))
    assert short < middle < long


def test_gold_stands_elsewhere_for_each_question_and_length_and_seed(pool: Pool) -> None:
    many = [ARROWDALE.model_copy(update={"id": f"q{n}"}) for n in range(40)]
    places = [tuple(gold_places(own_haystack(q, pool, 20), q)) for q in many]
    assert len(set(places)) > 30
    # Uniform over 20 places: 80 draws leave few untouched, and the mean is near the middle.
    flat = [place for pair in places for place in pair]
    assert len(set(flat)) >= 17
    assert 7 < sum(flat) / len(flat) < 12
    orders = {tuple(texts(own_haystack(ARROWDALE, pool, 20, seed=seed))) for seed in range(3)}
    assert len(orders) == 3


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_without_its_gold_a_haystack_is_as_large_and_holds_the_same_others(pool: Pool, question: Question) -> None:
    whole, absent = own_haystack(question, pool, 20), own_haystack(question, pool, 20, lacking="absent")
    gold = {paragraph.document for paragraph in question.gold}
    assert len(absent.documents) == len(set(texts(absent))) == 20
    assert not gold & set(texts(absent))
    assert set(texts(whole)) - gold < set(texts(absent))
    assert absent.supporting == {question.id: {}}


def test_with_the_answer_withheld_the_rest_of_the_gold_stays(pool: Pool) -> None:
    withheld = own_haystack(ARROWDALE, pool, 20, lacking="withheld")
    assert len(withheld.documents) == len(set(texts(withheld))) == 20
    assert not any(answer in text for answer in ARROWDALE.answers for text in texts(withheld))
    left = {text.split("\n")[0] for text in texts(withheld)} & {p.title for p in ARROWDALE.gold}
    assert left
    unchanged = {p.document for p in ARROWDALE.gold} & set(texts(withheld))
    assert {withheld.documents[int(name) - 1].text for name in withheld.supporting["arrowdale"]} == unchanged
    assert withheld == own_haystack(ARROWDALE, pool, 20, lacking="withheld")


def test_no_gold_paragraph_and_no_namesake_is_a_distractor() -> None:
    namesake = paragraph(" mira KOSTOVA", "Another person of that name.")
    copies = [
        ARROWDALE.gold[0].model_copy(update={"support": ()}),
        paragraph("Other title", *ARROWDALE.gold[1].sentences),
        paragraph("Third title", " ".join(s.upper() for s in ARROWDALE.gold[1].sentences) + "  "),
    ]
    pool = Pool([*POOL, namesake, *copies])
    drawn = texts(own_haystack(ARROWDALE, pool, 63))
    assert not {namesake.document, *(c.document for c in copies[1:])} & set(drawn)
    with pytest.raises(InputError, match="the pool has 60 documents that can be distractors, 61 are needed"):
        own_haystack(ARROWDALE, pool, 64)


def test_a_question_without_gold_or_too_large_for_the_haystack_is_refused(pool: Pool) -> None:
    bare = ARROWDALE.model_copy(update={"paragraphs": ARROWDALE.paragraphs[1:2]})
    assert not usable(bare, 50)
    assert (usable(ARROWDALE, 3), usable(ARROWDALE, 2)) == (True, False)
    with pytest.raises(InputError, match="'arrowdale' has 3 paragraphs, 2 of them gold"):
        own_haystack(ARROWDALE, pool, 2)


def test_a_support_that_names_no_sentence_is_refused(pool: Pool) -> None:
    wrong = ARROWDALE.model_copy(update={"paragraphs": (paragraph("A", "b", support=(1,)),)})
    with pytest.raises(InputError, match="has 1 sentences, its support names sentence 1"):
        own_haystack(wrong, pool, 5)


def test_a_shared_haystack_holds_the_gold_of_all_and_nothing_else_of_their_contexts(pool: Pool) -> None:
    haystack = shared_haystack(QUESTIONS, pool, 20)
    assert len(set(texts(haystack))) == 20
    for question in QUESTIONS:
        placed = {texts(haystack)[place] for place in gold_places(haystack, question)}
        assert placed == {p.document for p in question.gold}
    assert set(texts(haystack)) < set(texts(shared_haystack(QUESTIONS, pool, 50)))
    assert texts(haystack) == texts(shared_haystack(QUESTIONS, pool, 20))
    with pytest.raises(InputError, match="2 questions have 3 gold paragraphs"):
        shared_haystack(QUESTIONS, pool, 2)


@pytest.mark.parametrize(("documents", "gap"), [(10, 0), (10, 5), (50, 30), (10, 8)])
def test_distant_evidence_stands_in_reverse_order_with_a_gap(pool: Pool, documents: int, gap: int) -> None:
    for seed in range(10):
        haystack = own_haystack(ARROWDALE, pool, documents, seed=seed, gap=gap)
        person, film = (texts(haystack).index(p.document) for p in ARROWDALE.gold)
        assert film - person > gap  # the film is needed first, so it comes last
        assert len(set(texts(haystack))) == documents
    with pytest.raises(InputError, match=r"do not fit among 10; lower --gap"):
        own_haystack(ARROWDALE, pool, 10, gap=9)


def test_the_lines_of_a_story_keep_their_order(pool: Pool) -> None:
    lines = ("Ann went out.", "Bob slept.", "Bob slept.", "Ann came home.")
    story = Question(
        id="s",
        dataset="made",
        question="Where is Ann?",
        answers=("home",),
        paragraphs=tuple(paragraph("", line, support=(0,) if n in (2, 3) else ()) for n, line in enumerate(lines)),
        ordered=True,
    )
    haystack = own_haystack(story, pool, 30)
    assert tuple(text for text in texts(haystack) if text in lines) == lines
    assert [texts(haystack)[place] for place in gold_places(haystack, story)] == ["Bob slept.", "Ann came home."]
    with pytest.raises(InputError, match="cannot be reversed"):
        own_haystack(story, pool, 30, gap=1)
    with pytest.raises(InputError, match="a story of its own"):
        shared_haystack([story], pool, 30)


def test_the_text_is_numbered_documents(pool: Pool) -> None:
    haystack = own_haystack(MILL, Pool(POOL[:1]), 3)
    assert haystack.text == "\n\n".join(f"Document {n}:\n{text}" for n, text in enumerate(texts(haystack), 1))
    assert "Brenfield Mill\nThe mill at Brenfield is owned by Jonas Ark." in haystack.text
