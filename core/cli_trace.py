"""The command ``trace``: asks, and writes the run as a page."""

from pathlib import Path
from typing import Annotated

import typer

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
    say,
)
from .settings import DEFAULT_NAMESPACE

app = typer.Typer()


@app.command()
def trace(
    question: Annotated[str, typer.Argument(help="What to answer from the documents.")],
    bank: BankOption,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    out: Annotated[Path, typer.Option(help="The page; one that is there is replaced.")] = Path("trace.html"),
    form: FormOption = None,
    top_k: TopKOption = None,
    threshold: ThresholdOption = None,
    callback: CallbackOption = True,
    exact: ExactOption = False,
    document: DocumentOption = None,
    model: ModelOption = None,
    adapters: AdaptersOption = None,
) -> None:
    """Answer a question as `ask` does, and write its run as one HTML page."""
    from .recall import Step, check_question
    from .trace_page import check_target

    settings = recall_settings(form=form, top_k=top_k, threshold=threshold, callback=callback, exact=exact)
    check_question(question)
    check_target(out)
    from rich.console import Console

    from .engine import Engine
    from .report import print_answer, print_step

    engine = Engine.open(bank, model=model, adapters=adapters, create=False)
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    traced = engine.trace(
        question,
        namespace,
        settings,
        lambda event: print_step(progress, event) if isinstance(event, Step) else None,
        document_ids=document or None,
    )
    traced.write(out)
    print_answer(Console(highlight=False, soft_wrap=True), traced.answer)
    say(f"Wrote {out}: {out.stat().st_size:,} bytes, {len(traced.scorings)} times that the gate was asked.")
