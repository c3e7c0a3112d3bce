"""Cases worked by hand."""

import pytest

from core.chunking import Span
from core.evaluation.metrics import (
    AnswerScores,
    declines,
    exact_match,
    f1,
    gold_read,
    normalized,
    recall_at,
    score_answer,
    source_precision,
    sub_exact_match,
)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  The Cat,  sat! ", "cat sat"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),  # an article is a whole word
        ("U.S.", "us"),
        ("A", "a"),  # nothing would be left of it
        ("", ""),
        ("...", "..."),
    ],
)
def test_text_is_normalized_as_squad_does(text: str, plain: str) -> None:
    assert normalized(text) == plain


@pytest.mark.parametrize(
    ("prediction", "answer", "em", "overlap", "sub"),
    [
        ("The Denver Broncos", "Denver Broncos", 1, 1, 1),
        ("Denver", "Denver Broncos", 0, 2 / 3, 0),  # P 1, R 1/2
        ("It was the Denver Broncos of the AFC", "Denver Broncos", 0, 2 * (2 / 6) / (2 / 6 + 1), 1),
        ("Broncos Denver", "Denver Broncos", 0, 1, 0),  # the words, not side by side
        ("two two three", "two three three", 0, 2 / 3, 0),  # each word as often as both have it
        ("Bonn", "Paris", 0, 0, 0),
        ("a", "A", 1, 1, 1),
    ],
)
def test_answers_are_scored(prediction: str, answer: str, em: float, overlap: float, sub: float) -> None:
    assert exact_match(prediction, answer) == em
    assert f1(prediction, answer) == pytest.approx(overlap)
    assert sub_exact_match(prediction, answer) == sub


@pytest.mark.parametrize(
    ("prediction", "answer", "em", "overlap", "sub"),
    [
        ("Yes.", "yes", 1, 1, 1),
        ("yes, both are", "yes", 0, 0, 1),  # F1 of HotpotQA: whole or nothing
        ("no", "yes", 0, 0, 0),
        ("I know nothing about Norway", "no", 0, 0, 0),
        ("yes", "yes indeed", 0, 0, 0),
    ],
)
def test_yes_and_no_match_as_words(prediction: str, answer: str, em: float, overlap: float, sub: float) -> None:
    assert score_answer(prediction, [answer]) == AnswerScores(em, overlap, sub)


def test_the_best_alias_counts_for_each_score_by_itself() -> None:
    scores = score_answer("Dearborn, Michigan, in 1947", ["Dearborn", "Dearborn, Michigan", "Detroit"])
    assert scores == AnswerScores(0.0, pytest.approx(2 * (2 / 4) / (2 / 4 + 1)), 1.0)


@pytest.mark.parametrize("nothing", ["", "   ", "\n"])
def test_an_empty_output_scores_nothing(nothing: str) -> None:
    """Released scorers drop it from the mean."""
    for answer in ("Denver Broncos", "no", "the", "."):
        assert score_answer(nothing, [answer]) == AnswerScores(0.0, 0.0, 0.0)


@pytest.mark.parametrize("prediction", ["Den", "Denver", "D", "ver"])
def test_a_prediction_inside_the_gold_answer_is_not_a_match(prediction: str) -> None:
    """Released scorers count containment both ways."""
    assert sub_exact_match(prediction, "Denver Broncos") == 0.0


@pytest.mark.parametrize(
    ("prediction", "declined"),
    [
        ("", True),
        (" The ", False),  # an article is all that it says
        ("None.", True),
        ("No answer", True),
        ("I don't know.", True),
        ("The year is not mentioned in the notes", True),
        ("It cannot be determined from the text", True),
        ("nothing happens", False),
        ("Unknown Soldier", False),
        ("no", False),
        ("1976", False),
    ],
)
def test_an_answer_declines_by_being_empty_or_by_saying_so(prediction: str, declined: bool) -> None:
    assert declines(prediction) is declined


def test_sources_count_when_they_hold_most_of_a_supporting_sentence() -> None:
    supporting = {"1": [Span(10, 30)], "3": [Span(0, 10), Span(50, 60)]}
    extents = {"1": Span(0, 40), "2": Span(0, 40), "3": Span(0, 60)}
    assert source_precision([("1", Span(10, 30))], supporting, extents) == 1.0
    assert source_precision([("1", Span(0, 20))], supporting, extents) == 1.0  # half of it
    assert source_precision([("1", Span(0, 19))], supporting, extents) == 0.0
    assert source_precision([("2", Span(10, 30))], supporting, extents) == 0.0
    assert source_precision([("3", Span(0, 60)), ("1", Span(0, 5))], supporting, extents) == 0.5
    assert source_precision([("1", Span(10, 400))], supporting, extents) == 0.0  # past the document's end
    assert source_precision([], supporting, extents) is None


def test_recall_counts_gold_among_the_first() -> None:
    ranked = [7, 3, 9, 1]
    assert [recall_at(ranked, {3, 1}, reach) for reach in (1, 2, 4, 8)] == [0.0, 0.5, 1.0, 1.0]
    assert gold_read(["a", "c", "c"], {"a", "b"}) == 0.5
