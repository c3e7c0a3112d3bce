"""The command line of the benchmarks."""

import sys
import time
from itertools import islice
from pathlib import Path
from typing import Annotated, cast

import torch
import typer

from ..backbone import Backbone
from ..embedder import Embedder
from ..errors import CompressedMemoryError, InputError
from ..questions import read_pool, read_questions
from ..settings import CompressionSettings, Form, RecallSettings
from ..weights import DEFAULT_EMBEDDER, DEFAULT_MODEL
from . import gate as gate_benchmark
from . import load as load_benchmark
from . import memory as memory_benchmark
from . import search as search_benchmark
from . import second_answer as second_answer_benchmark
from . import storage as storage_benchmark
from . import throughput as throughput_benchmark
from . import untrained as untrained_benchmark
from .durability import FAULTS
from .durability import measure as measure_durability
from .material import texts as read_texts
from .report import machine, progress, show

RATIOS = (1, 2, 4, 8, 16)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Texts = Annotated[list[Path], typer.Argument(metavar="TEXT...", help="Text files, or .jsonl(.gz) with a field 'text'.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]
Model = Annotated[str, typer.Option(help="A known model, a folder, or an id on the Hugging Face hub.")]
EmbedderName = Annotated[str, typer.Option("--embedder", help="A sentence-transformers model, named likewise.")]

STORED_BANK = Path("tests/data/bank-format-1.zip")


@app.callback()
def _main() -> None:
    """Measure what the documentation claims. Progress goes to standard error, the result to standard output."""


@app.command()
def throughput(
    text: Texts,
    ratio: Annotated[int, typer.Option(help="Tokens for each slot.")] = 4,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens in each repetition.")] = 16384,
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions, of which medians are taken.")] = 3,
    cpu_time: Annotated[bool, typer.Option("--cpu-time", help="One thread's CPU time, not elapsed time.")] = False,
    model: Model = DEFAULT_MODEL,
    embedder: EmbedderName = DEFAULT_EMBEDDER,
    json: Json = None,
) -> None:
    """Compression of TEXT, alone and with the bank written, over plain prefill by the same model."""
    alpha = CompressionSettings(ratio=ratio).ratio
    if cpu_time:
        torch.set_num_threads(1)
    backbone = Backbone.load(model)
    with progress() as shown:
        task = shown.add_task("timings", total=repeat * throughput_benchmark.steps_each(model))
        rows = throughput_benchmark.measure(
            backbone,
            Embedder(embedder),
            read_texts(text),
            ratio=alpha,
            tokens=tokens,
            repeat=repeat,
            clock=time.process_time if cpu_time else time.perf_counter,
            step=lambda: shown.advance(task),
        )
    settings = {"text": text, "ratio": ratio, "tokens": tokens, "repeat": repeat, "cpu_time": cpu_time}
    settings |= {"model": model, "embedder": embedder}
    show("throughput", settings, rows, json, where=machine(backbone.device, backbone.dtype))


@app.command()
def untrained(
    stories: Annotated[Path, typer.Option(help="Text file, or .jsonl(.gz) with a field 'text'.")],
    stories_count: Annotated[int, typer.Option(min=1, help="Stories to read, from the first on.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Tokens of each story to skip.")] = 0,
    context: Annotated[list[int] | None, typer.Option(help="Tokens of context; 256 and 512 if not given.")] = None,
    starts: Annotated[int, typer.Option(min=0, help="Random starts of the inserted token to measure as well.")] = 0,
    model: Model = DEFAULT_MODEL,
    json: Json = None,
) -> None:
    """Loss of the frozen base after opened slots, for each placement and ratio, before any training."""
    backbone = Backbone.load(model)
    contexts = context or [256, 512]
    with progress() as shown:
        task = shown.add_task("forms", total=sum(len(untrained_benchmark.forms(c, starts)) for c in contexts))
        texts = read_texts([stories])[:stories_count]
        rows = [
            row
            for c in contexts
            for row in untrained_benchmark.measure(backbone, texts, c, offset, starts, lambda: shown.advance(task))
        ]
    settings = {"stories": stories, "stories_count": len(texts), "offset": offset, "context": contexts}
    settings |= {"starts": starts, "model": model}
    show("untrained", settings, rows, json, where=machine(backbone.device, backbone.dtype))


@app.command()
def memory(
    text: Texts,
    tokens: Annotated[list[int], typer.Option(help="Tokens to ingest; give it once for each size.")],
    model: Model = DEFAULT_MODEL,
    json: Json = None,
) -> None:
    """Peak memory of ingesting so many tokens of TEXT, repeated with changed numbers, over that of the first."""
    with progress() as shown:
        task = shown.add_task("processes", total=len(tokens))
        rows = memory_benchmark.measure(read_texts(text), tokens, model, lambda: shown.advance(task))
    show("memory", {"text": text, "tokens": tokens, "model": model}, rows, json)


@app.command("second-answer")
def second_answer(
    text: Texts,
    question: Annotated[str, typer.Option(help="What to ask.")],
    form: Annotated[str | None, typer.Option(help="Of recall, raw or compressed; else as the model is fit.")] = None,
    model: Model = DEFAULT_MODEL,
    embedder: EmbedderName = DEFAULT_EMBEDDER,
    json: Json = None,
) -> None:
    """Time to an answer from TEXT that the bank holds, over that from new TEXT."""
    recall = RecallSettings(form=cast(Form | None, form))
    backbone = Backbone.load(model)
    with progress() as shown:
        task = shown.add_task("answers", total=2)
        rows = second_answer_benchmark.measure(
            backbone, Embedder(embedder), read_texts(text), question, recall, lambda: shown.advance(task)
        )
    settings = {"text": text, "question": question, "form": form, "model": model, "embedder": embedder}
    show("second-answer", settings, rows, json, where=machine(backbone.device, backbone.dtype))


@app.command()
def gate(
    data: Annotated[list[Path], typer.Option(help="Multi-hop examples as JSON lines; give it once for each file.")],
    pool: Annotated[Path, typer.Option(help="Paragraphs to search among, as JSON lines.")],
    questions: Annotated[int, typer.Option(min=1, help="Questions of each file, from the first on.")] = 150,
    embedder: EmbedderName = DEFAULT_EMBEDDER,
    json: Json = None,
) -> None:
    """What cosine tells about gold paragraphs, and what a note adds to a question."""
    with progress() as shown:
        examples = {path.name.partition(".")[0]: list(islice(read_questions(path), questions)) for path in data}
        task = shown.add_task("questions", total=sum(map(len, examples.values())))
        rows = gate_benchmark.measure(Embedder(embedder), examples, list(read_pool(pool)), lambda: shown.advance(task))
    settings = {"data": data, "pool": pool, "questions": questions, "embedder": embedder}
    show("gate", settings, rows, json)


@app.command()
def durability(
    faults: Annotated[int, typer.Option(min=1, help="Faults of each kind.")] = 300,
    seed: Annotated[int, typer.Option(help="Of all that is random but moments in time.")] = 0,
    kind: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(FAULTS)}; all if not given.")] = None,
    minutes: Annotated[float | None, typer.Option(help="After which no further fault begins.")] = None,
    stored: Annotated[Path, typer.Option(help="Zip file of a bank of format 1.")] = Path(
        "tests/data/bank-format-1.zip"
    ),
    out: Annotated[Path | None, typer.Option(help="Also write durability.json to this directory.")] = None,
) -> None:
    """Faults that a bank survives: its writer killed, its disk full, its bytes flipped, its files of other hands."""
    if unknown := set(kind or ()) - set(FAULTS):
        raise InputError(f"--kind {', '.join(sorted(unknown))} is none of {', '.join(FAULTS)}")
    kinds = kind or FAULTS
    with progress() as shown:
        task = shown.add_task("faults", total=faults * len(kinds))
        result = measure_durability(
            faults, seed, stored, kinds=kinds, minutes=minutes, step=lambda: shown.advance(task)
        )
    settings = {"faults": faults, "seed": seed, "kinds": kinds, "skipped": result.skipped, "failures": result.failures}
    show("durability", settings, result.rows, out / "durability.json" if out else None)
    for line in (*result.skipped, *result.failures):
        typer.echo(line, err=True)
    met, survived = sum(row.faults for row in result.rows), sum(row.survived for row in result.rows)
    typer.echo(f"{survived} of {met} faults survived.")
    if result.failures:
        raise typer.Exit(1)


@app.command()
def load(
    readers: Annotated[int, typer.Option(min=1, help="Processes that read, of two threads each.")] = 4,
    writers: Annotated[int, typer.Option(min=0, help="Processes that ingest, replace and delete.")] = 2,
    namespaces: Annotated[int, typer.Option(min=1, help="Of three documents each.")] = 200,
    seconds: Annotated[float, typer.Option(min=0.1, help="To go on for.")] = 20,
    json: Json = None,
) -> None:
    """Reads and writes a second of one bank by many processes and threads at once, each answer checked."""
    rows, errors = load_benchmark.measure(readers, writers, namespaces, seconds)
    settings = {"readers": readers, "writers": writers, "namespaces": namespaces, "seconds": seconds, "errors": errors}
    show("load", settings, rows, json)
    for error in errors:
        typer.echo(error, err=True)
    if errors:
        raise typer.Exit(1)


@app.command()
def storage(
    text: Texts,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to take in, whole texts.")] = 40_000,
    ratio: Annotated[list[int] | None, typer.Option(help="Tokens for each slot; all of them if not given.")] = None,
    slots: Annotated[list[str] | None, typer.Option(help="bf16 or int8; both if not given.")] = None,
    model: Model = DEFAULT_MODEL,
    embedder: EmbedderName = DEFAULT_EMBEDDER,
    json: Json = None,
) -> None:
    """MiB on disk for a million tokens: slots, text, embeddings, index, catalogue."""
    settings = [CompressionSettings(ratio=r, slots=s) for r in ratio or RATIOS for s in slots or ("bf16", "int8")]
    ratios, kinds = dict.fromkeys(s.ratio for s in settings), dict.fromkeys(s.slots for s in settings)
    with progress() as shown:
        task = shown.add_task("banks", total=len(settings))
        rows = storage_benchmark.measure(
            Backbone.load(model),
            embedder,
            read_texts(text),
            tokens=tokens,
            ratios=list(ratios),
            slots=list(kinds),
            step=lambda: shown.advance(task),
        )
    show("storage", {"text": text, "tokens": tokens, "model": model, "embedder": embedder}, rows, json)


@app.command()
def search(
    data: Annotated[Path, typer.Option(help="Multi-hop examples as JSON lines, whose gold paragraphs are sought.")],
    pool: Annotated[Path, typer.Option(help="Paragraphs to search among, as JSON lines.")],
    tokens: Annotated[list[int], typer.Option(help="Tokens in the bank; give it once for each size.")],
    vectors: Annotated[Path, typer.Option(help="File that embeddings are kept in from one run to the next.")],
    questions: Annotated[int, typer.Option(min=1, help="Questions, from the first on.")] = 400,
    paragraphs: Annotated[int, typer.Option(min=1, help="Of the pool, from the first on; then copies follow.")] = 44743,
    flat_below: Annotated[int, typer.Option(min=4, help="Passages below which the index is flat.")] = 1000,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Commit paragraphs past cutting and encoding: far cheaper.")
    ] = False,
    scratch: Annotated[Path | None, typer.Option(help="Folder to make the bank in.")] = None,
    embedder: EmbedderName = DEFAULT_EMBEDDER,
    json: Json = None,
) -> None:
    """Finding gold paragraphs in a bank that grows: recall, seconds over the flat scan's, memory."""
    rows = search_benchmark.measure(
        list(islice(read_questions(data), questions)),
        list(islice(read_pool(pool), paragraphs)),
        tokens,
        vectors,
        flat_below=flat_below,
        text_only=text_only,
        embedder=embedder,
        scratch=scratch,
        step=lambda done: typer.echo(done, err=True),
    )
    settings = {"data": data, "pool": pool, "questions": questions, "paragraphs": paragraphs, "flat_below": flat_below}
    settings |= {"text_only": text_only}
    show("search", {**settings, "tokens": tokens, "embedder": embedder}, rows, json)


def main() -> None:
    """Run the command line; an error raised on purpose is one line."""
    try:
        app()
    except CompressedMemoryError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
