"""One run from files to table: loads models and questions, goes through what is missing, writes the results."""

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..adapters import find_adapters, load_adapters, read_card
from ..backbone import ROLES, Backbone
from ..benchmarks.report import machine
from ..embedder import Embedder
from ..embedder_head import find_head
from ..errors import InputError
from ..evidence import Tagger
from ..extraction import Extractor
from ..generation import Generator
from ..query_encoder import find_queries
from ..settings import CompressionSettings, Placement
from ..weights import DEFAULT_EMBEDDER, DEFAULT_MODEL
from .comparison import Comparison, Plan, Task
from .haystack import Pool, own_haystack, shared_haystack
from .needles import needle_questions
from .question_files import READERS, chosen, identity, pool_paragraphs, task_name
from .records import Record, Records, RunSettings
from .results import write_results
from .systems.naming import one_placement, system_named
from .systems.passage_reader import reading_prompt
from .withheld import Lacking


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    data: tuple[Path, ...]
    form: str
    """Of the files in ``data``: a key of :data:`core.evaluation.question_files.READERS`."""
    needles: tuple[str, ...]
    pool: tuple[Path, ...]
    documents: tuple[int, ...]
    systems: tuple[str, ...]
    questions: int
    offset: int
    seed: int
    shared: bool
    gap: int | None
    lacking: Lacking
    model: str | None
    adapters: str
    embedder: str | None
    out: Path
    command: str


def run(request: Request, deadline: float | None = None) -> int:
    """Do what ``request`` asks for; return the exit code: 0, or 130 when interrupted.

    Args:
        deadline: by ``time.monotonic()``; afterwards nothing new is begun, and what is there is reported.

    Raises:
        InputError: a value, a file or a system is no good, or the folder holds a run of other settings.
    """
    _check_options(request)
    tasks = _tasks(request)
    backbone, trained = _backbone(request.model or DEFAULT_MODEL, request.adapters, one_placement(request.systems))
    name = request.embedder or DEFAULT_EMBEDDER
    embedder = Embedder(
        name,
        queries=find_queries(request.adapters, name),
        tagger=find_head(Tagger, request.adapters, name),
        extractor=find_head(Extractor, request.adapters, name),
    )
    systems = {name: system_named(name, backbone, embedder, request.adapters, trained) for name in request.systems}
    settings = _settings(request, backbone, embedder)
    records = Records(request.out, settings)
    plan = Plan(
        tasks,
        request.documents,
        systems,
        request.seed,
        request.shared,
        request.gap,
        request.lacking,
    )
    _warm_up(backbone, embedder)
    code, finished = 0, False
    try:
        finished = _with_progress(plan, backbone, records, deadline)
    except KeyboardInterrupt:
        code, records = 130, Records(request.out, settings)  # read again: a line may have been on its way
    if records.all:
        where = machine(backbone.device, backbone.dtype)
        table = write_results(records.all, settings, request.command, where, request.out)
        Console(soft_wrap=True, highlight=False, markup=False).print(table)
    if not finished:
        why = "Interrupted" if code else "The time is up"
        sys.stderr.write(f"{why}: {len(records.all)} results are in {request.out}; the same command goes on.\n")
    return code


def _check_options(request: Request) -> None:
    asked = [f"--{name}" for name in ("gap" if request.gap is not None else None, request.lacking) if name]
    if request.shared and asked:
        raise InputError(f"{asked[0]} is about the evidence of one question: leave out --shared-haystack")
    if len(asked) > 1:
        raise InputError(f"{' and '.join(asked)} do not go together: give one of them")


def _backbone(model: str, adapters: str, placement: Placement | None) -> tuple[Backbone, Placement]:
    """Return the model that all systems share, with what a compressor's adapter on it is for.

    Args:
        placement: that all slots have; a compressor's adapter for another is left out. ``None``: as the adapters say.
    """
    folder = find_adapters(adapters, model)
    backbone, trained = Backbone.load(model), CompressionSettings().placement
    if folder is not None:
        trained = placement or read_card(folder).placement
        load_adapters(backbone, folder, trained)
    return backbone, trained


def _check_sizes(request: Request, task: Task) -> None:
    """Build what is hardest to build, so that what cannot be asked is said before models are loaded."""
    for documents in (request.documents[0], request.documents[-1]):
        if request.shared:
            shared_haystack(task.questions, task.pool, documents, seed=request.seed)
        else:
            own_haystack(
                task.questions[0],
                task.pool,
                documents,
                seed=request.seed,
                gap=request.gap,
                lacking=request.lacking,
            )


def _tasks(request: Request) -> tuple[Task, ...]:
    if not request.data and not request.needles:
        raise InputError("there is nothing to ask: give --data FILE, or --needles single")
    fewest, tasks = min(request.documents), list[Task]()
    for path in request.data:
        questions = list(READERS[request.form](path))
        pool = Pool(pool_paragraphs(request.pool, questions))
        tasks.append(Task(task_name(path), chosen(questions, fewest, request.offset, request.questions), pool))
    for kind in request.needles:
        made = needle_questions(kind, request.offset + request.questions, request.seed)
        pool = Pool(pool_paragraphs(request.pool, ()))
        tasks.append(Task(f"needles-{kind}", chosen(made, fewest, request.offset, request.questions), pool))
    for task in tasks:
        _check_sizes(request, task)
    if len({task.name for task in tasks}) < len(tasks):
        raise InputError(f"two files are called {[task.name for task in tasks]}: give them different names")
    return tuple(tasks)


def _settings(request: Request, backbone: Backbone, embedder: Embedder) -> RunSettings:
    return RunSettings(
        data=(*(f"{identity(path)} as {request.form}" for path in request.data), *request.needles),
        pool=tuple(map(identity, request.pool)),
        seed=request.seed,
        shared_haystack=request.shared,
        questions=(request.offset, request.questions) if request.shared else None,
        gap=request.gap,
        absent=request.lacking == "absent",
        withheld=request.lacking == "withheld",
        model=backbone.name,
        weights=" ".join(backbone.fingerprint(role) for role in ROLES),
        embedder=embedder.fingerprint,
        device=str(backbone.device),
        dtype=str(backbone.dtype),
    )


def _warm_up(backbone: Backbone, embedder: Embedder) -> None:
    """Let libraries do what they do once, outside the timings."""
    Generator(backbone).reply(reading_prompt("What is this?", "It is a test."))
    embedder.embed(["It is a test."])


def _with_progress(plan: Plan, backbone: Backbone, records: Records, deadline: float | None) -> bool:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        keys = plan.keys
        task = bar.add_task("answers", total=len(keys), completed=len(keys & {r.key for r in records.all}))

        def step(record: Record) -> None:
            bar.update(task, advance=1, description=f"{record.data}, {record.documents} documents, {record.system}")

        return Comparison(plan, backbone, records, deadline=deadline, step=step).run()
