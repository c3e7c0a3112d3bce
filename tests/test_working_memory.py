"""Evidence, notes that leave, and the way back to them."""

from dataclasses import replace

import pytest

from core.chunking import Span
from core.working_memory import Note, WorkingMemory, find_evidence, find_quotations, word_recall, words

TEXT = (
    "The lighthouse at Skagen was built in 1858. Its first keeper was Anna Holm,\n"
    "who kept a diary of every storm. The lighthouse was lit with rapeseed oil.\n\n"
    "- The museum in Aalborg bought the diary\n- The museum opened in 1903\n"
)


def note(text: str, start: int = 0, document: str = "document") -> Note:
    return Note(text, text, "chunk", document, Span(start, start + len(text)), 0.5)


def evidence(line: str, text: str = TEXT) -> str | None:
    span = find_evidence(line, text)
    return text[span.start : span.end] if span else None


# ---- words ----


def test_words_are_compared_in_lower_case_without_marks() -> None:
    assert words("Anna's DIARY, (1858)!") == ["anna", "s", "diary", "1858"]


@pytest.mark.parametrize(
    ("wanted", "found", "share"),
    [
        ("no", "note", 0.0),
        ("no", "nothing is known", 0.0),
        ("No!", "no note", 1.0),
        ("Anna Holm", "the diary of anna", 0.5),
        ("keeper keeper Anna", "the keeper", 0.5),
        ("a b c d", "d c b a and more", 1.0),
        ("", "anything", 0.0),
        ("?!", "?!", 0.0),
        ("Anna", "", 0.0),
    ],
)
def test_recall_counts_whole_words(wanted: str, found: str, share: float) -> None:
    assert word_recall(wanted, found) == share


# ---- evidence ----


def test_a_copied_sentence_is_found_where_it_stands() -> None:
    assert find_evidence("The lighthouse at Skagen was built in 1858.", TEXT) == Span(0, 43)


def test_a_wrapped_sentence_is_found_whole() -> None:
    assert evidence("Anna Holm kept a diary of every storm.") == (
        "Its first keeper was Anna Holm,\nwho kept a diary of every storm."
    )


def test_a_list_item_is_found_without_its_neighbours() -> None:
    assert evidence("The museum opened in 1903") == "- The museum opened in 1903"


def test_a_copy_within_words_of_the_models_own_is_found() -> None:
    assert evidence("Note: lit with rapeseed oil") == "The lighthouse was lit with rapeseed oil."


def test_rare_words_decide_between_sentences_that_share_common_ones() -> None:
    text = "The cat sat on the mat. The cat sat on the rug near Aalborg. The cat sat on the sofa."
    # "the", "cat", "sat" and "on" weigh a third each, "aalborg" one.
    assert evidence("the cat Aalborg", text) == "The cat sat on the rug near Aalborg."


def test_an_invented_line_has_no_evidence() -> None:
    assert evidence("Peter Madsen painted the harbour of Copenhagen in winter.") is None


def test_common_words_alone_are_no_evidence_for_invented_names() -> None:
    # Of "the" in four and "was" in three sentences little is left; each of five unknown words weighs a half.
    assert evidence("The painter was Peter Madsen of Copenhagen harbour") is None


def test_half_of_the_weight_is_enough_and_less_is_not() -> None:
    text = "Alpha beta gamma."
    assert evidence("alpha unknown1 unknown2", text) == text  # 1 of 2
    assert evidence("alpha unknown1 unknown2 unknown3", text) is None  # 1 of 2.5


def test_a_quotation_that_runs_on_is_evidence_from_where_it_begins() -> None:
    text = "Ruth Calder was born in the fishing village of Crail. She kept bees. Her bees were black."
    assert evidence("village of Crail. She kept bees", text) == "Ruth Calder was born in the fishing village of Crail."
    assert evidence("She kept bees. Her", text) == "She kept bees."


def test_of_equal_sentences_the_shorter_then_the_first_is_found() -> None:
    assert evidence("Skagen", "Skagen is a town in the north. Skagen is north.") == "Skagen is north."
    assert find_evidence("Skagen", "Skagen is. Skagen is.") == Span(0, 10)


@pytest.mark.parametrize(("line", "text"), [("", TEXT), ("...", TEXT), ("Anna", ""), ("Anna", " \n\n ")])
def test_where_there_is_nothing_there_is_no_evidence(line: str, text: str) -> None:
    assert find_evidence(line, text) is None


# ---- the memory ----


def test_a_new_memory_is_empty() -> None:
    assert (WorkingMemory().lines, WorkingMemory().text, WorkingMemory().past) == ((), "", ())


def test_notes_are_added_in_order_and_the_old_memory_stays() -> None:
    first = WorkingMemory().updated([note("one")], lambda text: True)
    second = first.updated([note("two", 10), note("three", 20)], lambda text: True)
    assert (first.text, second.text) == ("one", "one\ntwo\nthree")
    assert second.lines == ("one", "two", "three")
    assert second.past == ()


def test_the_oldest_leave_into_the_past_until_the_text_fits() -> None:
    memory = WorkingMemory()
    for start, text in enumerate(["one", "two", "three", "four"]):
        memory = memory.updated([note(text, start)], lambda text: len(text) <= 10)
    assert memory.lines == ("three", "four")
    assert [left.text for left in memory.past] == ["one", "two"]
    memory = memory.updated([note("ten charac", 9)], lambda text: len(text) <= 10)
    assert memory.lines == ("ten charac",)
    assert [left.text for left in memory.past] == ["one", "two", "three", "four"]


def test_a_note_that_can_never_fit_leaves_at_once_and_is_not_lost() -> None:
    memory = WorkingMemory((note("one"),)).updated([note("far too long", 9)], lambda text: len(text) <= 5)
    assert memory.lines == ()
    assert [left.text for left in memory.past] == ["one", "far too long"]


def test_the_same_note_twice_is_held_once_and_the_same_words_elsewhere_are_another() -> None:
    memory = WorkingMemory((note("one"),)).updated(
        [note("one"), note("one", start=50), note("one", document="other")], lambda text: True
    )
    assert [(held.document_id, held.span.start) for held in memory.notes] == [
        ("document", 0),
        ("document", 50),
        ("other", 0),
    ]


def test_an_update_without_notes_changes_nothing() -> None:
    memory = WorkingMemory((note("one"),), (note("past"),))
    assert memory.updated([], lambda text: True) == memory


# ---- the way back ----


def test_the_past_note_with_most_of_the_words_is_found() -> None:
    memory = WorkingMemory((), (note("Anna Holm kept a diary"), note("Anna was born in Skagen"), note("Oil was used")))
    found = memory.search_past("Where was Anna born?", 0.5)
    assert found is not None
    assert found.text == "Anna was born in Skagen"


def test_the_latest_of_equals_is_found() -> None:
    memory = WorkingMemory((), tuple(note(text, start) for start, text in enumerate(["Anna a", "Anna b", "Peter"])))
    found = memory.search_past("Anna", 0.5)
    assert found is not None
    assert found.text == "Anna b"


@pytest.mark.parametrize(("floor", "found"), [(0.4, True), (0.5, True), (0.51, False)])
def test_what_lies_below_the_floor_is_not_found(floor: float, found: bool) -> None:
    memory = WorkingMemory((), (note("Anna Holm kept a diary"),))
    assert (memory.search_past("Anna Madsen", floor) is not None) == found


def test_no_floor_is_low_enough_for_a_note_without_any_of_the_words() -> None:
    memory = WorkingMemory((), (note("note"),))
    assert memory.search_past("no", 0.0) is None
    assert memory.search_past("", 0.0) is None
    assert WorkingMemory().search_past("Anna", 0.0) is None


def test_notes_still_held_are_not_searched() -> None:
    assert WorkingMemory((note("Anna Holm"),)).search_past("Anna", 0.0) is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("was lit in 1857", "The lighthouse was lit in 1857."),
        ("WAS LIT, in 1857!", "The lighthouse was lit in 1857."),
        ("lit in 1857. Its keeper", "The lighthouse was lit in 1857."),
        ("was lit in 1858", None),
        ("", None),
    ],
)
def test_a_quotation_is_word_for_word(line: str, found: str | None) -> None:
    text = "The lighthouse was lit in 1857. Its keeper was Ruth."
    assert [text[start:end].strip() for start, end in find_quotations(line, text)] == ([found] if found else [])


def test_all_sentences_that_a_quotation_begins_in_are_found_shortest_first_and_then_as_they_stand() -> None:
    text = "It was lit by oil in 1857. It was lit by hand. It was lit by hand and oil."
    assert [text[start:end] for start, end in find_quotations("was lit by", text)] == [
        "It was lit by hand.",
        "It was lit by oil in 1857.",
        "It was lit by hand and oil.",
    ]
    assert find_quotations("", text) == []


def test_a_line_stands_behind_its_heading_unless_it_names_it() -> None:
    under = [replace(n, heading="Anna Holm") for n in (note("She kept a diary."), note("Anna Holm was the keeper."))]
    assert [n.line for n in under] == ["Anna Holm: She kept a diary.", "Anna Holm was the keeper."]
    assert note("She kept a diary.").line == "She kept a diary."


def test_what_an_answer_is_chosen_from_replaces_the_notes_as_far_as_it_fits() -> None:
    a, b, c = note("Anna kept it.", 0), note("Jens lit it.", 40), note("Oil was used.", 80)
    memory = WorkingMemory((a, b), (note("It burned down.", 120),))
    chosen = memory.chosen((c, replace(a, odds=0.7)), lambda text: True)
    assert chosen.notes == (c, replace(a, odds=0.7))
    assert chosen.past == (*memory.past, b)
    # The first matter most; a shorter one later may still fit.
    short = note("Yes.", 160)
    tight = memory.chosen((a, c, short), lambda text: len(text) <= len(f"{a.text}\n{short.text}"))
    assert tight.notes == (a, short)
    assert tight.past == (*memory.past, b)
