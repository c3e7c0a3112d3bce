"""The selector's stage: what it takes for worth keeping, what it learns, and what use makes of it."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from core.adapters import NO_ADAPTERS, read_card
from core.engine import Engine
from core.errors import InputError, WeightsError
from core.ingest import Document
from core.selector import SELECTOR, load_selector, new_selector, save_selector
from core.settings import CompressionSettings, RecallSettings
from core.training import __main__ as command_line
from core.training.__main__ import prepare_adapters
from core.training.attention import attend_for_training, attention_received
from core.training.material import Material
from core.training.sample_data import write_sample
from core.training.selector import SelectorTraining, TextPiece, repeat_attention
from core.training.settings import TrainingSettings
from core.training.supervised import Supervised
from core.training.trainer import CHECKPOINT, METRICS, Finished, Trainer, accelerator

from .small_runs import backbone, material, model_folder, settings

TEXT_ONLY = CompressionSettings(placement="selected", encode=False)


def selector_settings(**changes: object) -> TrainingSettings:
    return settings(**{"stage": "selector", "placement": "selected", "learning_rate": 3e-3, **changes})


def stage_of(kind: type[SelectorTraining] = SelectorTraining, **changes: object) -> SelectorTraining:
    model = backbone()
    attend_for_training(model)
    return kind(model, selector_settings(**changes), material())


class InterruptedInStepOne(SelectorTraining):
    """Somebody presses Ctrl-C while the second step is on its way."""

    def work(self, step: int, process: int, processes: int) -> Sequence[TextPiece]:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super().work(step, process, processes)


def test_worth_is_the_largest_attention_of_a_second_reading() -> None:
    model, ids = backbone(), backbone().encode(material().pool[3].text)
    again = model.encode("\n\nRepeat the text above word for word:\n")
    plain = AutoModelForCausalLM.from_pretrained(model_folder(), attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        layers = plain(torch.tensor([[*ids, *again, *ids]]), output_attentions=True).attentions
    # 4 query heads share 2 key heads.
    weights = torch.stack([layer[0, :, len(ids) :, : len(ids)].reshape(2, 2, -1, len(ids)) for layer in layers])
    with torch.no_grad():
        found = repeat_attention(model, ids, model.prefill(torch.tensor([ids])))
    torch.testing.assert_close(found, weights.amax(dim=(2, 3)), rtol=1e-3, atol=1e-6)


def test_recording_ends_whatever_happens_and_the_model_attends_as_before() -> None:
    model = backbone()
    before = model.config._attn_implementation
    with attention_received(model, 4) as received:
        model.prefill(torch.tensor([[5, 6, 7, 8, 9]]))
    with pytest.raises(IndexError), attention_received(model, 4):
        model.prefill(torch.tensor([[10**6]]))  # no such token
    assert model.config._attn_implementation == before
    assert [tuple(layer.shape) for layer in received] == [(1, 2, 4), (1, 2, 4)]
    model.prefill(torch.tensor([[5, 6, 7]]))
    assert len(received) == 2


def test_what_a_selector_reads_and_is_to_say_has_mean_0_and_deviation_1() -> None:
    stage = stage_of()
    keys, values, _ = stage._encoded(stage.backbone.encode(stage._texts.text(0)))
    assert stage.selector.mean.abs().max() > 0
    assert stage.selector(keys, values).abs().max() < 10
    worth = stage._read(stage._texts.text(0)).worth[:, 4:]
    torch.testing.assert_close(worth.mean(dim=1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(worth.std(dim=1), torch.ones(2), atol=1e-4, rtol=0)


def test_a_few_steps_teach_it_what_to_keep(tmp_path: Path) -> None:
    stage = stage_of(steps=30, evaluate_every=100, save_every=100)
    assert {name for name, p in stage.named_parameters() if p.requires_grad} == {
        f"selector.{part}" for part in ("linear", "inner", "inner_bias", "outer", "outer_bias")
    }
    with torch.no_grad():
        before = stage.evaluate()
    Trainer(stage, stage.settings, tmp_path, accelerator()).run()
    with torch.no_grad():
        after = stage.evaluate()
    assert after["loss"] < 0.8 * before["loss"]
    assert after["correlation"] > before["correlation"] + 0.2
    assert after["overlap"] > before["overlap"]

    held, kept = load_selector(stage.backbone, tmp_path / "adapters"), stage.selector.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in held.state_dict().items())
    assert read_card(tmp_path / "adapters").placement == "selected"


def test_a_run_that_was_interrupted_and_resumed_is_the_run_that_was_not(tmp_path: Path) -> None:
    def run(out: Path, kind: type[SelectorTraining] = SelectorTraining, *, resume: bool = False) -> Finished:
        stage = stage_of(kind, seed=2)
        return Trainer(stage, stage.settings, out, accelerator()).run(resume=resume)

    assert run(tmp_path / "whole").step == 4
    assert run(tmp_path / "parts", InterruptedInStepOne).step == 2
    assert run(tmp_path / "parts", resume=True).step == 4
    for file in (CHECKPOINT, Path("adapters") / SELECTOR):
        ours, theirs = load_file(tmp_path / "parts" / file), load_file(tmp_path / "whole" / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), file
    records = [
        [
            {name: value for name, value in json.loads(line).items() if name != "seconds"}
            for line in (tmp_path / run / METRICS).read_text().splitlines()
        ]
        for run in ("parts", "whole")
    ]
    assert records[0] == records[1]


def test_processes_share_a_step() -> None:
    stage = stage_of(batch=4)
    whole = stage.work(3, 0, 1)
    shared = [stage.work(3, process, 2) for process in (0, 1)]
    assert [shared[i % 2][i // 2] for i in range(4)] == list(whole)
    assert {piece.in_step for piece in whole} == {4}
    assert list(whole) != list(stage.work(4, 0, 1))
    assert list(whole) == list(stage_of(batch=4).work(3, 0, 1))


def test_a_selector_among_the_adapters_is_trained_further(tmp_path: Path) -> None:
    model, made = backbone(), new_selector(backbone(), seed=7)
    made.mean.fill_(0.25)
    save_selector(made, tmp_path)
    stage = SelectorTraining(model, selector_settings(), material(), tmp_path)
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in stage.selector.state_dict().items())
    assert all(parameter.requires_grad for parameter in stage.selector.parameters())


def test_a_selector_needs_a_pool() -> None:
    poor = Material(material().train, material().held_out, ())
    with pytest.raises(InputError, match=r"0 pool paragraphs, .* train no selector"):
        SelectorTraining(backbone(), selector_settings(), poor)


# ---- use in training and after it ----


def supervised(**changes: object) -> Supervised:
    chosen = settings(placement="selected", **changes)
    model = backbone()
    torch.manual_seed(0)
    prepare_adapters(model, ("compressor", "reasoner"), chosen, NO_ADAPTERS)
    return Supervised(model, chosen, material())


def test_the_loss_reaches_the_compressor_through_the_tokens_that_were_chosen(tmp_path: Path) -> None:
    stage = supervised()
    with pytest.raises(WeightsError, match="--stage selector"):
        stage(stage.work(0, 0, 1)[0])
    save_selector(new_selector(stage.backbone), tmp_path / "start")
    stage.compressor.load_weights(tmp_path / "start")
    trained = {name for name, p in stage.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    sum(stage(piece)[0] for piece in stage.work(0, 0, 1)).backward()  # type: ignore[union-attr]
    assert any(p.grad is not None and p.grad.any() for p in stage.backbone.adapter_parameters("compressor"))
    stage.save(tmp_path / "out")  # for the stage that comes next
    assert (tmp_path / "out" / SELECTOR).read_bytes() == (tmp_path / "start" / SELECTOR).read_bytes()


def test_all_stages_begin_with_the_selector_where_tokens_are_selected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stages(*options: str) -> list[tuple[str, str, str | None]]:
        ran = list[tuple[str, str, str | None]]()

        def record(settings: TrainingSettings, out: Path, adapters: Path | None, *_: object, **__: object) -> Finished:
            ran.append((settings.stage, settings.placement, adapters and adapters.parent.name))
            return Finished(settings.steps, settings.steps, interrupted=False)

        monkeypatch.setattr(command_line, "_run", record)
        command(monkeypatch, "--data", tmp_path / "data", "--out", tmp_path / "run", *options)
        return ran

    write_sample(tmp_path / "data")
    every = ["reasoner", "compressor", "rl", "gate", "evidence", "extractor"]
    assert [stage for stage, _, _ in stages("--stage", "all")] == every
    selected = stages("--stage", "all", "--placement", "selected")
    assert selected[:2] == [("selector", "selected", None), ("reasoner", "selected", "selector")]
    assert [stage for stage, _, _ in selected[2:]] == every[1:]
    assert stages("--stage", "selector") == [("selector", "selected", None)]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["core.training", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert not ended.value.code


def test_the_command_trains_a_selector_that_a_bank_is_made_and_read_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_sample(tmp_path / "data")
    adapters, model = tmp_path / "run" / "adapters", model_folder()
    options = ("--data", tmp_path / "data", "--model", model, "--steps", 1, "--batch", 1, "--rank", 2)
    command(monkeypatch, "--stage", "selector", "--out", tmp_path / "run", *options)
    assert [path.name for path in (adapters / "compressor").iterdir()] == [SELECTOR.name]

    text = material().pool[3].text
    for kind in ("bf16", "int8"):
        chosen = CompressionSettings(placement="selected", chunk_tokens=64, slots=kind)
        with Engine.open(tmp_path / kind, model=model, adapters=str(adapters), compression=chosen) as engine:
            engine.add([Document("a", text)])
            assert engine.form(RecallSettings()) == "raw"  # a selector is no adapter
            digest = engine.bank.digest()
        with Engine.open(tmp_path / kind) as again:
            assert again.bank.digest() == digest
            chunk = again.bank.index("default").chunks[0]
            slots = again.bank.slots(chunk.chunk_id)
            (expected,) = again.compressor.compress([again.backbone.encode(again.bank.text(chunk.chunk_id))])
            assert slots.positions.tolist() == expected.positions.tolist()
            assert slots.positions.shape == (2, len(slots))
            assert again.ask("What is this?", settings=RecallSettings(form="compressed", threshold=0)).steps
    with pytest.raises(WeightsError, match=r"adapters that hold one.*--stage selector.*placement='in_place'"):
        Engine.open(model=model, adapters="none", compression=CompressionSettings(placement="selected"))
    with Engine.open(model=model, adapters="none", compression=TEXT_ONLY) as text_only:
        text_only.add([Document("a", text)])

    command(
        monkeypatch,
        *("--stage", "compressor", "--placement", "selected", "--out", tmp_path / "next", "--adapters", adapters),
        *options,
    )
    assert (tmp_path / "next" / "adapters" / SELECTOR).read_bytes() == (adapters / SELECTOR).read_bytes()
    with Engine.open(model=model, adapters=str(tmp_path / "next" / "adapters"), compression=chosen) as engine:
        assert engine.form(RecallSettings()) == "compressed"
        assert engine.compressor.selector is not None
