"""Between two reasoners: what is written, and what has no average."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.adapters import load_adapters, save_adapters
from core.backbone import Role
from core.embedder import Embedder
from core.embedder_head import new_head, save_head
from core.extraction import Extractor
from core.settings import Placement
from core.training.average import main
from core.weights import DEFAULT_EMBEDDER

from ...tiny_models import backbone, randomize_adapter

WEIGHTS = "reasoner/adapter_model.safetensors"


def made(
    folder: Path,
    seed: int,
    rank: int = 4,
    kind: str = "llama",
    roles: tuple[Role, ...] = ("reasoner",),
    placement: Placement = "in_place",
) -> Path:
    model = backbone(kind)
    for role in roles:
        model.add_adapter(role, rank=rank, alpha=8)
        randomize_adapter(model, role, seed)
    save_adapters(model, roles, folder, placement)
    return folder


def test_the_average_lies_between_and_is_loaded_as_adapters_are(tmp_path: Path) -> None:
    start, trained = made(tmp_path / "start", 1), made(tmp_path / "trained", 2)
    (trained / "evidence").mkdir()
    (trained / "evidence" / "head.safetensors").write_bytes(b"what lies beside it")
    assert main([str(start), str(trained), "--out", str(tmp_path / "out"), "--share", "0.25"]) == 0
    one, other, found = (load_file(folder / WEIGHTS) for folder in (start, trained, tmp_path / "out"))
    assert found.keys() == one.keys()
    for name, tensor in found.items():
        expected = (0.75 * one[name].float() + 0.25 * other[name].float()).to(tensor.dtype)
        assert torch.equal(tensor, expected)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "out" / "evidence" / "head.safetensors").read_bytes() == b"what lies beside it"
    load_adapters(backbone(), tmp_path / "out", "in_place")


def test_each_role_that_both_have_is_averaged_and_another_is_as_the_trained_one_has_it(tmp_path: Path) -> None:
    start = made(tmp_path / "start", 1, roles=("compressor", "reasoner"))
    trained = made(tmp_path / "trained", 2, roles=("compressor", "gate"))
    assert main([str(start), str(trained), "--out", str(tmp_path / "out")]) == 0
    found = {p.parent.name: load_file(p) for p in (tmp_path / "out").glob("*/adapter_model.safetensors")}
    assert set(found) == {"compressor", "gate"}
    one, other = (load_file(folder / "compressor/adapter_model.safetensors") for folder in (start, trained))
    for name, tensor in found["compressor"].items():
        assert torch.equal(tensor, (0.5 * one[name].float() + 0.5 * other[name].float()).to(tensor.dtype))
    gate = load_file(trained / "gate/adapter_model.safetensors")
    assert all(torch.equal(tensor, gate[name]) for name, tensor in found["gate"].items())


def with_head(folder: Path, embedder: Embedder, seed: int, name: str = DEFAULT_EMBEDDER) -> None:
    torch.manual_seed(seed)
    head = new_head(Extractor, embedder.model, rank=2)
    for parameter in head.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    save_head(head, name, folder)


def test_heads_of_the_embedder_are_averaged_too(tmp_path: Path, embedder: Embedder) -> None:
    start, trained, out = made(tmp_path / "start", 1), made(tmp_path / "trained", 2), tmp_path / "out"
    for seed, folder in enumerate((start, trained)):
        with_head(folder, embedder, seed)
    assert main([str(start), str(trained), "--out", str(out), "--share", "0.25"]) == 0
    for file in (WEIGHTS, "extractor/adapter_model.safetensors", "extractor/head.safetensors"):
        one, other, found = (load_file(folder / file) for folder in (start, trained, out))
        assert found.keys() == one.keys()
        for name, tensor in found.items():
            assert torch.equal(tensor, (0.75 * one[name].float() + 0.25 * other[name].float()).to(tensor.dtype))
            assert not torch.equal(tensor, other[name])
    assert Embedder(device="cpu", extractor=out / "extractor").extract("Who?", ["Ann."]) is not None


def test_heads_of_different_embedders_have_no_average(
    tmp_path: Path, embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    start, trained, out = made(tmp_path / "start", 1), made(tmp_path / "trained", 2), tmp_path / "out"
    with_head(start, embedder, 0)
    with_head(trained, embedder, 1, name="another")
    assert main([str(start), str(trained), "--out", str(out)]) == 2
    assert "the extractor of " in (said := capsys.readouterr().err)
    assert "is for all-MiniLM-L6-v2, that of" in said
    assert "for another: they have no average" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("other", "more", "said"),
    [
        ({"rank": 2}, (), "differ in shape"),
        ({"kind": "qwen2"}, (), "they have no average"),
        ({"roles": ("gate",)}, (), "no role that both have"),
        (
            {"roles": ("reasoner", "compressor"), "placement": "inserted"},
            (),
            "for inserted: they have no average",
        ),
        ({}, ("--share", "1.5"), "share=1.5: give a share of the trained weights from 0 to 1"),
    ],
)
def test_what_has_no_average_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict, more: tuple[str, ...], said: str
) -> None:
    start = made(tmp_path / "start", 1, roles=("reasoner", "compressor") if "placement" in other else ("reasoner",))
    trained = made(tmp_path / "trained", 2, **other)
    assert main([str(start), str(trained), "--out", str(tmp_path / "out"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start, trained = made(tmp_path / "start", 1), made(tmp_path / "trained", 2)
    before = (start / WEIGHTS).read_bytes()
    assert main([str(start), str(trained), "--out", str(start)]) == 2
    assert "is there already: give another --out" in capsys.readouterr().err
    assert (start / WEIGHTS).read_bytes() == before


def test_a_folder_without_a_reasoner_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start, trained = made(tmp_path / "start", 1), made(tmp_path / "trained", 2)
    (start / WEIGHTS).unlink()
    assert main([str(start), str(trained), "--out", str(tmp_path / "out")]) == 2
    assert "cannot be read" in capsys.readouterr().err
