"""Averages adapters, role by role: ``python -m core.training.average START TRAINED --out FOLDER``.

What reinforcement learning gains in one respect it pays for in another; between the weights that it started from and
those that it came to there often lie better ones than at either end (WiSE-FT, arXiv 2109.01903; for rewards WARP,
arXiv 2406.16768). Runs from one start that differ by their seed can be averaged too (model soups, arXiv
2203.05482), and need not wait for each other.
"""

import argparse
import shutil
import sys
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..adapters import holds_adapter, read_card
from ..backbone import ROLES
from ..embedder_head import HEAD, embedder_of
from ..errors import CompressedMemoryError, InputError, WeightsError
from ..evidence import Tagger
from ..extraction import Extractor
from ..query_encoder import WEIGHTS


def average(start: Path, trained: Path, out: Path, share: float = 0.5) -> None:
    """Write ``trained`` into ``out``, its adapters and heads of the embedder averaged with those of ``start``.

    What one of them lacks is as ``trained`` has it.

    Args:
        start: adapters that the training of ``trained`` started from, or that another one came to from there.
        share: of ``trained``, from 0 to 1; the rest is of ``start``.
        out: must not be there yet.

    Raises:
        InputError: ``share`` is no share, or ``out`` is there.
        WeightsError: the folders have no role or head in common, or are of different models, placements or shapes.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share={share}: give a share of the trained weights from 0 to 1")
    if out.exists():
        raise InputError(f"{out} is there already: give another --out")
    cards = [read_card(folder) for folder in (start, trained)]
    if cards[0].base != cards[1].base:
        raise WeightsError(
            f"{start} is for weights {cards[0].base}, {trained} for {cards[1].base}: they have no average"
        )
    roles = [role for role in ROLES if holds_adapter(start / role) and holds_adapter(trained / role)]
    fitted = [
        (kind, embedder_of(kind, start / kind.kind), embedder_of(kind, trained / kind.kind))
        for kind in (Tagger, Extractor)
    ]
    heads = [kind.kind for kind, first, second in fitted if first and second]
    if not roles and not heads:
        raise WeightsError(f"{start} and {trained} hold adapters of no role that both have: they have no average")
    for kind, first, second in fitted:
        if first and second and first != second:
            raise WeightsError(
                f"the {kind.noun} of {start} is for {first}, that of {trained} for {second}: they have no average"
            )
    if "compressor" in roles and cards[0].placement != cards[1].placement:
        raise WeightsError(
            f"{start} is for slots {cards[0].placement}, {trained} for {cards[1].placement}: they have no average"
        )
    files = [f"{name}/{WEIGHTS}" for name in (*roles, *heads)] + [f"{name}/{HEAD}" for name in heads]
    mixed = {file: _mixed(start / file, trained / file, share) for file in files}
    scratch = out.with_name(f"{out.name}.tmp")  # so that ``out`` is there whole or not at all
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(trained, scratch)
    for file, tensors in mixed.items():
        save_file(tensors, scratch / file, {"format": "pt"})
    scratch.rename(out)


def _mixed(start: Path, trained: Path, share: float) -> dict[str, Tensor]:
    first, second = _read(start), _read(trained)
    shapes = [{name: tuple(tensor.shape) for name, tensor in held.items()} for held in (first, second)]
    if shapes[0] != shapes[1]:
        raise WeightsError(f"{start} and {trained} differ in shape: they have no average")
    return {
        name: ((1 - share) * first[name].float() + share * tensor.float()).to(tensor.dtype)
        for name, tensor in second.items()
    }


def _read(file: Path) -> dict[str, Tensor]:
    try:
        held: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file} cannot be read: {error}") from error
    return held


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m core.training.average", description="Average adapters, role by role."
    )
    parser.add_argument("start", type=Path, help="Adapters that the training started from.")
    parser.add_argument("trained", type=Path, help="Those that it came to.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to write.")
    parser.add_argument("--share", type=float, default=0.5, help="Of the trained weights. [default: 0.5]")
    given = parser.parse_args(arguments)
    try:
        average(given.start, given.trained, given.out, given.share)
    except CompressedMemoryError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
