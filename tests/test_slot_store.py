"""Shards: slots come back as they were written, and those that do not belong together are refused."""

from pathlib import Path

import pytest
import torch

from core.errors import BankError
from core.kv_cache import Slots
from core.slot_store import ShardedSlots

KEYS = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))


def slots(*shape: int, dtype: torch.dtype = torch.int32) -> Slots:
    return Slots(KEYS, -KEYS, torch.arange(5).expand(*shape).to(dtype).contiguous(), 9)


@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_one_set_of_positions_or_one_for_each_layer_is_read_back(shape: tuple[int, ...], tmp_path: Path) -> None:
    store = ShardedSlots(tmp_path)
    found = store.read("c", store.write({"c": slots(*shape)}, "bf16"))
    assert torch.equal(found.positions, slots(*shape).positions)
    assert torch.equal(found.keys, KEYS)
    assert (len(found), found.span) == (5, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        slots(2, 5),
        slots(3, 1, 5),
        Slots(KEYS, -KEYS, torch.arange(4, dtype=torch.int32), 9),
        Slots(KEYS, -KEYS, torch.zeros(3, 4, dtype=torch.int32), 9),
        slots(3, 5, dtype=torch.int64),
    ],
)
def test_positions_that_are_not_those_of_the_slots_are_damage(wrong: Slots, tmp_path: Path) -> None:
    store = ShardedSlots(tmp_path)
    with pytest.raises(BankError, match="shapes or types that do not belong together"):
        store.read("c", store.write({"c": wrong}, "bf16"))


def test_a_shard_that_goes_while_it_is_opened_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ShardedSlots(tmp_path)
    shard = store.write({"c": slots(5)}, "bf16")
    data, opened = (tmp_path / shard).read_bytes(), torch.UntypedStorage.from_file

    def gone(file: str, *arguments: object, **options: object) -> torch.UntypedStorage:
        Path(file).unlink()  # as a deletion beside it may do, between the two times that it is opened
        return opened(file, *arguments, **options)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", gone)
    with pytest.raises(BankError, match=shard):
        store.read("c", shard)
    (tmp_path / shard).write_bytes(data)
    with pytest.raises(BankError, match=shard):
        store.held(shard)
