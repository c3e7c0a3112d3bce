"""Spans that are exactly the text, fit the model, and end where the text does; and the sentences in it."""

import pydoc_data.topics
import random
import tracemalloc
from itertools import pairwise

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from core.chunking import Span, chunk_id, sentences, split_text, token_ends
from core.weights import DEFAULT_EMBEDDER, resolve

from .tiny_models import tokenizer

REAL = {name: pydoc_data.topics.topics[name] for name in ("strings", "with", "comparisons", "numeric-types")}
ODD = {
    "emoji": "🦩👩‍👩‍👧‍👦 flamingo 🦩🦩" * 40,
    "Chinese": "灯塔建于一八五八年。看守人安娜写了日记！后来呢？" * 30,
    "blanks": "word" + " " * 3000 + "word" + "\t" * 500 + "end",
    "no blanks": "abcdefghij" * 300,
    "one huge word": "pneumono" * 1000,
    "one letter": "a" * 5000,
    "carriage returns": "A line of text.\r\nAnother line\r\n\r\nA paragraph.\r\n" * 40,
    "only newlines": "\n" * 3000,
    "only blank lines": " \n\t\n" * 700,
    "control tokens": "<|im_end|>\n<|im_start|>system\n<|endoftext|>" * 60,
    "combining": "e\u0301\u200b\u00a0ﷺ𝔘" * 200,
    "digits": "3.14159265358979 " * 150,
    "one character": "x",
    "one blank": " ",
}


@pytest.fixture(scope="module", params=["bytes", "word pieces"])
def cutter(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Return the default model's tokenizer, and the embedder's, which loses blanks and calls long words unknown."""
    return tokenizer() if request.param == "bytes" else AutoTokenizer.from_pretrained(resolve(DEFAULT_EMBEDDER))


def assert_cut_well(text: str, cutter: PreTrainedTokenizerBase, max_tokens: int) -> list[Span]:
    spans = list(split_text(text, cutter, max_tokens))
    assert spans[0].start == 0
    assert spans[-1].end == len(text)
    assert all(before.end == after.start for before, after in pairwise(spans))
    assert all(span.start < span.end for span in spans)
    for start, end in spans:
        ids = cutter(text[start:end], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert len(ids) <= max_tokens, text[start:end]
    assert list(split_text(text, cutter, max_tokens)) == spans
    return spans


@pytest.mark.parametrize("max_tokens", [16, 128, 1000])
@pytest.mark.parametrize("name", REAL)
def test_real_text_is_cut_into_fitting_spans_without_loss(
    name: str, max_tokens: int, cutter: PreTrainedTokenizerBase
) -> None:
    assert_cut_well(REAL[name], cutter, max_tokens)


@pytest.mark.parametrize("max_tokens", [16, 100])
@pytest.mark.parametrize("name", ODD)
def test_odd_text_is_cut_into_fitting_spans_without_loss(
    name: str, max_tokens: int, cutter: PreTrainedTokenizerBase
) -> None:
    assert_cut_well(ODD[name], cutter, max_tokens)


def test_mixtures_of_odd_text_are_cut_into_fitting_spans_without_loss(cutter: PreTrainedTokenizerBase) -> None:
    chance = random.Random(0)
    pieces = [
        "🦩",
        "日本語",
        " ",
        " " * 40,
        "\r\n",
        "\n\n",
        "a" * 130,
        "<|im_end|>",
        "word ",
        "... ",
        "e\u0301",
        "123",
        "。",
    ]
    for _ in range(60):
        text = "".join(chance.choice(pieces) * chance.choice([1, 1, 2, 5, 30]) for _ in range(30))
        assert_cut_well(text, cutter, chance.choice([16, 17, 40]))


def test_no_text_has_no_spans() -> None:
    assert list(split_text("", tokenizer(), 16)) == []


def test_text_that_fits_is_one_span() -> None:
    text = "First paragraph.\n\nSecond paragraph. And a sentence."
    assert list(split_text(text, tokenizer(), 16)) == [Span(0, len(text))]
    assert len(token_ends(text, tokenizer())) <= 16


def cut(text: str, max_tokens: int) -> list[str]:
    return [text[start:end] for start, end in split_text(text, tokenizer(), max_tokens)]


@pytest.mark.parametrize("blank", ["\n\n", "\r\n\r\n"])
def test_a_cut_prefers_the_end_of_a_paragraph_to_that_of_a_sentence(blank: str) -> None:
    paragraph = "One two three four five six. " * 3 + blank
    after = "Seven eight. Nine ten. " * 8
    assert cut(paragraph + after, 40)[0] == paragraph


def test_a_cut_prefers_the_end_of_a_sentence_to_that_of_a_word() -> None:
    for text in ("One two three four five. " * 20, "灯塔建于一八五八年。" * 20, "one two three four\n" * 20):
        *whole, _ = cut(text, 32)
        assert len(whole) > 2
        assert all(piece.endswith((". ", "。", "\n")) for piece in whole), whole


def test_a_cut_prefers_the_end_of_a_word_to_any_other() -> None:
    *whole, _ = cut("lighthouse keepers diary " * 40, 32)
    assert len(whole) > 2
    assert all(piece.endswith(" ") for piece in whole)


def test_cuts_of_real_text_end_paragraphs() -> None:
    *whole, _ = cut(REAL["comparisons"], 256)
    assert len(whole) > 8
    # The indentation of the next paragraph goes with the blank line before it.
    assert all(piece.rstrip(" ").endswith("\n\n") for piece in whole)


def test_a_break_in_the_first_half_of_a_window_does_not_make_a_small_chunk() -> None:
    text = "Short.\n\n" + "word " * 400
    *whole, _ = cut(text, 100)
    assert all(len(token_ends(piece, tokenizer())) > 40 for piece in whole)


def test_windows_are_well_filled() -> None:
    text = pydoc_data.topics.topics["comparisons"]
    *whole, _ = cut(text, 256)
    sizes = [len(token_ends(piece, tokenizer())) for piece in whole]
    assert min(sizes) > 128 * 0.7
    assert sum(sizes) / len(sizes) > 170


def test_the_first_chunks_of_a_huge_text_are_had_without_reading_the_rest() -> None:
    text = "lighthouse " * 1_000_000
    spans = split_text(text, tokenizer(), 64)
    next(spans)
    tracemalloc.start()
    try:
        for _ in range(50):
            next(spans)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # of 11,000,000 characters
    finally:
        tracemalloc.stop()


def test_text_before_a_cut_decides_where_it_lies() -> None:
    """Text that is appended changes no chunk but the last, so that what was encoded stays so."""
    text = REAL["strings"]
    before, after = cut(text, 100), cut(text + "\n\nAnd more of it. " * 20, 100)
    assert after[: len(before) - 1] == before[:-1]


# ---- names ----


def test_a_chunk_is_named_by_its_content_and_its_namespace() -> None:
    assert chunk_id("a", "text") == chunk_id("a", "text")
    assert len({chunk_id("a", "text"), chunk_id("b", "text"), chunk_id("a", "texts"), chunk_id("", "atext")}) == 4
    # The border between namespace and text counts.
    assert chunk_id("ab", "c") != chunk_id("a", "bc")
    assert chunk_id("1", "1:x") != chunk_id("1:1", "x")
    assert len(chunk_id("a", "text")) == 32
    assert set(chunk_id("a", "text")) <= set("0123456789abcdef")


# ---- sentences ----


def said(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def test_sentences_end_at_their_marks_and_lose_the_blanks_around_them() -> None:
    assert said('  Anna came. Did she stay?  Yes!\tShe said "no." (Really.) So… it goes. ') == [
        "Anna came.",
        "Did she stay?",
        "Yes!",
        'She said "no."',
        "(Really.)",
        "So…",
        "it goes.",
    ]


def test_spans_of_sentences_are_those_of_the_text() -> None:
    assert sentences(" One.  Two. ") == [Span(1, 5), Span(7, 11)]


def test_a_wrapped_sentence_is_one() -> None:
    assert said("The lighthouse at Skagen\nwas built\nin 1858. It stands.") == [
        "The lighthouse at Skagen\nwas built\nin 1858.",
        "It stands.",
    ]


@pytest.mark.parametrize("blank", ["\n\n", "\n \t\n", "\n\n\n\n", "\r\n\r\n"])
def test_a_blank_line_ends_a_sentence(blank: str) -> None:
    assert said(f"The lighthouse{blank}It was built in 1858") == ["The lighthouse", "It was built in 1858"]


@pytest.mark.parametrize("mark", ["-", "*", "•", "#", "1.", "12)", "  -"])
def test_a_list_item_or_heading_begins_a_sentence(mark: str) -> None:
    found = said(f"Keepers were\n{mark} Anna Holm\n{mark} Jens Holm")
    assert [piece.lstrip("-*•#0123456789.) ") for piece in found if piece.strip("0123456789.")] == [
        "Keepers were",
        "Anna Holm",
        "Jens Holm",
    ]


def test_a_dash_or_number_within_a_wrapped_line_begins_none() -> None:
    assert said("built in\n1858 by the state\n-ish people") == ["built in\n1858 by the state\n-ish people"]


@pytest.mark.parametrize("before", ["By ", "", "(", "One line\n"])
def test_initials_and_decimals_end_no_sentence(before: str) -> None:
    text = f"{before}J. R. Holm of the U.S. Navy measured 3.14 metres"
    assert said(text) == [text]


def test_chinese_sentences_need_no_blank() -> None:
    assert said("灯塔建于一八五八年。看守人写了日记！后来呢？") == [
        "灯塔建于一八五八年。",
        "看守人写了日记！",
        "后来呢？",
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\n \n"])
def test_blanks_hold_no_sentence(text: str) -> None:
    assert sentences(text) == []


@pytest.mark.parametrize("text", [*REAL.values(), *ODD.values()])
def test_sentences_lose_only_blanks(text: str) -> None:
    spans = sentences(text)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert "".join("".join(said(text)).split()) == "".join(text.split())
    assert all(piece == piece.strip() != "" for piece in said(text))
