"""What the reasoner is asked, and how its replies are read."""

import pytest

from core.prompts import (
    ANSWER_OPENING,
    ANSWER_STOP,
    SYSTEM,
    UPDATE_OPENING,
    UPDATE_STOP,
    AnswerStream,
    ParsedUpdate,
    answer_prompt,
    gate_prompt,
    parse_answer,
    parse_update,
    update_prompt,
)

QUESTION = "Who kept the lighthouse?"


@pytest.mark.parametrize(
    ("reply", "notes", "recall"),
    [
        ("<update>Anna kept it.</update>", ("Anna kept it.",), None),
        ("<update>\nAnna kept it.\nIt was built in 1858.\n</update>", ("Anna kept it.", "It was built in 1858."), None),
        ("<update>Anna</update><recall>who is Anna</recall>", ("Anna",), "who is Anna"),
        ("<update>Anna</update>\n<recall>\nwho is\nAnna\n</recall>", ("Anna",), "who is\nAnna"),
        ("Let me see.\n<update>Anna</update> So it is.", ("Anna",), None),
        # cut off by the token limit
        ("<update>Anna kept it.\nIt was bu", ("Anna kept it.", "It was bu"), None),
        ("<update>Anna</update><recall>who is", ("Anna",), None),
        # a closing tag forgotten
        ("<update>Anna<recall>who is Anna</recall>", ("Anna",), "who is Anna"),
        # no tag at all changes nothing
        ("Anna kept it.", (), None),
        ("", (), None),
        ("<recall>who is Anna</recall>", (), "who is Anna"),
        ("Anna</update>", (), None),
        # nothing helps
        ("<update></update>", (), None),
        ("<update> \n \n</update>", (), None),
        ("<update>none</update>", (), None),
        ("<update>None.</update><recall></recall>", (), None),
        ("<update>- NONE</update>", (), None),
        ("<update>(nothing)</update>", (), None),
        ("<update>No information.</update>", (), None),
        ("<update>no notes</update>", (), None),
        ("<update>Anna\nnone</update>", ("Anna",), None),
        # and what only begins like it is a note
        ("<update>None of the keepers stayed.</update>", ("None of the keepers stayed.",), None),
        ("<update>Nothing was heard of her.</update>", ("Nothing was heard of her.",), None),
        # lists
        ("<update>- Anna\n* Jens\n• Peter\n1. Ole\n12) Ida</update>", ("Anna", "Jens", "Peter", "Ole", "Ida"), None),
        ("<update>  -  Anna  \n\n\n- Jens</update>", ("Anna", "Jens"), None),
        # numbers and dashes that belong to the text
        (
            "<update>1858 was the year\n-40 degrees\n3.5 metres</update>",
            ("1858 was the year", "-40 degrees", "3.5 metres"),
            None,
        ),
        # each line once
        ("<update>Anna\nAnna\n- Anna</update>", ("Anna",), None),
        # the first of several
        ("<update>Anna</update><update>Jens</update>", ("Anna",), None),
        ("<update>Anna</update><recall> \n </recall>", ("Anna",), None),
    ],
)
def test_an_update_is_read(reply: str, notes: tuple[str, ...], recall: str | None) -> None:
    assert parse_update(reply) == ParsedUpdate(notes, recall)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<answer>Anna Holm</answer>", "Anna Holm"),
        ("<answer>\n Anna\nHolm \n</answer>", "Anna\nHolm"),
        ("I think <answer>Anna</answer>, surely", "Anna"),
        ("<answer>Anna Ho", "Anna Ho"),
        ("<answer></answer>", ""),
        ("<answer>", ""),
        ("Anna Holm", ""),
        ("Anna</answer>", ""),
        ("", ""),
        ("<answer>Anna</answer><answer>Jens</answer>", "Anna"),
        ("<answer>unknown</answer>", ""),
        ("<answer> Unknown.\n</answer>", ""),
        ("<answer>unknown", ""),
        ("<answer>the unknown soldier</answer>", "the unknown soldier"),
        ("<answer>Unknown Pleasures</answer>", "Unknown Pleasures"),
        ("<answer><working>Anna: Danish; Jens: Danish</working>yes</answer>", "yes"),
        ("<answer><working>Anna: 1858; Jens: 1860; first</working>Jens</answer>", "Anna"),  # it is computed
        ("<answer><working>Anna: Danish; Jens: Danish</working>no", "no"),
        ("<answer><working>Anna: 987; Jens: 1060; last</working>", "Jens"),
        ("<answer><working>Anna: 1858; Jens: 1860; first", ""),
        ("<answer> <working>Anna: 1858</working> Anna\n</answer>", "Anna"),
        ("<answer><working>Anna: 1858; Jens", ""),  # cut off: what it comes to is not known
        ("<answer><working>Anna: 1858</working>unknown</answer>", ""),
        ("<answer>Working Girl <working>", "Working Girl <working>"),  # it stands before an answer, nowhere else
    ],
)
def test_an_answer_is_read(reply: str, answer: str) -> None:
    assert parse_answer(reply, "") == answer


def test_a_question_tells_what_a_working_comes_to() -> None:
    worked = "<answer><working>Anna: 1858; Jens: 1860; first</working>Anna</answer>"
    assert parse_answer(worked, "Who is younger, Anna or Jens?") == "Jens"
    alike = "<answer><working>Anna: Danish; Jens: Danish</working>no</answer>"
    assert parse_answer(alike, "Are Anna and Jens from the same country?") == "yes"


def test_the_prompts_ask_for_the_tags_that_the_parsers_read() -> None:
    for tag in (UPDATE_OPENING, "</update>", "<recall>", UPDATE_STOP, ANSWER_OPENING, ANSWER_STOP):
        assert tag in SYSTEM
    assert parse_update(f"{UPDATE_OPENING}Anna</update><recall>Jens{UPDATE_STOP}") == ParsedUpdate(("Anna",), "Jens")
    assert parse_answer(f"{ANSWER_OPENING}Anna{ANSWER_STOP}", "") == "Anna"


def test_an_update_prompt_shows_the_text_then_the_notes_then_the_question() -> None:
    assert update_prompt(QUESTION, ["Anna was born.", "Jens died."], ["Oil was used."], "A text.") == (
        "<text>\nA text.\n</text>\n\n"
        "Notes so far:\n- Anna was born.\n- Jens died.\n\n"
        "Recalled:\n- Oil was used.\n\n"
        "Question: Who kept the lighthouse?\n\n"
        "Copy the sentence from the text that helps to answer the question."
    )


def test_an_update_prompt_over_slots_shows_no_text_and_an_empty_memory_no_title() -> None:
    assert update_prompt(QUESTION, [], [], None) == (
        "Question: Who kept the lighthouse?\n\nCopy the sentence from the text above that helps to answer the question."
    )
    assert "<text>\n\n</text>" in update_prompt(QUESTION, [], [], "")


def test_other_instructions_stand_in_the_place_of_the_trained_ones() -> None:
    assert update_prompt(QUESTION, [], [], None, "Schreib es ab.").endswith("lighthouse?\n\nSchreib es ab.")
    assert answer_prompt(QUESTION, [], [], "Antworte.").endswith("lighthouse?\n\nAntworte.")


def test_an_answer_prompt_shows_memory_and_what_was_called_back() -> None:
    shown = answer_prompt(QUESTION, ["Anna kept it."], ["Oil was used."])
    assert shown.startswith(
        "Notes:\n- Anna kept it.\n\nRecalled:\n- Oil was used.\n\nQuestion: Who kept the lighthouse?\n\n"
    )


def test_a_gate_prompt_follows_the_slots_as_a_new_paragraph_and_ends_in_the_question() -> None:
    assert gate_prompt(QUESTION, ["Anna kept it."]) == (
        "\n\nNotes so far:\n- Anna kept it.\n\nQuestion: Who kept the lighthouse?\n"
        "Does the text above help to answer the question?"
    )


@pytest.mark.parametrize(
    "reply",
    [
        "Anna Holm</answer>",
        "<answer>Anna Holm</answer> and more",
        "  in 1857 < 1900 </a </answer>",
        "Anna\n\nHolm  </answer>",
        "never closed <",
        "",
        "<ans",
        "unknown</answer>",
        "Unknown.</answer>",
        "Unknown Pleasures</answer>",
        "Un</answer>",
        "<working>Anna: 1858; Jens: 1860; last</working>Anna</answer>",
        "<working>Anna: 1858; Jens: 1860; last</working>yes</answer>",
        "<working>Anna: Danish; Jens: Danish</working>yes</answer>",
        " <working>Anna: 1858</working> unknown</answer>",
        "<working>Anna: 1858; Je",
        "<work of art</answer>",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_an_answer_is_streamed_as_it_is_parsed(reply: str, size: int) -> None:
    shown: list[str] = []
    stream = AnswerStream(shown.append)
    for start in range(0, len(reply), size):
        stream(reply[start : start + size])
    opened = reply if reply.startswith("<answer>") else "<answer>" + reply
    parsed = parse_answer(opened, "")
    # What the end might still have turned into a tag, and what is computed from all of it, is held back until then.
    assert parsed.startswith("".join(shown))
    assert parsed.removeprefix("".join(shown)) in ("", "<", " <", "<ans") or "<working>" in reply
    assert all("answer>" not in piece for piece in shown)
    stream.finish(parsed)
    assert "".join(shown) == parsed
