"""Eight bits: how far off a number may be, and that a second rounding changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.bank_copy import copy_bank
from core.errors import BankError, ModelError
from core.kv_cache import Slots
from core.memory_bank import MemoryBank
from core.quantization import Quantized, dequantize, quantize, rounded
from core.slot_store import ShardedSlots, kept_bytes

from .test_memory_bank import FINGERPRINT, encoded, record

INT8 = FINGERPRINT.model_copy(update={"slots": "int8"})


def numbers(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return channels of very different size, one of them empty."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.exp2(torch.randint(-140, 100, (3, 2, 1, 16), generator=random).float())
    made = torch.randn(3, 2, 40, 16, generator=random) * sizes
    made[0, 0, :, 0] = 0
    made[0, 1, :, 1] = torch.linspace(-127, 127, 40)
    return made.to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_number_is_off_by_half_a_step_of_its_channel_at_most(dtype: torch.dtype) -> None:
    exact = numbers(dtype=dtype)
    kept = quantize(exact)
    steps = torch.exp2(kept.exponents.double())[:, :, None]
    assert ((dequantize(kept).double() - exact.double()).abs() <= steps / 2 + steps * 2**-9).all()
    ordinary = exact.abs().amax(dim=2) > 2.0**-110
    assert (kept.values.abs().amax(dim=2)[ordinary] >= 64).all()  # no finer step would do
    assert kept.exponents[0, 1, 1] == 0


def test_rounding_again_is_the_identity() -> None:
    once = quantize(numbers())
    again = quantize(dequantize(once))
    assert torch.equal(once.values, again.values)
    assert torch.equal(once.exponents, again.exponents)


def test_what_8_bits_cannot_hold_is_refused() -> None:
    broken = numbers()
    broken[0, 0, 0, 0] = float("inf")
    with pytest.raises(ModelError, match="infinite or not a number"):
        quantize(broken)


def test_a_chunk_of_a_bank_in_int8_reads_as_it_was_rounded_wherever_it_is(tmp_path: Path) -> None:
    bank = MemoryBank(INT8, tmp_path / "bank")
    chunks = [encoded(f"text {seed}", seed=seed, slots=40) for seed in range(3)]
    bank.commit("a", chunks, [record("kept", *chunks[:2]), record("gone", chunks[2])])
    before = bank.slots(chunks[0].chunk_id)
    assert chunks[0].slots is not None
    expected = rounded(chunks[0].slots)
    assert torch.equal(before.keys, expected.keys)
    assert torch.equal(before.values, expected.values)
    assert before.keys.dtype == torch.bfloat16
    assert not torch.equal(before.keys, chunks[0].slots.keys)
    in_memory = MemoryBank(INT8)
    in_memory.commit("a", chunks, [record("kept", *chunks[:2]), record("gone", chunks[2])])
    assert in_memory.digest() == bank.digest()
    bank.delete("a", ["gone"])  # the shard is written anew
    copy_bank(bank, tmp_path / "copy")
    copy = MemoryBank(path=tmp_path / "copy")
    assert copy.fingerprint.slots == "int8"
    assert copy.digest() == bank.digest()
    assert torch.equal(copy.slots(chunks[0].chunk_id).keys, before.keys)


def test_a_bank_in_int8_says_the_bytes_that_it_takes(tmp_path: Path) -> None:
    chunk = encoded("text", slots=400)
    assert chunk.slots is not None
    sizes = []
    for fingerprint in (FINGERPRINT, INT8):
        bank = MemoryBank(fingerprint, tmp_path / fingerprint.slots)
        bank.commit("a", [chunk], [record("d", chunk)])
        (summary,) = bank.summaries()
        (shard,) = (tmp_path / fingerprint.slots / "slots").iterdir()
        assert summary.bytes == kept_bytes(chunk.slots, fingerprint.slots)
        assert 0 < shard.stat().st_size - summary.bytes < 1000  # the header
        sizes.append(summary.bytes)
    assert sizes[1] < 0.56 * sizes[0]


def test_exponents_that_do_not_fit_are_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(exact: Tensor) -> Quantized:
        kept = quantize(exact)
        return Quantized(kept.values, kept.exponents[:1])

    monkeypatch.setattr("core.slot_store.quantize", cut)
    slots = Slots(numbers(), numbers(1), torch.arange(40, dtype=torch.int32), 40)
    store = ShardedSlots(tmp_path)
    shard = store.write({"c": slots}, "int8")
    with pytest.raises(BankError, match="missing or damaged"):
        store.read("c", shard)
