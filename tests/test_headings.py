"""Headings over a place in a text."""

from pydoc_data.topics import topics

import pytest

from core.embedder import Embedder
from core.headings import heading, titled, under_heading
from core.working_memory import find_quotations

METHODS = topics["string-methods"]


@pytest.mark.parametrize(
    ("sentence", "over"),
    [
        ("characters in the string are digits", "str.isdigit()"),
        ("characters in the string are alphanumeric", "str.isalnum()"),
        ("A copy of the string".lower(), "str.capitalize()"),
    ],
)
def test_an_entry_of_a_reference_is_the_heading_of_what_it_says(sentence: str, over: str) -> None:
    assert heading(METHODS, METHODS.index(sentence)) == over


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("# Keepers\nAnna HERE", "Keepers"),
        ("### Keepers ###\n\nOne. Anna HERE", "Keepers"),
        ("Keepers\n=======\n\nAnna HERE", "Keepers"),
        ("Keepers\n-------\nAnna HERE", "Keepers"),
        ("Keepers\n\nAnna came. HERE", "Keepers"),
        ("Keepers\n\nOne.\n\nTwo. HERE", "Keepers"),
        ("Light\n\nOne.\n\nKeepers\n\nTwo. HERE", "Keepers"),
        ("Keepers\nAnna Holm was the first keeper of the lighthouse, who kept a diary. HERE", "Keepers"),
        ("Anna HERE", None),
        ("Anna came\nand stayed HERE", None),
        ("One two.\n\nAnna HERE", None),
        ("- Keepers\n\nAnna HERE", None),
        ("   func = f(g)\n\nAnna HERE", None),
        ("====\n\nAnna HERE", None),
        (f"{'long ' * 20}\n\nAnna HERE", None),
        ("HERE", None),
        ("", None),
    ],
)
def test_what_is_a_heading(text: str, over: str | None) -> None:
    assert heading(text, max(0, text.find("HERE"))) == over


def test_a_span_is_read_under_its_heading() -> None:
    text = "Keepers\n\nAnna\n  Holm came. She stayed."
    assert under_heading(text, 9, 27) == "Keepers: Anna Holm came."
    assert under_heading("Anna\n came.", 0, 11) == "Anna came."


def test_of_equal_quotations_that_under_the_heading_of_the_question_is_the_nearest(default_embedder: Embedder) -> None:
    lines = "\n\nReturn true if every character is of this kind.\n\n"
    text = lines.join(("str.isalpha()", "str.isdigit()", "str.isspace()", ""))
    spans = find_quotations("Return true if every character", text)
    assert len(spans) == 3
    for row, method in enumerate(("isalpha", "isdigit", "isspace")):
        assert default_embedder.nearest_span(text, spans, f"What does str.{method} return?") == sorted(spans)[row]


@pytest.mark.parametrize(
    ("over", "said", "line"),
    [
        ("Anna Holm", "She kept a diary.", "Anna Holm: She kept a diary."),
        ("Anna Holm", "Holm, Anna, kept a diary.", "Holm, Anna, kept a diary."),
        ("Anna Holm (keeper)", "Anna Holm kept a diary.", "Anna Holm (keeper): Anna Holm kept a diary."),
        ("Annas", "Anna kept a diary.", "Annas: Anna kept a diary."),
        ("", "She kept a diary.", "She kept a diary."),
        (None, "She kept a diary.", "She kept a diary."),
    ],
)
def test_a_heading_stands_before_what_does_not_name_it(over: str | None, said: str, line: str) -> None:
    assert titled(over, said) == line
