"""Compressed memory for LangChain: :class:`CompressedMemory` is a runnable that answers from long texts.

What needs more of LangChain than its core is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .memory import CompressedMemory
from .retriever import CompressedMemoryRetriever

if TYPE_CHECKING:
    from .classic import CompressedConversationMemory
    from .history import CompressedChatMessageHistory
    from .middleware import CompressedMemoryMiddleware

__all__ = [
    "CompressedChatMessageHistory",
    "CompressedConversationMemory",
    "CompressedMemory",
    "CompressedMemoryMiddleware",
    "CompressedMemoryRetriever",
]

_HOMES = {
    "CompressedChatMessageHistory": "history",
    "CompressedConversationMemory": "classic",
    "CompressedMemoryMiddleware": "middleware",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
