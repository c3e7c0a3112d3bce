"""What a name leads to is likelier to be evidence."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, log

import pytest

from core.chunking import Span, sentences
from core.embedder import Embedder
from core.embedder_head import find_head
from core.evidence import Tagger, tagged
from core.named_evidence import ASKED, HEADED, HELD, OTHERWISE, by_names
from core.weights import DEFAULT_EMBEDDER

QUESTION = "Where was the director of film Harbour Lights born?"
NOTE = "Harbour Lights is a 1931 film directed by Marta Oskarsdóttir."
FILM = "Harbour Lights (film)\nIt is a drama, directed by Marta Oskarsdottir. It was shot in Ribe."
DIRECTOR = (
    "MARTA OSKARSDÓTTIR (director)\nShe was born in Akureyri, where bees are kept. Harbour Lights was her first film."
)
OTHER = "Bees in Iceland\nMarta Oskarsdottir had some. Martas Oskarsdottirs there are many."


def nats(question: str, notes: list[str], text: str) -> list[float]:
    """Return what each sentence of ``text`` gains on even odds."""
    judged = [(span, 0.5) for span in sentences(text)]
    found = by_names(question, notes, text, judged)
    assert [span for span, _ in found] == [span for span, _ in judged]
    return [log(odds / (1 - odds)) for _, odds in found]


@pytest.mark.parametrize(
    ("question", "notes", "text", "gained"),
    [
        (QUESTION, [NOTE], DIRECTOR, [HEADED, HEADED]),
        (QUESTION, [NOTE], OTHER, [HELD, 0]),
        # The question's own names, in a note too, are what is asked about.
        (QUESTION, [], FILM, [ASKED, ASKED]),
        (QUESTION, [NOTE], FILM, [ASKED + HELD, ASKED]),
        (QUESTION, [], DIRECTOR, [0, 0]),
        (QUESTION, [NOTE], "Marta Oskarsdottir had bees. She sold them.", [HELD - OTHERWISE, -OTHERWISE]),  # no heading
        # Where no name is, nothing changes; a word alone is no name.
        ("Who kept bees?", ["They were kept in Iceland."], OTHER, [-OTHERWISE, -OTHERWISE]),
        ("What are harbour lights?", [], FILM, [-OTHERWISE, -OTHERWISE]),
    ],
)
def test_a_sentence_gains_by_the_names_that_lead_to_it(
    question: str, notes: list[str], text: str, gained: list[float]
) -> None:
    assert nats(question, notes, text) == pytest.approx([OTHERWISE + nats for nats in gained])


def test_all_names_are_followed_and_certainty_stays_finite() -> None:
    notes = ["It was shot by Aki Lindqvist in Ribe.", NOTE]
    text = "Aki Lindqvist\nHe left the island when the last of the lighthouses had been closed."
    (span,) = sentences(text)
    ((_, sure),) = by_names(QUESTION, notes, text, [(span, 1.0)])
    ((_, never),) = by_names(QUESTION, notes, text, [(span, 0.0)])
    assert 0.999 < sure < 1
    assert never == pytest.approx(1e-6 * exp(HEADED + OTHERWISE), rel=1e-3)
    assert by_names(QUESTION, notes, text, []) == []


def test_named_directors_stand_apart_from_others_for_the_tagger_that_ships() -> None:
    embedder = Embedder(tagger=find_head(Tagger, "default", DEFAULT_EMBEDDER))
    tagger = embedder._tagger
    assert tagger is not None
    films = {
        "Tsui Hark": "A Better Tomorrow III",
        "Raj Kanwar": "Har Dil Jo Pyar Karega",
        "Luigi Cozzi": "Paganini Horror",
        "Doris Wishman": "Nude on the Moon",
        "Jerome Storm": "Dog Law",
        "Andrew Lau": "Infernal Affairs",
    }
    texts = {
        name: f"{name}\n{name} (born 4 April {year}) is a film director, screenwriter and producer."
        for year, name in enumerate(films, 1931)
    }
    apart, before = 0, 0
    for named in pairwise(films):
        question = f"Which film has the director who is older, {films[named[0]]} or {films[named[1]]}?"
        notes = [f"{films[name]} is a drama film, directed by {name} and much praised." for name in named]
        found = {name: embedder.evidence(question, notes, text) or [] for name, text in texts.items()}
        plain = {name: tagged(tagger, embedder.model.tokenizer, question, notes, texts[name]) for name in texts}
        apart += clearly(named, found)
        before += clearly(named, plain)
    assert (before, apart) == (0, len(films) - 1)


def clearly(named: Sequence[str], judged: Mapping[str, Sequence[tuple[Span, float]]]) -> bool:
    """Return whether the odds of each one named are ten times those of any other."""
    best = {name: max(odds for _, odds in found) for name, found in judged.items()}
    odds = {name: p / (1 - p) for name, p in best.items()}
    return min(odds[name] for name in named) > 10 * max(odds[name] for name in odds if name not in named)
