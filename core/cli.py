"""The command line: ``compressed-memory``, also ``python -m core``. Errors are one line and exit code 2."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import cli_keeping, cli_moving, cli_trace
from .cli_options import (
    AdaptersOption,
    BankOption,
    CallbackOption,
    DocumentOption,
    ExactOption,
    FormOption,
    ModelOption,
    NamespaceOption,
    ThresholdOption,
    TopKOption,
    recall_settings,
    resumable,
    say,
)
from .cli_workers import check_engine, ingest_with_workers
from .errors import CompressedMemoryError
from .settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from .engine import Engine
    from .ingest import Document, IngestReport
    from .readers import SourceFile

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cli_keeping.app)
app.add_typer(cli_moving.app)
app.add_typer(cli_trace.app)


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders: text, Markdown, HTML, PDF.")],
    bank: BankOption,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    ratio: Annotated[int | None, typer.Option(help="Tokens for each slot: 1, 2, 4, 8 or 16. [default: 4]")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(help="Most tokens in a chunk. [default: 1024]")] = None,
    placement: Annotated[str | None, typer.Option(help="in_place, selected, inserted or inserted_copy.")] = None,
    slots: Annotated[str | None, typer.Option(help="How slots are kept: bf16 or int8. [default: bf16]")] = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Encode no slots: far cheaper, and only the raw form can be asked.")
    ] = False,
    model: ModelOption = None,
    adapters: AdaptersOption = None,
    by: Annotated[
        str, typer.Option("--engine", help="'local', this process; 'ray', several, on this machine or a Ray cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(help="Of --engine ray: one a GPU, or one for 4 CPUs.")] = None,
) -> None:
    """Take documents into a memory bank. Interrupt it, run it again, and it goes on where it was."""
    from .readers import find_files, read_file

    check_engine(by, workers)
    files = find_files(paths)
    for file in files:  # all of them before the first is taken in, so that a bad one leaves nothing half done
        read_file(file)
    from .engine import Engine, stored_compression
    from .settings import CompressionSettings, replaced

    given = {
        "ratio": ratio,
        "chunk_tokens": chunk_tokens,
        "placement": placement,
        "slots": slots,
        "encode": False if text_only else None,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    compression = replaced(stored_compression(bank) or CompressionSettings(), **changes)
    engine = Engine.open(bank, model=model, compression=compression, adapters=adapters)
    with resumable():
        if by == "ray":
            say(f"{describe(ingest_with_workers(engine, files, namespace, workers))} Bank: {bank}")
        else:
            say(f"{_ingest_with_progress(engine, files, namespace)} Bank: {bank}")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to answer from the documents.")],
    bank: BankOption,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    form: FormOption = None,
    top_k: TopKOption = None,
    threshold: ThresholdOption = None,
    callback: CallbackOption = True,
    exact: ExactOption = False,
    document: DocumentOption = None,
    model: ModelOption = None,
    adapters: AdaptersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Answer a question from a memory bank, with sources."""
    from .engine import Engine
    from .recall import check_question

    settings = recall_settings(form=form, top_k=top_k, threshold=threshold, callback=callback, exact=exact)
    check_question(question)
    engine = Engine.open(bank, model=model, adapters=adapters, create=False)
    from rich.console import Console

    from .recall import Event, Step
    from .report import answer_as_json, print_answer, print_step

    progress = Console(stderr=True, highlight=False, soft_wrap=True)

    def listen(event: Event) -> None:
        if isinstance(event, Step) and not as_json:
            print_step(progress, event)

    answer = engine.ask(question, namespace, settings, listen, document_ids=document or None)
    if as_json:
        typer.echo(json.dumps(answer_as_json(answer), ensure_ascii=False))
        return
    print_answer(Console(highlight=False, soft_wrap=True), answer)


@app.command()
def show(
    bank: BankOption,
    check: Annotated[
        bool, typer.Option("--verify", help="Read every byte and name what is damaged; exit code 1 where something is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a memory bank holds and what made it."""
    from rich.console import Console

    from .memory_bank import MemoryBank
    from .report import bank_as_json, print_bank

    if check:
        from .verification import verify

        if found := verify(bank):
            for damage in found:
                typer.echo(f"damaged: {damage.where}: {damage.what}")
            say(f"{len(found)} damages. 'compressed-memory repair --bank {bank}' rebuilds what can be.")
            raise typer.Exit(1)
    with closing(MemoryBank(path=bank)) as opened:
        if as_json:
            typer.echo(json.dumps(bank_as_json(opened), ensure_ascii=False))
            return
        print_bank(Console(highlight=False), opened)
    if check:
        typer.echo("Verified: every byte is as it was written.")


@app.command()
def repair(bank: BankOption, model: ModelOption = None, adapters: AdaptersOption = None) -> None:
    """Rebuild what is damaged from the kept source text, and name what cannot be."""
    from .engine import Engine
    from .report import printable
    from .verification import repair as mend

    done = mend(bank, lambda: Engine.open(bank, model=model, adapters=adapters, create=False))
    for damage in done.found:
        typer.echo(f"damaged: {damage.where}: {damage.what}")
    for document in done.lost:
        typer.echo(f"lost: {printable(document)}: ingest it again")
    say(f"{len(done.found)} damages, {done.rebuilt} chunks encoded again, {len(done.lost)} documents lost.")
    if done.lost:
        raise typer.Exit(1)


@app.command()
def demo(
    bank: Annotated[Path, typer.Option("--bank", help="Directory of the demo's bank.")] = Path("demo-bank"),
) -> None:
    """Read the Python language reference that every Python carries, and answer questions about it."""
    from .demo import run_demo

    run_demo(bank)


def _ingest_with_progress(engine: "Engine", files: "list[SourceFile]", namespace: str) -> str:
    from .readers import read_file

    def documents() -> "Iterator[Document]":
        for file in files:
            yield read_file(file)

    total = sum(file.path.stat().st_size for file in files)
    return describe(add_with_progress(engine, documents(), total, namespace))


def _tail(name: str, most: int = 20) -> str:
    """Return the end of ``name``, where it is longer than there is room for."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def add_with_progress(
    engine: "Engine", documents: "Iterator[Document]", total_bytes: int, namespace: str
) -> "IngestReport":
    """Take documents in while a bar on standard error shows how far it is. Characters stand for bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .report import printable

    columns = (
        TextColumn("Reading {task.fields[document]}", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn("characters, {task.fields[tokens]:,} tokens"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total_bytes, document="", tokens=0)
        report: IngestReport = engine.add(
            documents,
            namespace,
            lambda p: bar.update(
                task, completed=p.characters, document=_tail(printable(p.document_id)), tokens=p.tokens_encoded
            ),
        )
        bar.update(task, total=bar.tasks[0].completed)
    return report


def describe(report: "IngestReport") -> str:
    """Say in a sentence what an ingest did."""
    return (
        f"{report.documents} documents ({report.unchanged} unchanged): {report.chunks_encoded} chunks, "
        f"{report.tokens_encoded:,} tokens taken in."
    )


def main() -> None:
    """Run the command line and exit: 0 done, 2 an error that the one line on standard error names, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except CompressedMemoryError as error:
        say(f"error: {' '.join(str(error).split())}")
        sys.exit(2)
