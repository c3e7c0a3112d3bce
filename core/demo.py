"""The demo: reads chapters of the Python language reference, which CPython carries itself, and answers questions."""

import time
from pathlib import Path
from pydoc_data.topics import topics

from rich.console import Console

from .cli import add_with_progress, describe
from .engine import Engine
from .ingest import Document
from .recall import Step
from .report import print_answer, print_step

CHAPTERS = (
    "assignment",
    "calls",
    "comparisons",
    "compound",
    "execmodel",
    "formatstrings",
    "import",
    "string-methods",
    "types",
    "typesmapping",
)
"""Long chapters that repeat little of each other: about 50,000 tokens."""

QUESTIONS = (
    "What does str.zfill return?",
    "In which order are pairs returned by popitem?",
    "What does the German lowercase letter ß casefold to?",
)


def run_demo(bank: Path) -> None:
    """Take the chapters into ``bank``, once, and answer a few questions with sources, on the terminal."""
    console = Console(highlight=False, soft_wrap=True)
    documents = [Document(f"python-reference/{name}", topics[name].strip() + "\n") for name in CHAPTERS]
    start = time.perf_counter()
    engine = Engine.open(bank)
    report = add_with_progress(engine, iter(documents), sum(len(d.text) for d in documents), "demo")
    tokens = engine.bank.summaries()[0].tokens
    console.print(f"{describe(report)} The bank {bank} holds {tokens:,} tokens ({time.perf_counter() - start:.1f} s).")
    for question in QUESTIONS:
        console.print(f"\n[bold]Question: {question}[/bold]")
        start = time.perf_counter()
        answer = engine.ask(
            question, "demo", listener=lambda e: print_step(console, e) if isinstance(e, Step) else None
        )
        print_answer(console, answer)
        console.print(f"  {time.perf_counter() - start:.1f} s in all", style="dim")
    console.print(f'\nAsk your own: compressed-memory ask "QUESTION" --bank {bank} --namespace demo')
