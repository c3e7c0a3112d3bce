"""The tagger: how sentences are laid out for it, what it says before and after training, and where it is found."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.adapters import SHIPPED
from core.chunking import sentences
from core.embedder import Embedder
from core.embedder_head import HEAD, find_head, new_head, save_head
from core.errors import WeightsError
from core.evidence import EVIDENCE, QUERY_TOKENS, WINDOW_TOKENS, Tagger, Window, tagged, windows
from core.headings import behind_heading
from core.weights import DEFAULT_EMBEDDER

QUESTION = "Who kept the lighthouse at Skagen?"
TEXT = (
    "Skagen Lighthouse\nThe lighthouse stands on the northern tip of Jutland. Anna Holm kept it until 1857. "
    "It burned whale oil. Its lens was made in Paris."
)
NOTES = ("The lighthouse was built in 1747.",)


@pytest.fixture(scope="module")
def plain() -> Embedder:
    return Embedder(device="cpu")


def written(embedder: Embedder, folder: Path, name: str = DEFAULT_EMBEDDER) -> Path:
    """Write a tagger that says something of its own, as training would have made it."""
    torch.manual_seed(0)
    tagger = new_head(Tagger, embedder.model, 4)
    with torch.no_grad():
        for parameter in tagger.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.03)
    save_head(tagger, name, folder)
    return folder / EVIDENCE


def laid(embedder: Embedder, text: str, notes: tuple[str, ...] = ()) -> list[Window]:
    return windows(embedder.model.tokenizer, QUESTION, notes, text)


def test_each_sentence_stands_whole_in_one_window(plain: Embedder) -> None:
    text = "\n\n".join(
        [TEXT, TEXT.replace("Skagen", "Hirtshals"), *[f"Boat {i} came in late. It left." for i in range(60)]]
    )
    found, tokenizer = laid(plain, text, NOTES), plain.model.tokenizer
    assert len(found) > 1
    assert [span for window in found for span in window.sentences] == sentences(text)
    for window in found:
        assert len(window.ids) <= plain.model[0].auto_model.config.max_position_embeddings
        for span, (start, end) in zip(window.sentences, window.tokens, strict=True):
            said = behind_heading(text, *span)
            assert tokenizer.decode(window.ids[start:end]) == tokenizer.decode(
                tokenizer(said, add_special_tokens=False)["input_ids"]
            )
        text_starts = window.kinds.index(1)
        assert window.kinds == (0,) * text_starts + (1,) * (len(window.ids) - text_starts)
        query = tokenizer.decode(window.ids[1 : text_starts - 1])
        assert query == f"{QUESTION} {NOTES[0]}".lower()


def test_a_sentence_is_read_behind_its_own_heading_unless_it_names_that(plain: Embedder) -> None:
    (window,) = laid(plain, "# Skagen\n\nIt burned oil. Skagen is far.\n\n# Hirtshals\n\nIt burned oil.")
    decode = plain.model.tokenizer.decode
    assert [decode(window.ids[start:end]) for start, end in window.tokens] == [
        "# skagen",
        "skagen : it burned oil.",
        "skagen is far.",
        "# hirtshals",
        "hirtshals : it burned oil.",
    ]


def test_what_is_too_long_is_read_up_to_the_limit(plain: Embedder) -> None:
    endless = "word " * 2000
    (window,) = windows(plain.model.tokenizer, endless, (endless,), endless)
    assert window.kinds.index(1) == QUERY_TOKENS + 2
    assert [end - start for start, end in window.tokens] == [WINDOW_TOKENS]
    assert len(window.ids) <= 512


def test_text_is_data_and_nothing_has_no_window(plain: Embedder) -> None:
    (window,) = windows(plain.model.tokenizer, "[SEP]?", (), "A line with [SEP] and [CLS] in it.")
    assert window.ids.count(plain.model.tokenizer.sep_token_id) == 2
    assert laid(plain, " \n ") == []


def test_before_training_it_is_the_cosine_of_sentence_and_query(plain: Embedder) -> None:
    (window,) = laid(plain, TEXT)
    tagger = new_head(Tagger, plain.model, 4).eval()
    with torch.no_grad():
        (logits,) = tagger([window])
        states = tagger.transformer(
            input_ids=torch.tensor([window.ids]), token_type_ids=torch.tensor([window.kinds])
        ).last_hidden_state[0]
    query = states[1 : window.kinds.index(1) - 1].mean(0)
    cosines = [torch.cosine_similarity(states[a:b].mean(0), query, dim=0) for a, b in window.tokens]
    torch.testing.assert_close(logits, 12 * (torch.stack(cosines) - 0.85), atol=1e-4, rtol=0)


def test_read_together_or_alone_a_window_says_the_same(plain: Embedder) -> None:
    read = [*laid(plain, TEXT), *laid(plain, "It rained."), *laid(plain, TEXT * 2, NOTES)]
    tagger = new_head(Tagger, plain.model, 4).eval()
    with torch.no_grad():
        together = tagger(read)
        for window, logits in zip(read, together, strict=True):
            torch.testing.assert_close(tagger([window])[0], logits, atol=1e-4, rtol=0)


def test_written_and_merged_it_says_what_it_said_in_training(plain: Embedder, tmp_path: Path) -> None:
    folder = written(plain, tmp_path)
    unmerged = new_head(Tagger, plain.model, 4, folder).eval()
    with torch.no_grad():
        expected = torch.cat(unmerged(laid(plain, TEXT, NOTES))).sigmoid()
        untrained = torch.cat(new_head(Tagger, plain.model, 4).eval()(laid(plain, TEXT, NOTES))).sigmoid()
    used = Embedder(device="cpu", tagger=folder)
    told = used.evidence(QUESTION, NOTES, TEXT)
    assert told is not None
    assert [span for span, _ in told] == sentences(TEXT)
    # The merged copy is in bf16 where the machine has it.
    np.testing.assert_allclose([p for _, p in told], expected.numpy(), atol=3e-2)
    assert float((expected - untrained).abs().max()) > 0.05
    assert np.array_equal(used.embed([TEXT]), plain.embed([TEXT]))
    assert used.fingerprint.startswith(f"{plain.fingerprint} evidence ")
    assert plain.evidence(QUESTION, NOTES, TEXT) is None
    shared = (m.get_input_embeddings().weight for m in (used.model[0].auto_model, used._tagger.transformer))
    assert len({weight.data_ptr() for weight in shared}) == 1


def test_what_was_judged_is_not_judged_again(plain: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judging = Embedder(device="cpu", tagger=written(plain, tmp_path))
    judged = list[tuple[str, tuple[str, ...], str]]()

    def counted(tagger, tokenizer, question, notes, text):
        judged.append((question, tuple(notes), text))
        return tagged(tagger, tokenizer, question, notes, text)

    monkeypatch.setattr("core.embedder.tagged", counted)
    asked = [(QUESTION, (), TEXT), (QUESTION, NOTES, TEXT), (QUESTION, (), "It rains."), ("Where is Skagen?", (), TEXT)]
    first = [judging.evidence(*one) for one in asked]
    held = first[0]
    assert held is not None
    held.clear()  # what a caller does to his copy changes nothing
    again = [judging.evidence(question, list(notes), text) for question, notes, text in asked]
    assert judged == asked
    assert again[1:] == first[1:]
    assert again[0]
    assert again[0] != again[1] != again[3]
    monkeypatch.setattr("core.embedder._KEPT", 2)
    for one in asked:
        judging.evidence(*one)
    judged.clear()
    judging.evidence(*asked[3])
    judging.evidence(*asked[1])
    assert judged == asked[1:2]


def test_what_is_written_is_small_and_says_nothing_of_this_machine(plain: Embedder, tmp_path: Path) -> None:
    folder = written(plain, tmp_path)
    assert {file.name for file in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "evidence.json",
        "head.safetensors",
    }
    assert json.loads((folder / "evidence.json").read_text()) == {"embedder": DEFAULT_EMBEDDER}
    assert not json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    with safe_open(folder / "adapter_model.safetensors", "pt") as held:
        assert {held.get_tensor(name).dtype for name in held.keys()} == {torch.bfloat16}  # noqa: SIM118 - a safetensors file is no mapping


def test_where_it_is_found(plain: Embedder, tmp_path: Path) -> None:
    shipped = SHIPPED / DEFAULT_EMBEDDER / EVIDENCE
    assert find_head(Tagger, "none", DEFAULT_EMBEDDER) is None
    assert find_head(Tagger, "default", DEFAULT_EMBEDDER) == shipped
    assert find_head(Tagger, "default", "another-embedder") is None
    written(plain, tmp_path, "another-embedder")
    assert find_head(Tagger, str(tmp_path), DEFAULT_EMBEDDER) == shipped
    assert find_head(Tagger, str(tmp_path), "another-embedder") == tmp_path / EVIDENCE
    written(plain, tmp_path)
    assert find_head(Tagger, str(tmp_path), DEFAULT_EMBEDDER) == tmp_path / EVIDENCE


def test_what_cannot_be_used_is_refused_by_name(plain: Embedder, tmp_path: Path) -> None:
    folder = written(plain, tmp_path)
    (folder / "evidence.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"evidence\.json cannot be read"):
        find_head(Tagger, str(tmp_path), DEFAULT_EMBEDDER)
    head = load_file(folder / HEAD)
    save_file({name: tensor[..., :3].contiguous() for name, tensor in head.items()}, folder / HEAD)
    with pytest.raises(WeightsError, match="is of another model, or damaged"):
        Embedder(device="cpu", tagger=folder)
    (folder / HEAD).unlink()
    with pytest.raises(WeightsError, match=r"it needs adapter_config\.json, adapter_model\.safetensors and head"):
        Embedder(device="cpu", tagger=folder)
