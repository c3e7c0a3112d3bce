"""Commands that move documents between banks: ``merge``, ``export``, ``import`` and ``reencode``."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import AdaptersOption, BankOption, ModelOption, NamespaceOption, progress_bar, resumable, say
from .errors import InputError
from .settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from .merge import MergeProgress, MergeReport, OnConflict

app = typer.Typer()

ConflictOption = Annotated[
    str,
    typer.Option(
        help="Other text under a document's id: 'error' writes nothing, 'keep' lets what is there stay, 'replace' puts "
        "what comes in its place."
    ),
]


@app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(help="Directories of banks that were built elsewhere.")],
    bank: BankOption,
    on_conflict: ConflictOption = "error",
) -> None:
    """Take the documents of other banks into a bank. Interrupt it, run it again, and it goes on where it was."""
    from .merge import merge as take

    choice = _checked(on_conflict)
    with resumable(), _documents_bar("Copying") as progress:
        report = take(bank, sources, choice, progress)
    _report(report, bank)


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="File to write, for example notes.zip.")],
    bank: BankOption,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
) -> None:
    """Write a namespace into one file, which 'import' takes into another bank of the same model."""
    from .archive import export_namespace

    with _documents_bar("Exporting") as progress:
        count = export_namespace(bank, namespace, file, progress)
    say(f"{count} documents of namespace {namespace} in {file}, {file.stat().st_size:,} bytes.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File that 'export' wrote.")],
    bank: BankOption,
    namespace: Annotated[str | None, typer.Option(help="Its name here. [default: as it was]")] = None,
    on_conflict: ConflictOption = "error",
) -> None:
    """Take a namespace out of a file into a bank; every hash is checked before anything is written."""
    from .archive import import_namespace

    choice = _checked(on_conflict)
    with resumable(), _documents_bar("Importing") as progress:
        report = import_namespace(bank, file, namespace, choice, progress)
    _report(report, bank)


@app.command()
def reencode(
    bank: BankOption,
    out: Annotated[Path, typer.Option(help="Directory of the new bank.")],
    ratio: Annotated[int | None, typer.Option(help="Tokens for each slot: 1, 2, 4, 8 or 16; as the bank.")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(help="Most tokens in a chunk; as the bank.")] = None,
    placement: Annotated[
        str | None, typer.Option(help="in_place, selected, inserted or inserted_copy; as the bank.")
    ] = None,
    slots: Annotated[bool | None, typer.Option("--slots/--text-only", help="Whether to encode slots.")] = None,
    model: ModelOption = None,
    adapters: AdaptersOption = None,
) -> None:
    """Encode a bank again for another model or ratio, from its kept text, into a new bank. Resumable."""
    from .memory_bank import MemoryBank
    from .reencode import open_like, text_characters
    from .reencode import reencode as encode_again

    given = {"ratio": ratio, "chunk_tokens": chunk_tokens, "placement": placement, "encode": slots}
    changes = {name: value for name, value in given.items() if value is not None}
    with open_like(bank, out, model=model, adapters=adapters, **changes) as engine:
        with closing(MemoryBank(path=bank)) as source:
            total = text_characters(source)
        with resumable(), progress_bar("Encoding", "characters") as bar:
            count = encode_again(bank, engine, lambda p: bar(p.document_id, p.characters, total))
    say(f"{count} documents encoded again. Bank: {out}")


def _checked(on_conflict: str) -> "OnConflict":
    from .merge import ON_CONFLICT

    for choice in ON_CONFLICT:
        if choice == on_conflict:
            return choice
    raise InputError(f"--on-conflict {on_conflict!r} is none of {', '.join(ON_CONFLICT)}: give one of them")


@contextmanager
def _documents_bar(verb: str) -> "Iterator[Callable[[MergeProgress], None]]":
    with progress_bar(verb, "documents") as bar:
        yield lambda step: bar(step.document_id, step.documents, step.total)


def _report(report: "MergeReport", bank: Path) -> None:
    say(
        f"{report.documents} documents taken in ({report.replaced} in place of others), {report.chunks} chunks; "
        f"{report.unchanged} were there already, {report.kept} stayed as they were. Bank: {bank}"
    )
