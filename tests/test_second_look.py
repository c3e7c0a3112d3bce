"""What an answer rests on, chosen by the tagger that ships when all is read."""

from math import exp, log

import pytest

from core.chunking import Span, sentences
from core.embedder import Embedder
from core.embedder_head import find_head
from core.evidence import Tagger
from core.headings import behind_heading
from core.second_look import DOUBTFUL, SENTENCES, Found, best_evidence
from core.weights import DEFAULT_EMBEDDER

ASKED = "Where did the father of the builder of Skagen lighthouse die?"
BUILDER = "Skagen lighthouse\nSkagen lighthouse was built in 1858 by Niels Nebelong. It is 46 metres high."
SON = "Niels Nebelong\nNiels Nebelong was a Danish architect. His father was Johan Nebelong, a merchant of Copenhagen."
FATHER = "Johan Nebelong\nJohan Nebelong was a merchant. He died in Aalborg, where he had gone to buy timber."
OTHERS = (
    "Anna Holm\nAnna Holm kept a diary of every storm. She died in Ribe.",
    "Rapeseed\nOil was pressed from rapeseed. It burned in lamps.",
)


class Counting(Embedder):
    """Counts the texts that it judges, and remembers the notes that they are judged by."""

    def __init__(self) -> None:
        super().__init__(device="cpu", tagger=find_head(Tagger, "default", DEFAULT_EMBEDDER))
        self.judged: list[tuple[str, tuple[str, ...]]] = []

    def evidence(self, question: str, notes: object, text: str) -> list[tuple[Span, float]] | None:
        assert isinstance(notes, list)
        self.judged.append((text, tuple(notes)))
        return super().evidence(question, notes, text)


@pytest.fixture(scope="module")
def judging() -> Counting:
    return Counting()


def said(texts: tuple[str, ...], found: Found) -> str:
    return behind_heading(texts[found.text], *found.span)


def slowly(embedder: Embedder, question: str, texts: tuple[str, ...]) -> list[Found]:
    """Find the same by the definition: look, take the likeliest, look again; the third look takes the rest."""
    found: list[Found] = []
    for take in (1, 1, SENTENCES):
        notes = [said(texts, f) for f in found]
        seen = [
            Found(row, span, odds)
            for row, text in enumerate(texts)
            for span, odds in embedder.evidence(question, notes, text) or ()
        ]
        left = [f for f in sorted(seen, key=lambda f: -f.odds) if said(texts, f) not in notes and f.odds > DOUBTFUL]
        found = [*found, *left[:take]][:SENTENCES]
    return found


def test_each_sentence_is_found_in_the_light_of_those_before(judging: Counting) -> None:
    texts = (FATHER, OTHERS[0], SON, OTHERS[1], BUILDER)
    found = best_evidence(judging, ASKED, texts)
    assert found == slowly(judging, ASKED, texts)
    lines = [said(texts, f) for f in found]
    assert any("His father was Johan Nebelong" in line for line in lines)
    assert any("built in 1858 by Niels Nebelong" in line for line in lines)
    assert len(set(lines)) == len(lines) <= SENTENCES
    for f in found:
        assert f.span in sentences(texts[f.text])
        assert f.odds > DOUBTFUL
    # What was found first changes what is likely.
    first = {(row, span): odds for row, t in enumerate(texts) for span, odds in judging.evidence(ASKED, [], t) or ()}
    assert first[found[0].text, found[0].span] == found[0].odds == max(first.values())
    assert any(first[f.text, f.span] != f.odds for f in found[1:])


def test_nothing_is_found_where_nothing_bears_on_the_question(judging: Counting) -> None:
    assert best_evidence(judging, ASKED, (OTHERS[1],)) == []
    assert best_evidence(judging, ASKED, ()) == []
    assert best_evidence(Embedder(device="cpu"), ASKED, (BUILDER, SON)) == []


def test_what_the_reader_told_of_is_likelier() -> None:
    class Doubting(Counting):
        def evidence(self, question: str, notes: object, text: str) -> list[tuple[Span, float]] | None:
            return [(span, 0.08) for span in sentences(text)]

    doubting, texts = Doubting(), (OTHERS[1],)
    assert best_evidence(doubting, ASKED, texts) == []
    told = sentences(texts[0])[1]
    raised = 1 / (1 + exp(-(log(0.08 / 0.92) + 1)))
    assert raised > DOUBTFUL
    assert best_evidence(doubting, ASKED, texts, {(0, told)}) == [Found(0, told, pytest.approx(raised))]


def test_a_sentence_that_stands_twice_is_found_once(judging: Counting) -> None:
    texts = (BUILDER, f"{OTHERS[0]}\n\n{BUILDER}", BUILDER)
    lines = [said(texts, f) for f in best_evidence(judging, ASKED, texts)]
    assert lines
    assert len(lines) == len(set(lines))


def test_of_long_texts_the_likeliest_are_looked_at_again(judging: Counting) -> None:
    filler = " ".join(f"Lamp number {i} burned oil in the night." for i in range(160))
    assert 5000 < len(filler) < 9000
    texts = (f"{OTHERS[1]} {filler}", f"{filler}\n\n{BUILDER}", f"{SON}\n\n{filler}")
    judging.judged.clear()
    found = best_evidence(judging, ASKED, texts)
    looks = [notes for _, notes in judging.judged]
    assert looks.count(()) == len(texts)
    (again,) = {text for text, notes in judging.judged if notes}
    assert again == texts[found[0].text]
