"""How an answer and a bank look on a terminal and as JSON. Nothing here decides anything."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .approximation import IndexReport
from .memory_bank import Fingerprint, MemoryBank
from .recall import Answer, Step


def answer_as_json(answer: Answer) -> dict[str, object]:
    """Return an answer as plain values: what ``ask --json`` prints."""
    return {
        "answer": answer.text,
        "sources": [
            {"document_id": n.document_id, "start": n.span.start, "end": n.span.end, "text": n.quote, "gate": n.gate}
            for n in answer.sources
        ],
        "working_memory": answer.memory.text,
        "steps": [
            {
                "chunk_id": step.chunk.chunk_id,
                "document_id": step.chunk.document_id,
                "start": step.chunk.span.start,
                "end": step.chunk.span.end,
                "gate": step.gate,
                "called_back": step.called_back,
                "update": [note.text for note in step.written],
                "callback_query": step.recalled.query,
                "recalled": {
                    "notes": [note.text for note in step.recalled.notes],
                    "chunk_id": step.recalled.opened[0].chunk_id if step.recalled.opened else None,
                },
            }
            for step in answer.steps
        ],
        "usage": {
            "tokens_read": answer.usage.tokens_read,
            "slots_read": answer.usage.slots_read,
            "tokens_written": answer.usage.tokens_written,
            "model_calls": answer.usage.model_calls,
            "seconds": {stage: round(seconds, 4) for stage, seconds in answer.usage.seconds.items()},
        },
    }


def print_step(console: Console, step: Step) -> None:
    """Show one chunk that was read: where it stands, how likely it seemed, what was noted, what it called back."""
    how = "called back" if step.called_back else "opened"
    place = f"{printable(step.chunk.document_id)} [{step.chunk.span.start}:{step.chunk.span.end}]"
    console.print(Text(f"  {how} {place}, P(open) {step.gate:.2f}", style="dim"))
    for note in step.written:
        console.print(Text(f"    noted: {printable(note.text)}", style="dim"))
    if step.recalled.opened:
        chunk = step.recalled.opened[0]
        console.print(
            Text(f"    calls back {printable(chunk.document_id)} [{chunk.span.start}:{chunk.span.end}]", style="yellow")
        )
    for note in step.recalled.notes:
        console.print(Text(f"    recalls: {printable(note.text)}", style="yellow"))


def print_answer(console: Console, answer: Answer) -> None:
    """Show an answer, its sources with their spans, and what it cost."""
    console.print(Text.assemble(("Answer: ", "bold green"), printable(answer.text)))
    for number, note in enumerate(answer.sources, 1):
        place = f"[{number}] {printable(note.document_id)} [{note.span.start}:{note.span.end}] gate {note.gate:.2f}"
        console.print(Text.assemble("  ", (place, "cyan"), f"  {printable(' '.join(note.quote.split()))}"))
    usage = answer.usage
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in usage.seconds.items())
    console.print(
        Text(
            f"  read {len(answer.steps)} chunks ({sum(s.called_back for s in answer.steps)} called back), "
            f"{usage.tokens_read} tokens and {usage.slots_read} slots; wrote {usage.tokens_written} tokens in "
            f"{usage.model_calls} calls; {stages}",
            style="dim",
        )
    )


def print_bank(console: Console, bank: MemoryBank) -> None:
    """Show what a bank holds: namespaces, documents, and what made it."""
    totals = Table(title=Text(f"Memory bank {bank.path}"))
    for column in ("namespace", "documents", "chunks", "tokens", "slots", "slot bytes"):
        totals.add_column(column, justify="left" if column == "namespace" else "right")
    summaries = bank.summaries()
    for s in summaries:
        totals.add_row(
            Text(printable(s.namespace)), *(f"{n:,}" for n in (s.documents, s.chunks, s.tokens, s.slots, s.bytes))
        )
    console.print(totals)
    search = Table(title="Search")
    for column in ("namespace", "index"):
        search.add_column(column)
    for summary in summaries:
        search.add_row(Text(printable(summary.namespace)), _index_in_words(bank.index_report(summary.namespace)))
    console.print(search)
    for summary in summaries:
        listing = Table(title=Text(f"Documents of namespace {printable(summary.namespace)}"))
        for column in ("document", "chunks", "tokens"):
            listing.add_column(column, justify="left" if column == "document" else "right")
        for document_id, chunks, tokens in bank.documents(summary.namespace):
            listing.add_row(Text(printable(document_id)), f"{chunks:,}", f"{tokens:,}")
        console.print(listing)
    made = Table(title="Model fingerprint", show_header=False)
    for name in Fingerprint.model_fields:
        made.add_row(name, Text(printable(str(getattr(bank.fingerprint, name)))))
    console.print(made)
    console.print(_bytes_by_kind(bank))


def _bytes_by_kind(bank: MemoryBank) -> Table:
    """Return a table of what the bytes on disk are, with what each kind takes for a million tokens."""
    (tokens, slots, text), *_ = bank.rows("SELECT SUM(tokens), SUM(bytes), SUM(LENGTH(text)) FROM chunks")
    ((embeddings,),) = bank.rows("SELECT SUM(LENGTH(embedding)) FROM passages")
    kinds = {"slots": slots or 0, "source text, compressed": text or 0, "embeddings": embeddings or 0}
    on_disk = _bytes_in(bank.path)
    # Freed pages and a log that is not yet emptied count here too.
    kinds["catalogue and file headers"] = max(0, on_disk - sum(kinds.values()))
    table = Table(title="Bytes by kind", show_footer=True)
    table.add_column("kind", footer="on disk")
    table.add_column("bytes", justify="right", footer=f"{on_disk:,}")
    table.add_column("share", justify="right")
    table.add_column("for 1 M tokens", justify="right", footer=_for_a_million(on_disk, tokens))
    for kind, size in kinds.items():
        share = f"{size / on_disk:.1%}" if on_disk else ""
        table.add_row(kind, f"{size:,}", share, _for_a_million(size, tokens))
    return table


def _for_a_million(size: int, tokens: int | None) -> str:
    return f"{size / tokens:,.1f} MB" if tokens else ""


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of show: names and texts may come from other hands."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def bank_as_json(bank: MemoryBank) -> dict[str, object]:
    """Return what a bank holds as plain values: what ``show --json`` prints."""
    return {
        "bank": str(bank.path),
        "namespaces": [
            {
                **asdict(summary),
                "index": report.model_dump() if (report := bank.index_report(summary.namespace)) else None,
            }
            for summary in bank.summaries()
        ],
        "fingerprint": bank.fingerprint.model_dump(),
        "bytes_on_disk": _bytes_in(bank.path),
    }


def _index_in_words(report: IndexReport | None) -> str:
    if report is None:
        return "made at the next question, which takes longer; until then nothing can be said of it"
    if report.kind == "ivf":
        return (
            f"approximate: looks at {report.probes} of {report.lists} inverted lists, {report.scanned:.0%} of the "
            f"passages; finds {report.recall:.4f} of the {report.recall_at} nearest, measured against the flat index "
            f"with {report.queries} held-out passages"
        )
    tried = "" if report.refused is None else f" (inverted lists were tried and found {report.refused:.4f})"
    return f"flat, exact, {report.passages:,} passages{tried}"


def _bytes_in(folder: Path | None) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder else 0
