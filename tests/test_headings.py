"""Headings over a place in a text."""

from pydoc_data.topics import topics

import pytest

from core.chunking import sentences
from core.embedder import Embedder
from core.headings import behind_heading, heading, titled
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
        (
            "Light\n\nOne.\n\nKeepers\nAnna Holm was the first keeper of the lighthouse, who kept a diary. HERE",
            "Keepers",
        ),
        (f"# {'long ' * 30}\n\nAnna HERE", "long " * 24),
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
    assert behind_heading(text, 9, 27) == "Keepers: Anna Holm came."
    assert behind_heading("Anna\n came.", 0, 11) == "Anna came."


@pytest.mark.parametrize("over", ["Keepers\n", "# Keepers\n", "Keepers\n=======\n", "Keepers\n\n"])
def test_a_sentence_that_begins_with_its_heading_is_not_under_the_one_before(over: str) -> None:
    said = "Anna Holm was the first keeper of the lighthouse, who kept a diary. She stayed."
    text = f"Light\n\nIt burned oil.\n\n{over}{said}"
    read = [behind_heading(text, *span) for span in sentences(text)]
    assert read[:2] == ["Light", "Light: It burned oil."]
    assert not any("Light" in line for line in read[2:])
    assert read[-1] == "Keepers: She stayed."


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
