"""What a working comes to; and what the default install makes of a comparison."""

import pytest

from core.engine import Engine
from core.ingest import Document
from core.recall import Event, Written
from core.settings import CompressionSettings
from core.working import through, worked_out

YEARS = "Anna Holm: 1858; Jens Dahl: 1860; first"
SAME = "Are Anna Holm and Jens Dahl of the same nationality?"


@pytest.mark.parametrize(
    ("working", "said", "question", "answer"),
    [
        (YEARS, "Jens Dahl", "", "Anna Holm"),
        (YEARS.replace("first", "last"), "Anna Holm", "", "Jens Dahl"),
        (YEARS.removesuffix("; first"), "Jens Dahl", "Who was born first, Anna Holm or Jens Dahl?", "Anna Holm"),
        (YEARS + " Dane to fly", "Anna Holm", "Who is younger, Anna Holm or Jens Dahl?", "Jens Dahl"),
        (YEARS + " Dane to fly", "Jens Dahl", "Who has won more, Anna Holm or Jens Dahl?", "Jens Dahl"),
        (YEARS.removesuffix("; first"), "Jens Dahl", "Who has won more, Anna Holm or Jens Dahl?", "Jens Dahl"),
        ("Class: 1984: 1982; M: 2: 1999; last", "", "", "M: 2"),
        ("Anna Holm: 987; Jens Dahl: 1060; last", "", "", "Jens Dahl"),
        ("Anna Holm: 18 February 1960; Jens Dahl: May 1958; first", "Anna Holm", "", "Jens Dahl"),
        # The question's words say which of two, names apart, whatever the reader says.
        (YEARS, "Anna Holm", "Who is younger, Anna Holm or Jens Dahl?", "Jens Dahl"),
        (YEARS.replace("first", "last"), "", "Who is older than the other, Anna Holm or Jens Dahl?", "Anna Holm"),
        ("Last Light: 1950; Later: 1940; last", "", "Which film came out first, Last Light or Later?", "Later"),
        (YEARS, "", "Who came first, and who last?", "Anna Holm"),
        (YEARS, "", "Who came sooner into this world?", "Anna Holm"),
        # What is known by way of another is named as the question names it.
        (
            f"{through('Oil', 'Anna Holm')}: 1958; {through('The Keeper: II', 'Jens')}: 1860; first",
            "",
            "",
            "The Keeper: II",
        ),
        (
            "Oil: Anna Holm: 1958; The Keeper: II: Jens: 1860; first",
            "",
            "Which is first, Oil or The Keeper: II?",
            "The Keeper: II",
        ),
        (
            "Oil (film) by Anna: 1858; The Keeper: 1860; first",
            "",
            "Which is older, Oil (film) or The Keeper?",
            "Oil (film)",
        ),
        ("Oil - Anna: 1858; Keeper - Jens: 1860; last", "", "Which is later, OIL or keeper?", "Keeper"),
        # Written down wrongly, it is what comes nearest in the question; where nothing does, as it is written.
        ("Oils: Anna: 1858; Keeper: 1860; first", "", "Which is first, Oil or Keeper?", "Oil"),
        (
            "Everyone's Hobby: William: 1893; Ghosts Of Abu: Rory: 1968; first",
            "Ghosts Of Abu",
            "Whose director was born first, Everybody'S Hobby or Ghosts Of Abu Ghraib?",
            "Everybody'S Hobby",
        ),
        ("Keepers: 1858; Oil: 1860; first", "", "Which of the two is first, Silence or Oil?", "Keepers"),
        # Of one year neither comes first.
        ("Anna Holm: 1858; Jens Dahl: 1858; first", "both", "", "both"),
        # Whether two are the same.
        ("Anna Holm: French; Jens Dahl: French", "no", SAME, "yes"),
        ("Anna Holm: French; Jens Dahl: Danish", "Yes.", SAME, "no"),
        ("The Keeper: II -> Anna: French; Oil -> Jens: french", "no", SAME, "yes"),
        ("Anna Holm: French; Jens Dahl: French", "no", "Are both Danish?", "no"),
        ("Anna Holm: French; Jens Dahl: French", "no", "Are both The Same?", "no"),
        ("Anna Holm: French; Jens Dahl: French", "Paris", SAME, "Paris"),
        # No name answers whether something is so.
        (YEARS, "yes", "Are both Danish?", "yes"),
        (YEARS, "yes", SAME, "yes"),
        # No comparison of two.
        ("Anna Holm: 1858", "Anna Holm", "", "Anna Holm"),
        ("Anna Holm: French; Jens Dahl", "no", SAME, "no"),
    ],
)
def test_a_comparison_is_computed(working: str, said: str, question: str, answer: str) -> None:
    assert worked_out(working, said, question) == answer


def test_the_default_install_compares() -> None:
    documents = [
        Document("anna", "Anna Holm\nAnna Holm (born 4 May 1858) was a Danish keeper of lighthouses and of bees."),
        Document("jens", "Jens Dahl\nJens Dahl (born 11 June 1860) was a Danish painter of ships and of storms."),
    ]
    expected = {
        "Who was born first, Anna Holm or Jens Dahl?": "Anna Holm",
        "Who is younger, Anna Holm or Jens Dahl?": "Jens Dahl",
        "Are Anna Holm and Jens Dahl of the same nationality?": "yes",
    }
    with Engine.open(compression=CompressionSettings(encode=False)) as engine:
        engine.add(documents)
        for question, answer in expected.items():
            events = list[Event]()
            said = engine.ask(question, listener=events.append)
            assert said.text == answer
            assert "".join(event.text for event in events if isinstance(event, Written)) == answer
            assert {source.document_id for source in said.sources} == {"anna", "jens"}
