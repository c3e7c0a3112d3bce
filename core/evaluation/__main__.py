"""The command line: puts systems through the same questions at growing lengths. Interrupt it, run it again, it goes on.

Results go into the folder of ``--out``: one line a question as soon as it is answered (records.jsonl), and
at the end results.json, table.md and plots.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..errors import CompressedMemoryError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 when all is done, 2 after an error, 130 when interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = _parser().parse_args(given)
    try:
        return _run(parsed, f"python -m core.evaluation {shlex.join(given)}")
    except CompressedMemoryError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; the same command goes on.\n")
        return 130


def _run(parsed: argparse.Namespace, command: str) -> int:
    from .run import Request, run  # seconds of imports that --help need not wait for

    request = Request(
        data=tuple(parsed.data),
        form=parsed.format,
        needles=tuple(parsed.needles),
        pool=tuple(parsed.pool),
        documents=tuple(sorted(set(parsed.documents))),
        systems=tuple(dict.fromkeys(parsed.systems)),
        questions=parsed.questions,
        offset=parsed.offset,
        seed=parsed.seed,
        shared=parsed.shared_haystack,
        gap=parsed.gap,
        lacking=parsed.lacking,
        model=parsed.model,
        adapters=parsed.adapters,
        embedder=parsed.embedder,
        out=parsed.out,
        command=command,
    )
    return run(request, None if parsed.minutes is None else time.monotonic() + 60 * parsed.minutes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m core.evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", type=Path, default=[], metavar="FILE", help="questions; see --format")
    add("--format", default="schema", choices=list(FORMATS), help="of --data: our schema, or as its authors publish it")
    add("--needles", nargs="+", default=[], choices=list(NEEDLE_KINDS), help="also make questions as RULER does")
    add("--pool", nargs="+", type=Path, default=[], metavar="FILE", help="paragraphs to draw distractors from")
    add("--documents", nargs="+", type=_positive, default=[50], metavar="N", help="sizes of the haystack [50]")
    add("--systems", nargs="+", default=["compressed", "raw", "rag"], metavar="NAME", help=_SYSTEMS)
    add("--questions", type=_positive, default=128, metavar="N", help="of each file [128]")
    add("--offset", type=_not_negative, default=0, metavar="N", help="usable questions of each file to skip")
    add("--shared-haystack", action="store_true", help="one haystack for all questions, taken in once")
    add("--gap", type=_not_negative, metavar="D", help="distant evidence: gold reversed, D documents or more between")
    lack = partial(parser.add_mutually_exclusive_group().add_argument, dest="lacking", action="store_const")
    lack("--absent", const="absent", help="leave the gold documents out: what is declined is right")
    lack("--withheld", const="withheld", help="take what says the answer out of them: what is declined is right")
    add("--minutes", type=float, help="stop in good order after so many")
    add("--seed", type=int, default=0)
    add("--model", help="known model, folder or Hugging Face id [SmolLM2-135M-Instruct]")
    add("--adapters", default="default", help="default (those that ship), none, or a folder that training wrote")
    add("--embedder", default=None, help="a sentence-transformers model, named likewise [all-MiniLM-L6-v2]")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    return parser


FORMATS = ("schema", "hotpotqa", "2wiki", "musique", "squad", "babi")
NEEDLE_KINDS = ("single", "multi-key", "multi-value", "variable-tracking")
_SYSTEMS = (
    "compressed, raw, rag, bm25, full, memagent, rememr1; with options as in compressed:ratio=8,gate=off,callback=off "
    "or rag:passages=4"
)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is under 1")
    return number


def _not_negative(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is under 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
