"""The extractor: how notes are laid out for it, which spans it finds, and that the one that ships finds answers."""

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.adapters import SHIPPED
from core.chunking import Span
from core.embedder import Embedder
from core.embedder_head import find_head, new_head, save_head
from core.errors import WeightsError
from core.extraction import (
    CANDIDATES,
    QUESTION_TOKENS,
    SPAN_TOKENS,
    Extraction,
    Extractor,
    extracted,
    lay_out,
    occurrences,
)
from core.weights import DEFAULT_EMBEDDER

QUESTION = "Who kept the lighthouse at Skagen?"
NOTES = (
    "Skagen Lighthouse: It stands on the northern tip of Jutland.",
    "Skagen Lighthouse: Anna Holm kept it until 1857, and anna  holm wrote of it.",
    "Its lens was made in Paris by a [SEP] maker.",
)


@pytest.fixture(scope="module")
def plain() -> Embedder:
    return Embedder(device="cpu")


def untrained(embedder: Embedder) -> Extractor:
    """Return an extractor that says something of its own."""
    torch.manual_seed(0)
    return new_head(Extractor, embedder.model, 4).eval()


def written(embedder: Embedder, folder: Path) -> Path:
    extractor = untrained(embedder)
    with torch.no_grad():
        for parameter in extractor.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    save_head(extractor, embedder.name, folder)
    return folder / Extractor.kind


def test_each_token_knows_where_it_stands(plain: Embedder) -> None:
    tokenizer = plain.model.tokenizer
    laid = lay_out(tokenizer, QUESTION, NOTES)
    assert laid.ids.count(tokenizer.sep_token_id) == 1 + len(NOTES)  # what stands in a note is data
    assert tokenizer.decode(laid.ids[1 : laid.kinds.index(1) - 1]) == QUESTION.lower()
    read = [(token, place) for token, place in zip(laid.ids, laid.places, strict=True) if place]
    assert [NOTES[place.note][slice(*place.span)].lower() for _, place in read] == [
        tokenizer.decode([token]).removeprefix("##") for token, _ in read
    ]
    assert {place.note for _, place in read} == {0, 1, 2}
    place = NOTES[1].index("Anna Holm")
    tokens = laid.tokens(1, Span(place, place + len("Anna Holm")))
    assert tokens is not None
    assert tokenizer.decode(laid.ids[tokens.start : tokens.end + 1]) == "anna holm"
    assert laid.tokens(1, Span(place, place + len("Anna Hol"))) is None  # through the middle of a token
    assert laid.tokens(3, Span(0, 4)) is None


def test_what_is_too_long_is_read_up_to_the_limit(plain: Embedder) -> None:
    endless = "word " * 2000
    laid = lay_out(plain.model.tokenizer, endless, ["One note.", endless, "Never read."])
    assert laid.kinds.index(1) == QUESTION_TOKENS + 2
    assert len(laid.ids) <= plain.model[0].auto_model.config.max_position_embeddings
    assert len(laid.ids) == len(laid.kinds) == len(laid.places)
    assert {place.note for place in laid.places if place} == {0, 1}


def test_beginnings_and_ends_are_in_the_notes_or_nowhere(plain: Embedder) -> None:
    read = [lay_out(plain.model.tokenizer, QUESTION, NOTES[:n]) for n in (3, 1, 0)]
    extractor = untrained(plain)
    with torch.no_grad():
        together = extractor(read)
        for layout, log_probs in zip(read, together, strict=True):
            assert log_probs.shape == (len(layout.ids), 2)
            torch.testing.assert_close(extractor([layout])[0], log_probs, atol=1e-4, rtol=0)
            torch.testing.assert_close(log_probs.exp().sum(0), torch.ones(2))
            shut = [place is None for place in layout.places]
            shut[0] = False
            assert float(log_probs[torch.tensor(shut)].exp().sum()) == 0.0
    assert together[2][0].tolist() == [0.0, 0.0]


def slowly(found: Extraction, notes: tuple[str, ...]) -> dict[str, float]:
    """Return log p of every span of the notes by the definition."""
    places, odds = found.layout.places, dict[str, list[Tensor]]()
    for first, last in product(range(len(places)), repeat=2):
        begun, ended = places[first], places[last]
        if begun and ended and begun.note == ended.note and 0 <= last - first < SPAN_TOKENS:
            said = notes[begun.note][begun.span.start : ended.span.end]
            odds.setdefault(said, []).append(found.log_probs[first, 0] + found.log_probs[last, 1])
    return {said: float(torch.stack(log_probs).logsumexp(0)) for said, log_probs in odds.items()}


def test_the_likeliest_spans_are_found(plain: Embedder, tmp_path: Path) -> None:
    found = Embedder(device="cpu", extractor=written(plain, tmp_path)).extract(QUESTION, NOTES)
    assert found is not None
    every = slowly(found, NOTES)
    assert found.spans[0][0] == max(every, key=every.__getitem__)
    assert len(found.spans) == CANDIDATES
    assert [odds for _, odds in found.spans] == sorted((odds for _, odds in found.spans), reverse=True)
    for said, odds in found.spans:
        assert any(said in note for note in NOTES)
        # All places count that are likely at all.
        assert odds == pytest.approx(every[said], abs=0.3)
        assert found.log_prob(said) == odds
    assert found.unsaid == pytest.approx(float(found.log_probs[0].sum()))


def test_an_answer_counts_wherever_it_stands(plain: Embedder) -> None:
    found = extracted(untrained(plain), plain.model.tokenizer, QUESTION, NOTES)
    every = slowly(found, NOTES)
    both = torch.tensor([every["Anna Holm"], every["anna  holm"]]).logsumexp(0)
    assert found.log_prob("ANNA Holm") == pytest.approx(float(both), abs=1e-5)
    assert found.log_prob("Niels Nebelong") == found.log_prob("Hol") == found.log_prob("") == -12.0


def test_occurrences_are_whole_words_in_any_case() -> None:
    assert occurrences("anna holm", NOTES[1]) == [Span(19, 28), Span(53, 63)]
    assert occurrences("Hol", NOTES[1]) == occurrences(" ", NOTES[1]) == []
    assert occurrences("c++ (1998)", "In C++ (1998) and C++") == [Span(3, 13)]


def test_without_notes_nothing_is_found(plain: Embedder) -> None:
    found = extracted(untrained(plain), plain.model.tokenizer, QUESTION, ())
    assert (found.spans, found.unsaid) == ((), 0.0)
    assert plain.extract(QUESTION, NOTES) is None


def test_written_and_merged_it_says_what_it_said_in_training(plain: Embedder, tmp_path: Path) -> None:
    folder = written(plain, tmp_path)
    unmerged = new_head(Extractor, plain.model, 4, folder).eval()
    used = Embedder(device="cpu", extractor=folder)
    found = used.extract(QUESTION, NOTES)
    assert found is not None
    with torch.no_grad():
        expected = unmerged([found.layout])[0]
    # The merged copy is in bf16 where the machine has it; of what is unlikely the logarithm is not kept so well.
    torch.testing.assert_close(found.log_probs.exp(), expected.exp(), atol=3e-2, rtol=0)
    assert used.fingerprint.startswith(f"{plain.fingerprint} extractor ")
    assert find_head(Extractor, str(tmp_path), DEFAULT_EMBEDDER) == folder
    assert find_head(Extractor, "none", DEFAULT_EMBEDDER) is None
    (folder / "head.safetensors").unlink()
    with pytest.raises(WeightsError, match="no extractor at"):
        Embedder(device="cpu", extractor=folder)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTION, "Anna Holm"),
        ("Where was the lens of the lighthouse made?", "Paris"),
        ("Until when did Anna Holm keep the lighthouse?", "1857"),
        ("How many children did the architect of the railway have?", None),
    ],
)
def test_the_one_that_ships_finds_what_the_notes_say(question: str, answer: str | None) -> None:
    folder = find_head(Extractor, "default", DEFAULT_EMBEDDER)
    assert folder == SHIPPED / DEFAULT_EMBEDDER / Extractor.kind
    found = Embedder(device="cpu", extractor=folder).extract(question, NOTES)
    assert found is not None
    said, odds = found.spans[0]
    assert (said if odds > found.unsaid else None) == answer
