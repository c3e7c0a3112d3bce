"""Commands that keep a bank small: ``delete``, ``compact`` and ``limit``."""

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import BankOption, say
from .settings import DEFAULT_NAMESPACE, NamespaceLimit

if TYPE_CHECKING:
    from .memory_bank import MemoryBank

app = typer.Typer()


@app.command()
def delete(
    bank: BankOption,
    document: Annotated[list[str] | None, typer.Option(help="Id of a document; may be given several times.")] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Where the documents are [default: default]; without --document, all of it.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            help="Of them only what was taken in longer ago than 12h, 30d or 2w, or before a date such as 2026-05-31; "
            "alone, of every namespace."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove documents, a namespace or what is old: text, embeddings and slots, from every file of the bank."""
    from .errors import InputError
    from .memory_bank import MemoryBank
    from .retention import delete_before, earliest, parse_age

    if not document and namespace is None and older_than is None:
        raise InputError(
            "nothing was named: give --document ID, or --namespace NS to remove all of it, or --older-than AGE"
        )
    cutoff = None if older_than is None else earliest(parse_age(older_than))
    everywhere = namespace is None and not document
    whose = DEFAULT_NAMESPACE if namespace is None else namespace
    before = bytes_of(bank)
    with closing(MemoryBank(path=bank)) as opened:
        if dry_run:
            _list_going(opened, None if everywhere else whose, document, cutoff)
            return
        if everywhere and cutoff is not None:
            count = delete_before(opened, cutoff)
        else:
            count = len(opened.delete(whose, document or None, before=cutoff))
    if cutoff is not None:
        what = f"what is older than {older_than}, {count} documents"
    else:
        what = ", ".join(document) if document else f"all of it, {count} documents"
    place = "every namespace" if everywhere else f"namespace {whose}"
    say(f"Removed from {place}: {what}. {max(0, before - bytes_of(bank)):,} bytes freed.")


def _list_going(opened: "MemoryBank", namespace: str | None, document: list[str] | None, cutoff: float | None) -> None:
    from .report import printable
    from .retention import documents_before

    for name in document or ():
        opened.document_hash(namespace or DEFAULT_NAMESPACE, name, required=True)
    if namespace is not None and not document:
        opened.index(namespace)  # says which namespaces there are
    going = documents_before(opened, float("inf") if cutoff is None else cutoff, namespace, document)
    for found in going:
        added = datetime.fromtimestamp(found.added_at).astimezone().isoformat(timespec="seconds")
        typer.echo(printable(f"{added}  {found.namespace}  {found.document_id}"))
    say(f"{len(going)} documents would be removed; nothing was.")


@app.command()
def compact(bank: BankOption) -> None:
    """Give the space of deleted and replaced documents back, and finish a deletion that was interrupted."""
    from .memory_bank import MemoryBank

    before = bytes_of(bank)
    with closing(MemoryBank(path=bank)) as opened:
        opened.compact()
    say(f"{before:,} bytes before, {bytes_of(bank):,} after.")


@app.command()
def limit(
    bank: BankOption,
    namespace: Annotated[
        str | None, typer.Option(help="Whose limit; without, of each that has none of its own.")
    ] = None,
    documents: Annotated[int | None, typer.Option(help="Most documents.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Most tokens.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take the limit back.")] = False,
) -> None:
    """Limit how much a namespace may hold, or show the limits. What would go past one is refused as a whole."""
    from .errors import InputError
    from .limits import read_limits, set_limit
    from .memory_bank import MemoryBank
    from .report import printable

    given = documents is not None or tokens is not None
    if none and given:
        raise InputError("--none takes a limit back: give it without --documents and --tokens")
    with closing(MemoryBank(path=bank)) as opened:
        if given or none:
            set_limit(opened, NamespaceLimit(documents=documents, tokens=tokens) if given else None, namespace)
        limits = read_limits(opened)
        use = {summary.namespace: summary for summary in opened.summaries()}
    typer.echo(f"each namespace: {_said(limits.every)}")
    for name in sorted({*limits.own, *use}):
        held = f"{use[name].documents:,} documents, {use[name].tokens:,} tokens" if name in use else "empty"
        said = _said(limits.own[name]) if name in limits.own else "as each namespace"
        typer.echo(f"{printable(name)}: {said}; holds {held}")


def _said(limit: NamespaceLimit) -> str:
    parts = {"documents": limit.documents, "tokens": limit.tokens}
    said = ", ".join(f"{n:,} {what}" for what, n in parts.items() if n is not None)
    return f"at most {said}" if said else "no limit"


def bytes_of(bank: Path) -> int:
    """Return the bytes of all files of a bank."""
    return sum(file.stat().st_size for file in bank.rglob("*") if file.is_file())
