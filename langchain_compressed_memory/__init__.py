"""Compressed memory for LangChain: :class:`CompressedMemory` is a runnable that answers from long texts."""

from .memory import CompressedMemory

__all__ = ["CompressedMemory"]
