"""Slots in 8 bits: one scale for each channel of each head, over the slots of a chunk.

Scales are powers of two. That costs up to one of the eight bits, and makes the numbers read back exact in
bf16 and quantizing them again the identity: a chunk that is moved, copied or exported stays as it is to the bit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ModelError
from .kv_cache import Slots

_LARGEST = 127
_SMALLEST_EXPONENT = -126
"""Below it a scale is no normal number of bf16."""


@dataclass(frozen=True)
class Quantized:
    """Keys or values of a chunk."""

    values: Tensor
    """int8 [layers, kv_heads, slots, head_dim], from -127 to 127."""
    exponents: Tensor
    """int8 [layers, kv_heads, head_dim]: a channel's scale is two to the power of it."""

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.exponents.nbytes


def quantize(numbers: Tensor) -> Quantized:
    """Round ``numbers``, floats [layers, kv_heads, slots, head_dim], to 8 bits.

    Each channel's scale is the least power of two by which its largest number is at most 127.

    Raises:
        ModelError: a number is infinite or none.
    """
    exact = numbers.double()
    largest = exact.abs().amax(dim=2)
    if not bool(largest.isfinite().all()):
        raise ModelError(
            "slots hold numbers that are infinite or not a number, which 8 bits cannot: the model overflows in "
            f"{numbers.dtype}. Load it in float32, or keep slots in bf16"
        )
    # frexp gives the exponent exactly, where a logarithm may round.
    mantissa, exponents = torch.frexp(largest / _LARGEST)
    exponents = torch.where(mantissa == 0.5, exponents - 1, exponents)
    exponents = torch.where(largest == 0, _SMALLEST_EXPONENT, exponents).clamp(min=_SMALLEST_EXPONENT)
    values = torch.ldexp(exact, -exponents[:, :, None].double()).round().to(torch.int8)
    return Quantized(values, exponents.to(torch.int8))


def dequantize(quantized: Quantized) -> Tensor:
    """Return what :func:`quantize` kept, exactly: bf16 [layers, kv_heads, slots, head_dim]."""
    return torch.ldexp(quantized.values.float(), quantized.exponents[:, :, None].float()).to(torch.bfloat16)


def rounded(slots: Slots) -> Slots:
    """Return ``slots`` as they are read back after they were kept in 8 bits."""
    return Slots(dequantize(quantize(slots.keys)), dequantize(quantize(slots.values)), slots.positions, slots.span)
