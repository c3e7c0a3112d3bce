"""Compressed memory: long text in, answers with sources out. The framework packages and the command line stand on this.

Names are loaded when they are first used, so that importing a framework package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Engine, OpenedChunk
    from .errors import CompressedMemoryError, InputError
    from .gate import Scored
    from .generation import Prompt, Reply, Writer
    from .ingest import Document, IngestReport, Progress
    from .memory_bank import DocumentRecord
    from .prompts import Instructions
    from .recall import Answer, Began, Ended, Event, Opened, Step, Written
    from .settings import DEFAULT_NAMESPACE, CompressionSettings, RecallSettings
    from .trace import Trace
    from .working_memory import Note

_HOMES = {
    "DEFAULT_NAMESPACE": "settings",
    "Engine": "engine",
    "OpenedChunk": "engine",
    "CompressedMemoryError": "errors",
    "Document": "ingest",
    "DocumentRecord": "memory_bank",
    "IngestReport": "ingest",
    "InputError": "errors",
    "Progress": "ingest",
    "Instructions": "prompts",
    "Scored": "gate",
    "Prompt": "generation",
    "Reply": "generation",
    "Writer": "generation",
    "Answer": "recall",
    "Began": "recall",
    "Ended": "recall",
    "Event": "recall",
    "Opened": "recall",
    "Step": "recall",
    "Written": "recall",
    "CompressionSettings": "settings",
    "RecallSettings": "settings",
    "Trace": "trace",
    "Note": "working_memory",
}

__all__ = [
    "DEFAULT_NAMESPACE",
    "Answer",
    "Began",
    "CompressedMemoryError",
    "CompressionSettings",
    "Document",
    "DocumentRecord",
    "Ended",
    "Engine",
    "Event",
    "IngestReport",
    "InputError",
    "Instructions",
    "Note",
    "Opened",
    "OpenedChunk",
    "Progress",
    "Prompt",
    "RecallSettings",
    "Reply",
    "Scored",
    "Step",
    "Trace",
    "Writer",
    "Written",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
