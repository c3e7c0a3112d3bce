"""Where slots are kept: in a dictionary, or in safetensors shards, one for each commit of the bank.

A chunk is three tensors, keys, values and positions; in 8 bits keys and values are int8, each beside its exponents.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .bank_files import kind_of
from .errors import BankError
from .kv_cache import Slots
from .quantization import Quantized, dequantize, quantize
from .settings import SlotType

SHARD_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")


def _parts(slots: Slots, kept_as: SlotType) -> dict[str, Tensor]:
    if kept_as == "bf16":
        return {"keys": slots.keys, "values": slots.values, "positions": slots.positions}
    keys, values = quantize(slots.keys), quantize(slots.values)
    return {
        "keys": keys.values,
        "keys.exponents": keys.exponents,
        "values": values.values,
        "values.exponents": values.exponents,
        "positions": slots.positions,
    }


def _slots(part: Callable[[str], Tensor], span: int) -> Slots:
    def numbers(name: str) -> Tensor:
        tensor = part(name)
        if tensor.dtype != torch.int8:
            return tensor
        exponents = part(f"{name}.exponents")
        if exponents.dtype != torch.int8 or exponents.shape != (*tensor.shape[:2], *tensor.shape[3:]):
            raise ValueError(f"the exponents of {name} are {exponents.dtype} {tuple(exponents.shape)}")
        return dequantize(Quantized(tensor, exponents))

    return Slots(numbers("keys"), numbers("values"), part("positions"), span)


def kept_bytes(slots: Slots, kept_as: SlotType) -> int:
    """Return how many bytes ``slots`` take where they are kept."""
    if kept_as == "bf16":
        return slots.nbytes
    channels = slots.keys.shape[:2].numel() * slots.keys.shape[-1]
    return slots.keys.numel() + slots.values.numel() + 2 * channels + slots.positions.nbytes


class MemorySlots:
    """Slots in this process's memory."""

    def __init__(self) -> None:
        self._slots: dict[str, tuple[dict[str, Tensor], int]] = {}

    def write(self, slots: Mapping[str, Slots], kept_as: SlotType) -> str:
        """Keep ``slots`` by chunk id; there is no shard to name."""
        self._slots.update({chunk_id: (_parts(s, kept_as), s.span) for chunk_id, s in slots.items()})
        return ""

    def read(self, chunk_id: str, shard: str) -> Slots:  # noqa: ARG002 - one interface with ShardedSlots
        """Return a chunk's slots.

        Raises:
            BankError: they were removed a moment ago.
        """
        if (kept := self._slots.get(chunk_id)) is None:
            raise BankError(f"chunk {chunk_id} is not in the bank: its document was deleted or replaced; ask again")
        return _slots(kept[0].__getitem__, kept[1])

    def held(self, shard: str) -> set[str]:  # noqa: ARG002
        """Return the chunks whose slots are kept."""
        return set(self._slots)

    def digest(self, shard: str) -> str:  # noqa: ARG002
        """Return nothing: memory has no files to check."""
        return ""

    def keep_only(self, chunk_ids: Collection[str], shards: Collection[str]) -> None:  # noqa: ARG002
        """Forget every chunk that is not named."""
        self._slots = {c: s for c, s in self._slots.items() if c in chunk_ids}


class ShardedSlots:
    """Slots in files of a directory. A file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, slots: Mapping[str, Slots], kept_as: SlotType) -> str:
        """Write one shard and return its name, once it is safe on disk.

        Raises:
            OSError, SafetensorError: the disk refused; nothing is left behind.
            ModelError: a number cannot be kept in 8 bits.
        """
        if not slots:
            return ""
        name = hashlib.sha256("".join(slots).encode()).hexdigest()[:32] + ".safetensors"
        tensors = {f"{c}.{n}": part.contiguous() for c, s in slots.items() for n, part in _parts(s, kept_as).items()}
        target = self._folder / name
        scratch = target.with_suffix(".tmp")
        try:
            save_file(tensors, scratch, metadata={c: str(s.span) for c, s in slots.items()})
            sync(scratch)
            os.replace(scratch, target)
            sync(self._folder)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        return name

    def read(self, chunk_id: str, shard: str) -> Slots:
        """Return a chunk's slots; only they are read from the shard.

        Raises:
            BankError: the shard is missing or damaged.
        """
        file = self._file(shard)
        try:
            with safe_open(file, framework="pt") as tensors:
                slots = _slots(lambda part: tensors.get_tensor(f"{chunk_id}.{part}"), int(tensors.metadata()[chunk_id]))
        # RuntimeError: torch opens the file once more, and a deletion beside it may have removed it in between.
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise _damaged(file, error) from error
        if not _consistent(slots):
            raise _damaged(file, f"the slots of chunk {chunk_id} have shapes or types that do not belong together")
        return slots

    def held(self, shard: str) -> set[str]:
        """Return the chunks whose slots are in ``shard``, by its header alone.

        Raises:
            BankError: the shard is missing or damaged.
        """
        file = self._file(shard)
        try:
            with safe_open(file, framework="pt") as tensors:
                return set(tensors.metadata() or ())
        except (OSError, SafetensorError, RuntimeError) as error:
            raise _damaged(file, error) from error

    def digest(self, shard: str) -> str:
        """Return the SHA-256 of a shard's bytes, nothing where there is no such file.

        Raises:
            BankError: the name is none that a shard can have, or what has it is no file.
        """
        file = self._file(shard)
        if not file.exists():
            return ""
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _file(self, shard: str) -> Path:
        # A catalogue of other hands could name any file of this machine.
        if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
            raise BankError(f"the bank at {self._folder.parent} is damaged: {shard!r} is no name of a shard")
        file = self._folder / shard
        if (kind := kind_of(file)) not in (None, "file"):
            raise _damaged(file, f"it is a {kind}")
        return file

    def keep_only(self, chunk_ids: Collection[str], shards: Collection[str]) -> None:  # noqa: ARG002
        """Remove every shard that is not named: what an interrupted write or a deletion left behind."""
        # A folder is never a bank's own, and not the bank's to empty.
        unnamed = [file for file in self._folder.iterdir() if file.name not in shards and kind_of(file) != "folder"]
        for file in unnamed:
            file.unlink()
        if unnamed:
            sync(self._folder)  # or a power cut could bring them back


def _consistent(slots: Slots) -> bool:
    keys, values, positions = slots.keys, slots.values, slots.positions
    return (
        keys.dim() == 4
        and keys.shape == values.shape
        and positions.shape in (keys.shape[2:3], keys.shape[0:3:2])  # [slots] or [layers, slots]
        and keys.dtype == values.dtype
        and keys.dtype.is_floating_point
        and positions.dtype == torch.int32
        and slots.span > 0
    )


def _damaged(file: Path, error: object) -> BankError:
    return BankError(f"shard {file} is missing or damaged ({error}): run 'compressed-memory repair --bank DIR'")


def sync(path: Path) -> None:
    """Return once a file's bytes, or a folder's names, are safe on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
