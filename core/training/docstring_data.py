"""Questions on technical text, out of the docstrings that Python itself carries.

``python -m core.training.docstring_data FILE.jsonl.gz`` writes them in the schema of ``training/data.md``,
to be laid beside the other training files: encyclopaedic text alone leaves a small reader helpless before
an interface's description. The docstrings are read from the source, nothing is imported, and the file is
the same for the same release of Python (PSF licence). No text of ``pydoc_data.topics`` is in it, so that the
demo's and the examples' questions stay unseen.
"""

import ast
import logging
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Annotated, NamedTuple

import typer

from ..chunking import sentences
from ..questions import Paragraph, Question
from .material import write_questions

_log = logging.getLogger(__name__)

_SHORTEST, _LONGEST = 12, 140
"""Words of a description that is used."""
_LONGEST_ANSWER = 14
_OF_A_DESCRIPTION = 4
"""Questions asked of one description at most."""
_LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "turtledemo",
    "pydoc_data",
    "ensurepip",
    "distutils",
}


class _Description(NamedTuple):
    name: str
    """Qualified: ``json.dumps``, or ``str.join``-like for methods."""
    signature: str
    text: str


class _Found(NamedTuple):
    question: str
    answer: str
    sentence: int


def docstring_questions(seed: int = 0, library: Path | None = None) -> Iterator[Question]:
    """Yield questions, those on one description together, descriptions of one module after another.

    Every answer stands word for word in the sentence that is marked as its support.

    Args:
        library: folder of Python source; ``None``: this Python's standard library.
    """
    random = Random(seed)
    seen: set[str] = set()
    descriptions = list(_descriptions(library or Path(sysconfig.get_path("stdlib"))))
    shared = Counter(d.name.rsplit(".", 1)[-1] for d in descriptions)
    for description in descriptions:
        if description.text in seen:
            continue
        seen.add(description.text)
        # The name stands over its text as in reference manuals, or runs on into it as in help texts.
        spans = [description.text[s.start : s.end].strip() for s in sentences(description.text)]
        over = random.random() < 0.5
        parts = [description.signature, *spans] if over else [f"{description.signature}: {spans[0]}", *spans[1:]]
        found = [
            f for f in _asked(_called(description.name, shared, random), spans, random) if f.answer in spans[f.sentence]
        ]
        for number, (question, answer, sentence) in enumerate(found[:_OF_A_DESCRIPTION]):
            support = (sentence + over,)
            paragraph = Paragraph(title=description.name, sentences=tuple(parts), support=support)
            yield Question(
                id=f"{description.name}-{number}",
                dataset="python-docstrings",
                question=question,
                answers=(answer,),
                paragraphs=(paragraph,),
            )


def _descriptions(library: Path) -> Iterator[_Description]:
    for file in sorted(library.rglob("*.py")):
        parts = file.relative_to(library).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__").lstrip("_")
        if _LEFT_OUT & set(parts) or any(part.startswith(("_py", "test")) for part in parts):
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # files that are there to be refused
            continue
        yield from _inside(tree, module)


def _inside(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[_Description]:
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        # The first paragraphs only: what comes after lists and examples is seldom prose.
        text = " ".join(_prose(ast.get_docstring(child) or "").split())
        if _SHORTEST <= len(text.split()) <= _LONGEST and text.isascii():
            if isinstance(child, ast.ClassDef):
                yield _Description(name, f"class {name}", text)
            else:
                arguments = [a.arg for a in child.args.args if a.arg not in {"self", "cls"}]
                yield _Description(name, f"{name}({', '.join(arguments)})", text)
        if isinstance(child, ast.ClassDef):
            yield from _inside(child, name)


def _prose(docstring: str) -> str:
    blocks = []
    for block in re.split(r"\n\s*\n", docstring):
        if re.search(r"^\s{4,}|>>>|^\s*[-*+|]\s|::|^\s*\w+\s*--|={3}|-{3}", block, re.MULTILINE):
            break
        blocks.append(block)
    return " ".join(blocks)


def _called(name: str, shared: Mapping[str, int], random: Random) -> str:
    """How a question names what it is about: in full, or by the last part where nothing else ends so."""
    short = name.rsplit(".", 1)[-1]
    return random.choice((name, f"{name}()", *((short, f"{short}()") if shared[short] == 1 else ())))


def _asked(called: str, spans: list[str], random: Random) -> Iterator[_Found]:
    """What can be asked of a description whose sentences are ``spans``, the plainest kinds of sentence only."""
    for index, span in enumerate(spans):
        said = span.rstrip(".")
        for pattern, kinds in _KINDS:
            if match := pattern.search(said):
                groups = match.groupdict()
                kind, asked = random.choice(kinds)
                answer = groups[asked].strip(" ,;:")
                cut_off = answer.count("(") != answer.count(")") or answer.endswith((" a", " an", " the", " of"))
                if cut_off or not 1 <= len(answer.split()) <= _LONGEST_ANSWER:
                    continue
                yield _Found(kind.format(name=called, **groups), answer, index)
                break


_VERBS = (
    "Add Append Apply Attempt Call Cancel Change Check Clear Close Compare Compile Compute Convert Copy Create Decode "
    "Define Delete Determine Disable Display Do Enable Encode Execute Extract Find Flush Format Generate Get Give "
    "Handle Indicate Initialize Insert Invoke Load Log Make Map Merge Move Open Override Parse Perform Pop Print "
    "Process Put Raise Read Register Remove Rename Replace Report Reset Restore Run Save Search Send Set Show Shut "
    "Signal Sort Split Start Stop Store Test Try Turn Update Use Wait Walk Wrap Write Yield"
)
_ENDS = r"(?=$| \(|; |, (?:or|if|where|which|and|as) )"
_STATE = (
    r"(?:\w+ )?(?:true|false|True|False|None|given|specified|set|omitted|provided|not given|not specified|not provided)"
)

_KINDS: tuple[tuple[re.Pattern[str], tuple[tuple[str, str], ...]], ...] = (
    (
        re.compile(
            r"(?:^|[ ,;])[Rr]aises? (?:an? |the )?(?P<error>[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit|Stop\w*))"
            r" (?:exception )?(?:if|when) (?P<case>[^,;.]+)"
        ),
        (
            ("When does {name} raise {error}?", "case"),
            ("In which case is {error} raised by {name}?", "case"),
            ("What does {name} raise if {case}?", "error"),
            ("Which exception does {name} raise when {case}?", "error"),
        ),
    ),
    (
        re.compile(
            r"(?:^|[ (,;])(?:The )?(?P<what>(?:default )?[a-z_]\w*)(?: argument| parameter)? "
            r"(?:defaults to|is by default) (?P<value>[^,;]+?)(?=$|[,;)]| and | which | if )"
        ),
        (
            ("What does {what} default to in {name}?", "value"),
            ("What is the default of {what} for {name}?", "value"),
        ),
    ),
    (
        re.compile(rf"^If (?P<what>(?:the )?(?:optional )?(?:argument )?['\"*]?\w+['\"*]? is {_STATE}), (?P<then>.+)$"),
        (
            ("What happens in {name} if {what}?", "then"),
            ("What does {name} do when {what}?", "then"),
        ),
    ),
    (
        re.compile(r"^Returns? (?P<yes>True|true) if (?P<case>[^;]+?)(?:, (?:False|false|else|otherwise).*)?$"),
        (
            ("When does {name} return True?", "case"),
            ("When is {name} true?", "case"),
            ("What does {name} tell?", "case"),
            ("What does {name} return if {case}?", "yes"),
        ),
    ),
    (
        re.compile(rf"^Returns? (?P<what>[^;]+?){_ENDS}"),
        (
            ("What does {name} return?", "what"),
            ("What is returned by {name}?", "what"),
            ("What do I get from {name}?", "what"),
            ("What is the result of {name}?", "what"),
        ),
    ),
    (
        re.compile(r"^(?P<what>(?:A|An|The) [^;]+? (?:that|which|for|used) [^;]+)$"),
        (
            ("What is {name}?", "what"),
            ("What kind of thing is {name}?", "what"),
        ),
    ),
    (
        re.compile(rf"^(?P<what>(?:{'|'.join(_VERBS.split())})s? [^;]+?){_ENDS}"),
        (
            ("What does {name} do?", "what"),
            ("What is {name} for?", "what"),
            ("What does calling {name} do?", "what"),
        ),
    ),
)
"""Sentences that answer a question plainly, the more particular kinds first, each with its wordings and the group
that answers it."""


def main(
    file: Annotated[Path, typer.Argument(help="File to write, .jsonl.gz.")],
    seed: Annotated[int, typer.Option(help="Of the questions' wording.")] = 0,
    library: Annotated[Path | None, typer.Option(help="Folder of Python source [the standard library].")] = None,
) -> None:
    """Write questions on the descriptions of Python's standard library, or of another folder of source."""
    _log.info("%s: %d questions", file, write_questions(file, docstring_questions(seed, library)))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
