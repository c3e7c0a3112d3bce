"""Retrieval, the whole text and our own forms, on a little text with the real models."""

import pytest

from core.backbone import Backbone
from core.embedder import Embedder
from core.errors import InputError
from core.evaluation.haystack import Pool, own_haystack
from core.evaluation.systems.bm25 import WordIndex, WordRetrieval
from core.evaluation.systems.full import FullContext, WholeText
from core.evaluation.systems.naming import NAMES, one_placement, system_named
from core.evaluation.systems.ours import Bank, CompressedMemory, without_gate
from core.evaluation.systems.passage_reader import reading_prompt
from core.evaluation.systems.rag import EmbeddingRetrieval
from core.generation import Generator
from core.ingest import Document
from core.settings import CompressionSettings, RecallSettings
from tests import tiny_models

from ..made import MILL, POOL

DOCUMENTS = own_haystack(MILL, Pool(POOL), 12).documents
FEW = RecallSettings(max_steps=2, update_tokens=24, answer_tokens=16)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_models.backbone()


@pytest.mark.parametrize("system", [EmbeddingRetrieval, WordRetrieval])
def test_retrieval_shows_the_nearest_passages_cites_them_and_answers(
    default_backbone: Backbone, default_embedder: Embedder, system: type[EmbeddingRetrieval | WordRetrieval]
) -> None:
    corpus = system(default_backbone, default_embedder, passages=3).take_in(DOCUMENTS)
    outcome = corpus.ask(MILL.question)
    texts = {document.document_id: document.text for document in DOCUMENTS}
    name, span = outcome.cited[0]
    assert "owned by Jonas Ark" in texts[name][span.start : span.end]
    assert len(outcome.cited) == 3
    assert outcome.read == tuple(name for name, _ in outcome.cited)
    assert "Ark" in outcome.prediction
    assert outcome.cost.model_calls == 1
    assert {"retrieve", "answer"} == outcome.cost.seconds.keys()
    assert "cut" in corpus.cost.seconds


def test_bm25_ranks_by_words_and_gives_nothing_to_unknown_ones() -> None:
    index = WordIndex(["the mill at Brenfield", "a mill", "the sea and the sea"])
    scores = index.scores("Who owns the Brenfield mill?")
    assert scores[0] > scores[1] > scores[2] == 0
    assert index.scores("zebra").tolist() == [0, 0, 0]
    assert index.scores("the of and").tolist() == [0, 0, 0]


def test_the_whole_text_is_shown_where_it_fits(tiny: Backbone) -> None:
    whole = WholeText(Generator(tiny), tiny.context_tokens, DOCUMENTS)
    assert whole._fitting("What?") == whole._text
    assert whole._text.startswith("Document 1:\n")


@pytest.mark.parametrize("room", [256, 300, 301, 500])
def test_a_long_text_keeps_its_two_ends_and_fits(tiny: Backbone, room: int) -> None:
    numbers = " ".join(str(n) for n in range(1000, 3000))
    whole = WholeText(Generator(tiny), room, [Document("1", numbers)])
    shown = whole._fitting("What?")
    prompt = reading_prompt("What?", shown)
    needed = len(tiny.encode_chat(prompt.system, prompt.user, prompt.prefill)) + prompt.max_tokens
    assert room - 12 <= needed <= room
    first, last = shown.split("\n…\n")
    assert whole._text.startswith(first)
    assert whole._text.endswith(last)
    assert abs(len(tiny.encode(first)) - len(tiny.encode(last))) <= 3


def test_the_model_answers_from_the_whole_text(default_backbone: Backbone) -> None:
    outcome = FullContext(default_backbone).take_in(DOCUMENTS[:4]).ask("How many houses has the village?")
    assert outcome.prediction
    assert (outcome.cited, outcome.read) == ((), None)


@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_our_forms_answer_with_sources_in_the_documents(
    default_backbone: Backbone, default_embedder: Embedder, form: str
) -> None:
    corpus = CompressedMemory(default_backbone, default_embedder, form, recall=FEW).take_in(DOCUMENTS)
    folder = corpus._folder.name
    try:
        assert ("encode" in corpus.cost.seconds) == (corpus.cost.tokens_encoded > 0) == (form == "compressed")
        assert corpus._engine.bank.fingerprint.encode == (form == "compressed")
        outcome = corpus.ask(MILL.question)
        texts = {document.document_id: document.text for document in DOCUMENTS}
        assert all(0 <= span.start < span.end <= len(texts[name]) for name, span in outcome.cited)
        assert 0 < len(outcome.read) <= 2
        assert (outcome.cost.slots_read > 0) == (form == "compressed")
        if form == "raw":
            assert "Ark" in outcome.prediction
    finally:
        corpus.close()
    with pytest.raises(FileNotFoundError):
        next(__import__("pathlib").Path(folder).iterdir())


def test_without_the_gate_every_chunk_is_read_in_order(tiny: Backbone, default_embedder: Embedder) -> None:
    recall = without_gate(RecallSettings(form="raw", update_tokens=8, answer_tokens=4, callback=False))
    bank = Bank(tiny, default_embedder, CompressionSettings(encode=False), recall, DOCUMENTS)
    outcome = bank.ask("Who?")
    bank.close()
    assert outcome.read == tuple(document.document_id for document in DOCUMENTS)


def test_an_answer_that_nothing_was_found_is_no_prediction(tiny: Backbone, default_embedder: Embedder) -> None:
    recall = RecallSettings(form="raw", threshold=1.0)
    bank = Bank(tiny, default_embedder, CompressionSettings(encode=False), recall, DOCUMENTS)
    outcome = bank.ask("Who?")
    bank.close()
    assert (outcome.prediction, outcome.cited, outcome.read) == ("", (), ())


@pytest.mark.parametrize("name", NAMES)
def test_every_system_has_a_name(tiny: Backbone, default_embedder: Embedder, name: str) -> None:
    system_named(name, tiny, default_embedder)


def test_options_reach_the_settings(tiny: Backbone, default_embedder: Embedder) -> None:
    ours = system_named("compressed:ratio=8,callback=off,top_k=6,chunk_tokens=64", tiny, default_embedder)
    assert ours._compression == CompressionSettings(ratio=8, chunk_tokens=64)
    assert ours._recall == RecallSettings(form="compressed", callback=False, top_k=6)
    open_to_all = system_named("raw:gate=off,raw_passages=all", tiny, default_embedder)
    assert open_to_all._recall == without_gate(RecallSettings(form="raw", raw_passages=None))
    selected = system_named("compressed:placement=selected,ratio=8", tiny, default_embedder)
    assert (selected._compression.placement, selected._compression.ratio) == ("selected", 8)
    assert system_named("rag:passages=3", tiny, default_embedder)._count == 3
    roles = ("rag", "bm25", "full", "memagent", "rememr1", "rag:trained=off", "full:trained=off", "memagent:trained=on")
    assert [system_named(name, tiny, default_embedder)._generator.role for name in roles] == [
        *["reasoner"] * 3,
        *[None] * 4,
        "reasoner",
    ]


def test_adapters_of_one_placement_are_not_used_for_another(default_embedder: Embedder) -> None:
    trained = tiny_models.backbone()
    trained.add_adapter("compressor", rank=2, alpha=4)
    for name, placement in (
        ("compressed", "in_place"),
        ("compressed:placement=selected", "selected"),
        ("raw", "inserted"),
    ):
        system_named(name, trained, default_embedder, trained=placement)
    with pytest.raises(
        InputError, match=r"adapter is for in_place: add placement=in_place to the name, name one .*or --adapters none"
    ):
        system_named("compressed:placement=inserted", trained, default_embedder)
    with pytest.raises(InputError, match="add placement=selected to the name"):
        system_named("compressed", trained, default_embedder, trained="selected")


@pytest.mark.parametrize(
    ("names", "placement"),
    [
        (("compressed:placement=selected", "raw", "rag"), "selected"),
        (("compressed:placement=selected", "compressed:placement=selected,ratio=8"), "selected"),
        (("compressed:placement=selected", "compressed"), None),
        (("compressed:placement=selected", "raw:gate=slots"), None),
        (("compressed", "raw:placement=inserted"), None),
        (("raw", "memagent"), None),
    ],
)
def test_one_placement_is_what_all_that_keep_slots_name(names: tuple[str, ...], placement: str | None) -> None:
    assert one_placement(names) == placement


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("oracle", "no system 'oracle': choose among compressed"),
        ("raw:ratio", "'ratio' is no option: write NAME=VALUE"),
        ("raw:speed=3", "option speed='3': Extra inputs are not permitted; its options are: gate, callback"),
        ("compressed:ratio=3", "ratio=3"),
        ("rag:passages=many", "option passages='many'"),
        ("memagent:window=3", "option window='3'.*its options are: trained"),
        ("rag:passages=0", "option passages='0'"),
    ],
)
def test_a_name_that_means_nothing_is_refused(tiny: Backbone, default_embedder: Embedder, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        system_named(name, tiny, default_embedder)
