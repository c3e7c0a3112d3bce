"""Names in notes, and the gate that opens what they name: on the default embedder."""

import numpy as np
import pytest
from numpy.typing import NDArray

from core.chunking import Span
from core.embedder import Embedder
from core.engine import Engine
from core.ingest import Document
from core.names import folded, names, nearest
from core.naming_gate import HEADED, NamingGate
from core.passage_index import PassageIndex, StoredChunk
from core.settings import CompressionSettings, RecallSettings
from core.working_memory import Note, WorkingMemory

QUESTION = "Which film has the director who is older, Harbour Lights or The Last Orchard?"
FILM = "Harbour Lights\nHarbour Lights is a 1931 drama film directed by Marta Oskarsdóttir and starring Jules Pane."
TEXTS = {
    "film": FILM,
    "stranger": "Aki Lindqvist\nAki Lindqvist (born 4 April 1957) is a Finnish film director, an older one than many.",
    "director": "Marta Oskarsdottir (director)\nMarta Oskarsdottir came to the cinema late, and kept bees until 1958.",
    "mention": "Bees in Iceland\nBees were first brought to Iceland about 1930. Marta Oskarsdóttir had some.",
    "untitled": "Marta Oskarsdottir grew up on a farm. She never saw a film before she was twenty years old.",
}
ROWS = list(TEXTS)


class Flat:
    """A gate that gives every chunk one probability."""

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        return np.full(len(index.chunks), self._probability, dtype=np.float32)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def index(embedder: Embedder) -> PassageIndex:
    chunks = [StoredChunk(name, name, Span(0, len(text)), 0, 0) for name, text in TEXTS.items()]
    return PassageIndex(chunks, np.arange(len(chunks)), embedder.embed(list(TEXTS.values())))


def noted(quote: str, chunk_id: str = "film") -> WorkingMemory:
    return WorkingMemory((Note(" ".join(quote.split()), quote, chunk_id, chunk_id, Span(0, len(quote)), 0.5),))


def given(
    embedder: Embedder, index: PassageIndex, memory: WorkingMemory, *, before: float = 0.2, question: str = QUESTION
) -> dict[str, float]:
    gate = NamingGate(Flat(before), embedder, TEXTS.__getitem__)
    found = gate.probabilities(question, memory, index)
    assert found.dtype == np.float32
    return dict(zip(ROWS, found.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "It was directed by William C. McGann and written by W. W. Brockway.",
            ["William C. McGann", "W. W. Brockway"],
        ),
        (
            "born to John II, Duke of Brittany and Beatrice of England",
            ["John II", "Duke of Brittany", "Beatrice of England"],
        ),
        ("Dog Law\nDog Law is a film by Jerome Storm.", ["Dog Law", "Jerome Storm"]),
        ("by J.R.R. Tolkien, the Lord of the Rings of", ["J.R.R. Tolkien", "Lord of the Rings"]),
        (
            "Jean-Luc Godard's film, Éric Rohmer’s, Σωκράτης Μάλαμας",
            ["Jean-Luc Godard", "Éric Rohmer", "Σωκράτης Μάλαμας"],
        ),
        ("In 1931 he left Finland. She stayed.", []),
        ("no capitals here, 東京は日本の首都", []),
        ("A B C D E F G H I J K L IS WRITTEN IN CAPITALS", []),
        ("", []),
    ],
)
def test_names_are_words_with_capitals_side_by_side(text: str, found: list[str]) -> None:
    assert names(text) == found


def test_a_name_is_the_same_without_accents_case_and_dots() -> None:
    assert folded("Léonide  MOGUY") == folded("leonide moguy") == " leonide moguy "
    assert folded("H. P. Lovecraft") == folded("H.P. Lovecraft")
    assert folded("Ann Lee") not in folded("Joann Lee"), "whole words only"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Harbor Light", "Harbour Lights"),
        ("The Lost Orchard", "The Last Orchard"),
        ("Last Orchad", "Last Orchard"),
        ("Harbourlights", "Harbour Lights"),
        ("Har bour Lights", "Harbour Lights"),
        ("Orchard of Last", None),
        ("Silence", None),
        ("", None),
    ],
)
def test_a_misspelt_name_is_found_where_it_is_spelt(name: str, found: str | None) -> None:
    assert nearest(name, QUESTION) == found
    assert nearest(name, "") is None


def test_a_chunk_under_a_noted_name_gains_what_it_is_worth(embedder: Embedder, index: PassageIndex) -> None:
    given_now = given(embedder, index, noted(FILM))
    assert given_now["director"] == pytest.approx(1 / (1 + 4 * np.exp(-HEADED)), abs=1e-5)
    assert given_now["stranger"] == pytest.approx(0.2)
    assert 0.2 < given_now["untitled"] < given_now["director"], "near to the name, and no heading says it"
    assert given_now["mention"] == pytest.approx(0.2), "it says the name and is about something else"
    assert given_now["film"] == pytest.approx(0.2), "the note is from there"


def test_what_another_gate_has_not_looked_at_can_be_named(embedder: Embedder, index: PassageIndex) -> None:
    assert given(embedder, index, noted(FILM), before=0.0)["director"] > 0.5
    assert given(embedder, index, noted(FILM), before=0.0)["stranger"] == 0.0
    assert given(embedder, index, noted(FILM), before=1.0)["director"] == 1.0


def test_without_notes_and_for_names_of_the_question_nothing_rises(embedder: Embedder, index: PassageIndex) -> None:
    for memory in (WorkingMemory(), noted("He was born in Reykjavik and left early.")):
        assert set(given(embedder, index, memory).values()) == {np.float32(0.2).item()}
    asked = "How old did Marta Oskarsdottir, whom Jules Pane knew, get, by Harbour Lights?"
    assert set(given(embedder, index, noted(FILM), question=asked).values()) == {np.float32(0.2).item()}


def test_a_chunk_that_holds_its_own_name_does_not_raise_itself(embedder: Embedder, index: PassageIndex) -> None:
    own = given(embedder, index, noted(TEXTS["director"], "director"))
    assert own["director"] == pytest.approx(0.2)
    assert own["untitled"] > 0.2


def test_what_a_note_names_is_called_back_among_others_of_its_kind() -> None:
    """The directors stand before their films, so only a callback can open them."""
    pairs = {
        "Tsui Hark": "A Better Tomorrow III",
        "Raj Kanwar": "Har Dil Jo Pyar Karega",
        "Melville W. Brown": "Lost in the Stratosphere",
        "Luigi Cozzi": "Paganini Horror",
        "Jerome Storm": "Dog Law",
        "Andrew Lau": "Infernal Affairs",
        "Albert Pyun": "Mean Guns",
        "Noel M. Smith": "Fangs of Fate",
        "Claude Whatham": "Hoodwink",
        "Sidney Olcott": "The Green Goddess",
    }
    years = range(1931, 1931 + 4 * len(pairs), 4)
    directors = [
        Document(name, f"{name}\n{name} (born {year}) is a film director, screenwriter and producer.")
        for name, year in zip(pairs, years, strict=True)
    ]
    films = [
        Document(title, f"{title}\n{title} is a drama film of {year + 40}, directed by {name} and much praised.")
        for (name, title), year in zip(pairs.items(), years, strict=True)
    ]

    def read(engine: Engine, question: str, *, follow: bool) -> set[str]:
        settings = RecallSettings(form="raw", follow_names=follow, update_tokens=8, answer_tokens=4)
        return {step.chunk.document_id for step in engine.ask(question, settings=settings).steps}

    found, before = 0, 0
    with Engine.open(compression=CompressionSettings(encode=False)) as engine:
        engine.add([*directors, *films])
        asked = [("Tsui Hark", "Raj Kanwar"), ("Melville W. Brown", "Jerome Storm"), ("Luigi Cozzi", "Andrew Lau")]
        for one, other in asked:
            question = f"Which film has the director who is older, {pairs[one]} or {pairs[other]}?"
            found += len(read(engine, question, follow=True) & {one, other})
            before += len(read(engine, question, follow=False) & {one, other})
    assert before < found, (before, found)
    assert found >= 2 * len(asked) - 1, found
