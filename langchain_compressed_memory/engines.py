"""Engines that objects of this package share: one for a bank in a process, opened when it is first needed."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import core

if TYPE_CHECKING:
    from core import Engine

# Two writers of one process would else keep each other out, as two processes do.
_shared: "WeakValueDictionary[tuple[object, ...], Engine]" = WeakValueDictionary()
_sharing = threading.Lock()


class EngineHandle:
    """An engine that is opened when it is first asked for. Copies of a runnable hold the same one."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def opened(
        self,
        bank: Path | None,
        *,
        model: str | None,
        adapters: str | None,
        embedder: str | None,
        compression: core.CompressionSettings | None,
        create: bool,
    ) -> "core.Engine":
        """Return the engine; the arguments are those of :meth:`core.engine.Engine.open`."""
        with self._lock:
            if self._engine is None:
                key = (bank and bank.resolve(), model, adapters, embedder, compression)
                with _sharing:
                    found = _shared.get(key) if bank is not None else None
                    self._engine = found or core.Engine.open(
                        bank, model=model, adapters=adapters, embedder=embedder, compression=compression, create=create
                    )
                    if bank is not None:
                        _shared[key] = self._engine
            return self._engine
