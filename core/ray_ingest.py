"""Takes files in on the machines of a Ray cluster, or on several processes of this one, through Ray Data."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from .adapters import DEFAULT_ADAPTERS, NO_ADAPTERS
from .distributed_ingest import CutDocument, Part, PlacedChunk, cut, encode_part, ingest_distributed
from .engine import Engine
from .errors import CompressedMemoryError, ExtraMissingError, InputError, WorkerError
from .ingest import IngestReport, Progress
from .readers import SourceFile
from .settings import DEFAULT_NAMESPACE, CompressionSettings
from .weights import DEFAULT_EMBEDDER, DEFAULT_MODEL

_CHUNKS = TypeAdapter(list[PlacedChunk])
_OBJECT_STORE_BYTES = 128 << 20
"""Of a cluster that is started here: rows name files and folders and hold no text."""
_CPUS_PER_WORKER = 4
_RETRIES = 3
"""Of work whose process ended: a lost machine is one thing, a part that no memory holds another."""


def ingest_on_ray(
    engine: Engine,
    files: Sequence[SourceFile],
    namespace: str = DEFAULT_NAMESPACE,
    *,
    workers: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> IngestReport:
    """Take files in with ``workers`` processes, each with the model, on the cluster of ``$RAY_ADDRESS`` or here.

    Where the cluster has GPUs a worker has one of them; else its share of the CPUs.

    Args:
        engine: over a bank in a directory; workers open the same model, adapters and embedder by the same names.
        workers: ``None``: one for each GPU, else one for four CPUs.

    Raises:
        ExtraMissingError: Ray is not installed.
        InputError: ``workers`` is not positive.
        WorkerError: a worker failed; run it again and it goes on.
        CompressedMemoryError: otherwise, see :func:`core.distributed_ingest.ingest_distributed`.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: give one or more")
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        _start(ray, workers)
    try:
        cluster = _Cluster(engine, namespace, workers)
        device = "cuda" if cluster.gpus else "cpu"
        return ingest_distributed(
            engine, files, namespace, cluster.cut_all, cluster.encode_all, device=device, progress=progress
        )
    except ray.exceptions.RayError as error:
        raise WorkerError(f"a Ray worker failed: {str(error).strip().splitlines()[-1]}. Run it again") from error
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:  # noqa: ANN401 - an optional library
    # Before the import, and for all that it starts: nothing of this is anyone else's to know.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")  # errors are raised, in a line
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise ExtraMissingError("--engine ray needs: pip install 'compressed-memory[ray]'") from error
    return ray


def _start(ray: Any, workers: int | None) -> None:  # noqa: ANN401
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return
    ray.init(
        address="local",
        num_cpus=max(workers or 1, os.cpu_count() or 1),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )


class _Cluster:
    """Ray Data over the cluster that this process is connected to."""

    def __init__(self, engine: Engine, namespace: str, workers: int | None) -> None:
        ray = _ray()
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 1)), int(there.get("GPU", 0))
        self._workers = workers or gpus or max(1, cpus // _CPUS_PER_WORKER)
        self.gpus = int(gpus >= self._workers)
        """Of a worker."""
        self._cpus = max(1, cpus // self._workers)
        fingerprint = engine.bank.fingerprint
        self._made = {
            "namespace": namespace,
            "model": _portable(fingerprint.model),
            "adapters": _portable(fingerprint.adapters),
            "embedder": _portable(fingerprint.embedder),
            "compression": engine.compressor.settings.model_dump_json(),
        }
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False

    def cut_all(self, files: Sequence[SourceFile]) -> Iterator[CutDocument]:
        rows = [{"document_id": file.document_id, "path": str(file.path.absolute())} for file in files]
        for row in self._mapped(rows, _cut_row, min(len(rows), 8 * self._workers), num_cpus=1, max_retries=_RETRIES):
            yield CutDocument.model_validate_json(row["cut"])

    def encode_all(self, parts: Sequence[tuple[Part, Path]]) -> Iterator[Path]:
        rows = [{"chunks": _CHUNKS.dump_json(part.chunks).decode(), "folder": str(at)} for part, at in parts]
        workers = (1, min(self._workers, len(rows)))
        for row in self._mapped(
            rows,
            _Encoder,
            len(rows),
            concurrency=workers,
            num_cpus=self._cpus,
            num_gpus=self.gpus or None,
            max_restarts=_RETRIES,
            max_task_retries=_RETRIES,
        ):
            yield Path(row["folder"])

    def _mapped(
        self,
        rows: list[dict[str, str]],
        work: Any,  # noqa: ANN401
        blocks: int,
        **resources: object,
    ) -> Iterator[dict[str, str]]:
        if not rows:
            return
        kwargs = "fn_constructor_kwargs" if isinstance(work, type) else "fn_kwargs"
        data = _ray().data.from_items(rows, override_num_blocks=blocks)
        for row in data.map(work, **{kwargs: self._made}, **resources).iter_rows():
            if row["error"]:
                raise WorkerError(row["error"])
            yield row


def _portable(name: str) -> str:
    """Make the name of a folder one that holds wherever a process starts."""
    own = (DEFAULT_MODEL, DEFAULT_EMBEDDER, DEFAULT_ADAPTERS, NO_ADAPTERS)
    return str(Path(name).absolute()) if name not in own and Path(name).is_dir() else name


def _cut_row(row: dict[str, str], namespace: str, model: str, compression: str, **_: str) -> dict[str, str]:
    tokens = CompressionSettings.model_validate_json(compression).chunk_tokens
    try:
        file = SourceFile(row["document_id"], Path(row["path"]))
        return {"cut": cut(file, namespace, _tokenizer(model), tokens).model_dump_json(), "error": ""}
    except CompressedMemoryError as error:  # as text, because not every error survives the way between processes
        return {"cut": "", "error": str(error)}


@lru_cache(maxsize=1)
def _tokenizer(model: str) -> Any:  # noqa: ANN401
    from transformers import AutoTokenizer

    from .weights import resolve

    return AutoTokenizer.from_pretrained(resolve(model))


class _Encoder:
    """A worker: the model, loaded once, that encodes one part after the other."""

    def __init__(self, namespace: str, model: str, adapters: str, embedder: str, compression: str) -> None:
        self._namespace = namespace
        settings = CompressionSettings.model_validate_json(compression)
        self._engine = cache(
            lambda: Engine.open(model=model, adapters=adapters, embedder=embedder, compression=settings)
        )

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        try:
            # The model is opened here, because Ray tries what fails in a constructor again and again.
            encode_part(self._engine(), self._namespace, _CHUNKS.validate_json(row["chunks"]), Path(row["folder"]))
        except CompressedMemoryError as error:
            return {"folder": "", "error": str(error)}
        return {"folder": row["folder"], "error": ""}
