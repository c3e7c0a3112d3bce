"""What several commands share: their options, a bar that shows progress, and the line on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .settings import RecallSettings

BankOption = Annotated[Path, typer.Option("--bank", help="Directory of the memory bank.")]
NamespaceOption = Annotated[str, typer.Option(help="Whose memory: nothing is shared between namespaces.")]
ModelOption = Annotated[
    str | None, typer.Option(help="Folder or Hugging Face id; as the bank has it, else SmolLM2-135M-Instruct.")
]
AdaptersOption = Annotated[
    str | None,
    typer.Option(
        help="'default' (those that ship for the model), 'none', or a folder that training wrote; as the bank."
    ),
]

FormOption = Annotated[
    str | None, typer.Option(help="raw reads source text, compressed reads slots; as the model allows.")
]
TopKOption = Annotated[int | None, typer.Option(help="Chunks that the gate may open at a time.")]
ThresholdOption = Annotated[float | None, typer.Option(help="P(open) above which the gate opens a chunk.")]
CallbackOption = Annotated[bool, typer.Option(help="Whether passed-over chunks can be called back.")]
DocumentOption = Annotated[
    list[str] | None,
    typer.Option("--document", help="Answer from this document alone, by its id; give it once for each of several."),
]
ExactOption = Annotated[
    bool, typer.Option("--exact", help="Scan every passage, also where the bank's index is approximate.")
]


def recall_settings(**given: object) -> "RecallSettings":
    """Return the settings of a question; what is ``None`` is as by default.

    Raises:
        InputError: a value is out of range.
    """
    from .settings import RecallSettings, replaced

    return replaced(RecallSettings(), **{name: value for name, value in given.items() if value is not None})


def say(text: str) -> None:
    """Print what a person reads and a program does not: on standard error."""
    from .report import printable

    typer.echo(printable(text), err=True)


@contextmanager
def resumable() -> Iterator[None]:
    """End an interrupted command with a line that says how to go on, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say("Interrupted. What was committed stays; run the same command again to go on.")
        raise typer.Exit(130) from None


@contextmanager
def progress_bar(verb: str, unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on standard error; what is yielded takes what is at hand, how much is done, and how much there is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .report import printable

    columns = (
        TextColumn(verb + " {task.fields[name]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("", total=None, name="")

    def advance(name: str, done: int, total: int) -> None:
        bar.start()  # not before: a command that is refused prints its one line and nothing else
        bar.update(task, completed=done, total=total, name=printable(name))

    try:
        yield advance
    finally:
        bar.stop()
