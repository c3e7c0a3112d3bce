"""Facts are taken from sentences that plainly say them of what their paragraph is about, and from no others."""

import pytest

from core.questions import Paragraph
from core.training.plain_facts import read_entity


def facts(title: str, *sentences: str) -> dict[str, str]:
    return {kind: fact.said for kind, fact in read_entity(Paragraph(title=title, sentences=sentences)).facts.items()}


@pytest.mark.parametrize(
    ("title", "sentence", "wanted"),
    [
        (
            "Sidney Salkow",
            "Sidney Salkow (June 16, 1911 – October 18, 2000) was an American film director.",
            {"born": "June 16, 1911", "died": "October 18, 2000", "nation": "American"},
        ),
        (
            "John Ellis",
            "John Ellis( born 1 June 1952) is an English guitarist.",
            {"born": "1 June 1952", "nation": "English"},
        ),
        (
            "Karl Maka",
            "Karl Maka (; born 29 February 1944 in Taishan, China) acts.",
            {"born": "29 February 1944", "birthplace": "Taishan, China"},
        ),
        # The dates are somebody else's, or no life is so long.
        ("A Work", "A Work is a book of Menachem Schneersohn (1789–1866).", {}),
        ("Old One", "Old One (1101–1866) was a count.", {}),
        (
            "Dharkan",
            "Dharkan is a 1972 Indian film directed by Devendra Goel.",
            {"released": "1972", "director": "Devendra Goel"},
        ),
        # Two directors, and a name that was cut off.
        ("Two", "Two is a 1999 film directed by Anna Holm and Jens Holm.", {"released": "1999"}),
        ("Kid", "Kid is a 1925 silent film directed by Albert S.", {"released": "1925"}),
        ("Lit", "Lit is the fourth studio album by the American rock band Lit.", {"performer": "Lit"}),
        (
            "Margaret",
            "Margaret was the daughter of Hugh de Stafford, 2nd Earl of Stafford, and Philippa de Beauchamp.",
            {"father": "Hugh de Stafford, 2nd Earl of Stafford", "mother": "Philippa de Beauchamp"},
        ),
        ("Anvil", "Anvil are a heavy metal band from Toronto, formed in 1978", {"founded": "1978"}),
        ("Condover", "Condover is a village and civil parish in Shropshire, England.", {"country": "England"}),
        ("Alstonville", "Alstonville is a town in northern New South Wales, Australia.", {"country": "Australia"}),
        ("List of bands", "A band formed in 1978 is first.", {}),
        ("A company", "It was a company founded in 1978 &amp; sold.", {"founded": "1978"}),
        ("Slaughter &amp; The Dogs", "Slaughter are a band formed in 1975.", {}),
    ],
)
def test_a_sentence_says_it(title: str, sentence: str, wanted: dict[str, str]) -> None:
    assert facts(title, sentence) == wanted


def test_further_on_only_what_is_plainly_of_the_same_is_taken() -> None:
    known = facts(
        "Anna Holm",
        "Anna Holm (born 1858) kept a lighthouse.",
        "Jens Holm (born 3 May 1830) was a Danish sailor.",
        "She was born on 3 May 1858 in Skagen, Denmark.",
        "She died of a fever in Aarhus.",
    )
    assert known == {"born": "1858", "birthplace": "Skagen, Denmark", "deathplace": "Aarhus"}


def test_dates_can_be_compared() -> None:
    entity = read_entity(Paragraph(title="A", sentences=("A (June 16, 1911 – 2000) was a clerk.",)))
    assert entity.facts["born"].key == (1911, 6, 16)
    assert entity.facts["died"].key == (2000,)


def test_what_tells_a_title_apart_is_no_part_of_the_name() -> None:
    assert read_entity(Paragraph(title="Devotion (1929 film)", sentences=("A film.",))).name == "Devotion"
