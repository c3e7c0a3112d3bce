"""Trained adapters: found, fitted to model and placement, and used by an engine without being asked for."""

import json
import logging
from pathlib import Path

import pytest
import torch

from core.adapters import CARD, find_adapters, load_adapters, save_adapters
from core.backbone import Backbone, Role
from core.compressor import Compressor
from core.engine import Engine
from core.errors import BankMismatchError, InputError, WeightsError
from core.ingest import Document
from core.selector import new_selector, save_selector
from core.settings import CompressionSettings, RecallSettings
from core.slot_gate import SlotGate, save_gate
from core.weights import DEFAULT_MODEL

from .tiny_models import backbone, causal_lm, randomize_adapter, tokenizer

TEXT = "The Orrel Point lighthouse was lit in 1857. Its keeper was Edda Marsh, who also kept bees. " * 20


@pytest.fixture
def base(tmp_path: Path) -> str:
    folder = tmp_path / "base"
    causal_lm().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def trained(model: Backbone, roles: tuple[Role, ...], folder: Path, placement: str = "in_place") -> Path:
    for seed, role in enumerate(roles):
        model.add_adapter(role, rank=4, alpha=8)
        randomize_adapter(model, role, seed)
    save_adapters(model, roles, folder, placement)  # type: ignore[arg-type]
    return folder


def test_saved_adapters_are_loaded_with_their_roles(tmp_path: Path) -> None:
    folder = trained(backbone(), ("compressor", "reasoner"), tmp_path / "adapters")
    model = backbone()
    load_adapters(model, folder, "in_place")
    assert model.adapters == ("compressor", "reasoner")
    assert model.trained == ()
    load_adapters(further := backbone(), folder, "in_place", ("reasoner",))
    assert further.trained == ("reasoner",)


def test_a_compressor_trained_for_another_placement_is_left_out(tmp_path: Path) -> None:
    folder = trained(backbone(), ("compressor", "reasoner"), tmp_path, "inserted")
    load_adapters(model := backbone(), folder, "in_place")
    assert model.adapters == ("reasoner",)


def test_a_selector_alone_is_no_adapter_of_the_compressor(base: str, tmp_path: Path) -> None:
    folder = trained(backbone(), ("reasoner",), tmp_path / "adapters")
    save_selector(new_selector(backbone()), folder)
    load_adapters(model := backbone(), folder, "in_place")
    assert model.adapters == ("reasoner",)
    inserted = Compressor(model, CompressionSettings(placement="inserted"))
    inserted.load_weights(folder)  # nor is an embedding missing beside it
    with Engine.open(model=base, adapters=str(folder)) as engine:
        assert engine.form(RecallSettings()) == "raw"


def test_the_selector_that_ships_is_of_the_default_model_and_needs_no_adapter(default_backbone: Backbone) -> None:
    folder = find_adapters("default", DEFAULT_MODEL)
    assert folder is not None
    made = Compressor(default_backbone, CompressionSettings(placement="selected"))
    made.load_weights(folder)
    made.check()
    (slots,) = made.compress([default_backbone.encode(TEXT)])
    assert len({tuple(layer) for layer in slots.positions.tolist()}) > 20  # of 30 layers


def test_the_default_install_answers_through_trained_slots() -> None:
    with Engine.open() as engine:
        assert engine.backbone.adapters == ("compressor", "reasoner")
        assert engine.form(RecallSettings()) == "compressed"
        engine.add([Document("keeper", "Ruth Calder was born in the fishing village of Crail. She kept bees.")])
        answer = engine.ask("Where was Ruth Calder born?")
        read = engine.ask("Where was Ruth Calder born?", settings=RecallSettings(read_when_sure=True))
    for told in (answer, read):
        assert "Crail" in told.text
        assert [note.quote for note in told.sources] == ["Ruth Calder was born in the fishing village of Crail."]
    assert answer.usage.slots_read == 0  # the tagger is sure of it
    assert read.usage.slots_read > 0
    with Engine.open(compression=CompressionSettings(placement="selected")) as other:
        assert other.backbone.adapters == ("reasoner",)  # the compressor's is for slots in place


def test_a_damaged_adapter_is_no_missing_one(tmp_path: Path) -> None:
    folder = trained(backbone(), ("compressor",), tmp_path)
    (folder / "compressor" / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="no adapter at"):
        load_adapters(backbone(), folder, "in_place")


def test_a_bank_of_selected_tokens_is_opened_with_its_selector_only(base: str, tmp_path: Path) -> None:
    folder = trained(backbone(), ("reasoner",), tmp_path / "adapters")
    chosen = CompressionSettings(placement="selected", chunk_tokens=64)
    with pytest.raises(WeightsError, match=r"adapters that hold one.*--stage selector.*placement='in_place'"):
        Engine.open(tmp_path / "bank", model=base, adapters=str(folder), compression=chosen)
    assert not (tmp_path / "bank").exists()
    save_selector(new_selector(backbone()), folder)
    with Engine.open(tmp_path / "bank", model=base, adapters=str(folder), compression=chosen) as engine:
        engine.add([Document("a", TEXT)])
        digest = engine.bank.digest()
    with Engine.open(tmp_path / "bank") as again:
        assert again.bank.digest() == digest
    save_selector(new_selector(backbone(), seed=1), folder)
    with pytest.raises(BankMismatchError, match="weights"):
        Engine.open(tmp_path / "bank")


def test_adapters_of_another_base_are_refused(tmp_path: Path) -> None:
    folder = trained(backbone(), ("reasoner",), tmp_path)
    with pytest.raises(WeightsError, match=r"were trained on weights \w+, .* has \w+: use the model"):
        load_adapters(backbone(seed=1), folder, "in_place")


def test_what_is_asked_for_is_found_or_named(tmp_path: Path) -> None:
    assert find_adapters("none", "SmolLM2-135M-Instruct") is None
    assert find_adapters("default", "a model that has none") is None
    with pytest.raises(WeightsError, match=f"adapters '{tmp_path}': no {CARD} there"):
        find_adapters(str(tmp_path), "SmolLM2-135M-Instruct")
    (tmp_path / CARD).write_text("{}")
    assert find_adapters(str(tmp_path), "any") == tmp_path
    with pytest.raises(WeightsError, match="cannot be read"):
        load_adapters(backbone(), tmp_path, "in_place")


def test_what_ships_and_is_not_whole_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.adapters.SHIPPED", tmp_path / "pretrained")
    (tmp_path / "pretrained" / "one" / "reasoner").mkdir(parents=True)
    with pytest.raises(WeightsError, match=f"ship for one are not whole: no {CARD} at .*one. Install"):
        find_adapters("default", "one")
    assert find_adapters("default", "another") is None
    assert find_adapters("default", str(tmp_path)) is None  # the folder of a model of the user's own
    (tmp_path / "pretrained" / "one" / CARD).write_text("{}")
    assert find_adapters("default", "one") == tmp_path / "pretrained" / "one"


def test_an_engine_reads_slots_once_both_adapters_are_there(
    base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = str(trained(backbone(), ("compressor", "reasoner"), tmp_path / "both"))
    reader = str(trained(backbone(), ("reasoner",), tmp_path / "reader"))
    with caplog.at_level(logging.WARNING):
        assert Engine.open(model=base, adapters=both).form(RecallSettings()) == "compressed"
        assert Engine.open(model=base, adapters=reader).form(RecallSettings()) == "raw"
    assert caplog.records == []
    assert Engine.open(model=base, adapters=both).form(RecallSettings(form="raw")) == "raw"


def with_gate(folder: Path) -> Path:
    """Write adapters with a gate that opens what the embeddings would not."""
    model = backbone()
    trained(model, ("gate",), folder)
    gate = SlotGate(model)
    with torch.no_grad():
        gate.head.weight[:, -1] = -40.0
        gate.head.bias.fill_(20.0)
    save_gate(gate, folder)
    return folder


def test_an_engine_opens_what_a_trained_gate_says(base: str, tmp_path: Path) -> None:
    adapters = str(with_gate(tmp_path / "adapters"))
    with Engine.open(model=base, adapters=adapters) as engine:
        engine.add([Document("near", TEXT), Document("far", "Bread is baked from flour, water and yeast.")])
        question = "Who kept the Orrel Point lighthouse?"
        by_slots = engine.retrieve(question, settings=RecallSettings(top_k=1))
        by_similarity = engine.retrieve(question, settings=RecallSettings(top_k=1, gate="similarity"))
        assert [opened.chunk.document_id for opened in by_slots] == ["far"]
        assert [opened.chunk.document_id for opened in by_similarity] == ["near"]
        assert engine.gate_choice(RecallSettings(gate="slots")) == "slots"


def test_slots_that_are_not_there_gate_nothing(base: str, tmp_path: Path) -> None:
    adapters = str(with_gate(tmp_path / "adapters"))
    with Engine.open(model=base, adapters=adapters, compression=CompressionSettings(encode=False)) as engine:
        assert engine.gate_choice(RecallSettings()) == "similarity"
        with pytest.raises(InputError, match="a bank that keeps text only"):
            engine.gate(RecallSettings(gate="slots"))
    with (
        Engine.open(model=base, adapters="none") as engine,
        pytest.raises(InputError, match="no gate among the adapters"),
    ):
        engine.gate(RecallSettings(gate="slots"))


def test_a_bank_remembers_the_adapters_and_refuses_others(base: str, tmp_path: Path) -> None:
    first = str(trained(backbone(), ("compressor",), tmp_path / "first"))
    with Engine.open(tmp_path / "bank", model=base, adapters=first) as engine:
        engine.add([Document("a", TEXT)])
        made = engine.bank.digest()
    with Engine.open(tmp_path / "bank") as again:
        assert again.backbone.adapters == ("compressor",)
        assert again.bank.digest() == made
    with pytest.raises(BankMismatchError, match="weights"):
        Engine.open(tmp_path / "bank", adapters="none")


def test_a_bank_of_text_is_read_with_any_compressor(base: str, tmp_path: Path) -> None:
    text_only = CompressionSettings(encode=False)
    folder = str(trained(backbone(), ("compressor",), tmp_path / "adapters"))
    with Engine.open(tmp_path / "bank", model=base, adapters="none", compression=text_only) as engine:
        engine.add([Document("a", TEXT)])
        made = engine.bank.digest()
    with Engine.open(tmp_path / "bank", adapters=folder) as again:
        assert again.backbone.adapters == ("compressor",)
        assert again.bank.digest() == made
        assert again.form(RecallSettings()) == "raw"


def test_the_slots_of_an_engine_are_those_of_its_adapter(base: str, tmp_path: Path) -> None:
    folder = trained(backbone(), ("compressor",), tmp_path / "adapters")
    with Engine.open(model=base, adapters=str(folder)) as engine:
        engine.add([Document("a", TEXT)])
        chunk = engine.bank.index("default").chunks[0]
        slots = engine.bank.slots(chunk.chunk_id)
        ids = engine.backbone.encode(engine.bank.text(chunk.chunk_id))
        plain = Compressor(backbone(), CompressionSettings()).compress([ids])[0]
        load_adapters(adapted := backbone(), folder, "in_place")
        expected = Compressor(adapted, CompressionSettings()).compress([ids])[0]
    # The engine computes in the best precision there is, the reference in fp32.
    close = {"atol": 0.3, "rtol": 0.1}
    error = (slots.keys.float() - expected.keys).abs().mean()
    assert error < 0.1 * (slots.keys.float() - plain.keys).abs().mean()
    assert torch.isclose(slots.keys.float(), expected.keys, **close).float().mean() > 0.9


def test_the_card_says_what_the_adapters_fit(tmp_path: Path) -> None:
    model = backbone()
    trained(model, ("gate",), tmp_path, "inserted_copy")
    assert json.loads((tmp_path / CARD).read_text()) == {"base": model.base_fingerprint, "placement": "inserted_copy"}
