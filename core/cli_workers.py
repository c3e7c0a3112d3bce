"""What ``ingest --engine ray`` does beside ``ingest``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .cli_options import progress_bar
from .errors import InputError

if TYPE_CHECKING:
    from .engine import Engine
    from .ingest import IngestReport
    from .readers import SourceFile

_ENGINES = ("local", "ray")


def check_engine(engine: str, workers: int | None) -> None:
    """Refuse an engine that is none, and workers of none.

    Raises:
        InputError: naming it.
    """
    if engine not in _ENGINES:
        raise InputError(f"--engine {engine!r} is none of {', '.join(_ENGINES)}: give one of them")
    if workers is not None and engine != "ray":
        raise InputError(f"--workers {workers} are of --engine ray: give both, or neither")


def ingest_with_workers(
    engine: "Engine", files: "Sequence[SourceFile]", namespace: str, workers: int | None
) -> "IngestReport":
    """Take files in on Ray while a bar shows how far it is. Characters stand for bytes."""
    from .ray_ingest import ingest_on_ray

    total = sum(file.path.stat().st_size for file in files)
    with progress_bar("Reading", "characters") as bar:
        return ingest_on_ray(
            engine, files, namespace, workers=workers, progress=lambda p: bar(p.document_id, p.characters, total)
        )
