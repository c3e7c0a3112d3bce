"""Averages two reasoners' adapters: ``python -m core.training.average START TRAINED --out FOLDER``.

What reinforcement learning gains in one respect it pays for in another; between the weights that it started from and
those that it came to there often lie better ones than at either end (WiSE-FT, arXiv 2109.01903; for rewards WARP,
arXiv 2406.16768).
"""

import argparse
import shutil
import sys
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..adapters import read_card
from ..errors import CompressedMemoryError, InputError, WeightsError

_WEIGHTS = Path("reasoner", "adapter_model.safetensors")


def average(start: Path, trained: Path, out: Path, share: float = 0.5) -> None:
    """Write ``trained`` into ``out`` with its reasoner's weights averaged with those of ``start``.

    Args:
        start: adapters that the training of ``trained`` started from.
        share: of ``trained``, from 0 to 1; the rest is of ``start``.
        out: must not be there yet.

    Raises:
        InputError: ``share`` is no share, or ``out`` is there.
        WeightsError: one of the folders has no reasoner, or they are of different models or shapes.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share={share}: give a share of the trained weights from 0 to 1")
    if out.exists():
        raise InputError(f"{out} is there already: give another --out")
    bases = [read_card(folder).base for folder in (start, trained)]
    if bases[0] != bases[1]:
        raise WeightsError(f"{start} is for weights {bases[0]}, {trained} for {bases[1]}: they have no average")
    first, second = _read(start / _WEIGHTS), _read(trained / _WEIGHTS)
    shapes = [{name: tuple(tensor.shape) for name, tensor in held.items()} for held in (first, second)]
    if shapes[0] != shapes[1]:
        raise WeightsError(f"the reasoners of {start} and {trained} differ in shape: they have no average")
    mixed = {
        name: ((1 - share) * first[name].float() + share * tensor.float()).to(tensor.dtype)
        for name, tensor in second.items()
    }
    scratch = out.with_name(f"{out.name}.tmp")  # so that ``out`` is there whole or not at all
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(trained, scratch)
    save_file(mixed, scratch / _WEIGHTS, {"format": "pt"})
    scratch.rename(out)


def _read(file: Path) -> dict:  # type: ignore[type-arg]
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file} cannot be read: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m core.training.average", description="Average two reasoners.")
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
