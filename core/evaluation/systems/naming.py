"""What a system is called on the command line: ``raw``, ``rag:passages=4``, ``compressed:ratio=8,gate=off``."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...adapters import NO_ADAPTERS
from ...backbone import Backbone, Role
from ...embedder import Embedder
from ...errors import InputError
from ...settings import CompressionSettings, GateChoice, Placement, RecallSettings, replaced
from .bm25 import WordRetrieval
from .full import FullContext
from .memagent import MemAgent
from .ours import CompressedMemory, without_gate
from .rag import EmbeddingRetrieval
from .rememr1 import ReMemR1
from .system import System

NAMES = ("compressed", "raw", "rag", "bm25", "full", "memagent", "rememr1")


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_OptionsT = TypeVar("_OptionsT", bound=_Options)


class OurOptions(_Options):
    """Of ``compressed`` and ``raw``; what is not given is as users have it."""

    gate: bool | GateChoice = True
    """Off reads every chunk; a name chooses what decides."""
    callback: bool = True
    ratio: int | None = None
    placement: Placement | None = None
    chunk_tokens: int | None = None
    top_k: int | None = None
    threshold: float | None = None
    max_steps: int | None = None
    raw_passages: int | Literal["all"] | None = None
    likely_notes: bool | None = None
    read_when_sure: bool | None = None
    second_look: bool | None = None
    follow_names: bool | None = None
    decline_bias: float | None = None
    extractor_weight: float | None = None
    update_tokens: int | None = None
    answer_tokens: int | None = None


class FullOptions(_Options):
    """Of ``full``."""

    trained: bool = True
    """Whether the reasoner's adapter reads, where there is one; off, the base model by itself."""


class PassageOptions(FullOptions):
    """Of ``rag`` and ``bm25``."""

    passages: int = Field(default=8, ge=1)


class AgentOptions(_Options):
    """Of ``memagent`` and ``rememr1``, which are else as their authors describe them."""

    trained: bool = False
    """Whether the reasoner's adapter writes; it is trained on other prompts than theirs."""


def system_named(
    name: str,
    backbone: Backbone,
    embedder: Embedder,
    adapters: str = NO_ADAPTERS,
    trained: Placement = "in_place",
) -> System:
    """Make the system that ``name`` asks for.

    Args:
        adapters: those that ``backbone`` was given.
        trained: what a compressor's among them is for.

    Raises:
        InputError: there is no such system, option or value.
    """
    kind, options = _parsed(name)
    match kind:
        case "compressed" | "raw":
            ours = _checked(OurOptions, name, options)
            compression = _compression(ours)
            if _encodes(kind, ours) and compression.placement != trained and "compressor" in backbone.adapters:
                raise InputError(
                    f"system {name!r}: the compressor's adapter is for {trained}: add placement={trained} to the name, "
                    "name one placement for all systems of the run, or --adapters none"
                )
            return CompressedMemory(backbone, embedder, kind, compression, _recall(ours), adapters)
        case "rag" | "bm25":
            found = _checked(PassageOptions, name, options)
            retrieval = EmbeddingRetrieval if kind == "rag" else WordRetrieval
            return retrieval(backbone, embedder, found.passages, _role(found.trained))
        case "full":
            return FullContext(backbone, role=_role(_checked(FullOptions, name, options).trained))
        case "memagent":
            return MemAgent(backbone, role=_role(_checked(AgentOptions, name, options).trained))
        case "rememr1":
            return ReMemR1(backbone, role=_role(_checked(AgentOptions, name, options).trained))
    raise InputError(f"there is no system {kind!r}: choose among {', '.join(NAMES)}")


def one_placement(names: Sequence[str]) -> Placement | None:
    """Return the placement that each of ``names`` that keeps slots names itself, the same; ``None``: there is none.

    Raises:
        InputError: a name has an option that there is not.
    """
    asked = set[Placement | None]()
    for name in names:
        kind, options = _parsed(name)
        if kind in ("compressed", "raw") and _encodes(kind, ours := _checked(OurOptions, name, options)):
            asked.add(ours.placement)
    return asked.pop() if len(asked) == 1 else None


def _encodes(kind: str, options: OurOptions) -> bool:
    return kind == "compressed" or options.gate == "slots"


def _parsed(name: str) -> tuple[str, dict[str, str]]:
    kind, _, given = name.partition(":")
    return kind, dict(_pair(name, part) for part in given.split(",") if part)


def _role(trained: bool) -> Role | None:
    return "reasoner" if trained else None


def _compression(options: OurOptions) -> CompressionSettings:
    return replaced(CompressionSettings(), **_given(options, set(CompressionSettings.model_fields)))


def _recall(options: OurOptions) -> RecallSettings:
    given = _given(options, set(RecallSettings.model_fields) - {"callback", "gate"})
    if given.get("raw_passages") == "all":
        given["raw_passages"] = None
    chosen = None if isinstance(options.gate, bool) else options.gate
    settings = replaced(RecallSettings(), callback=options.callback, gate=chosen, **given)
    return settings if options.gate else without_gate(settings)


def _given(options: OurOptions, names: set[str]) -> dict[str, object]:
    return {name: value for name, value in options.model_dump().items() if name in names and value is not None}


def _pair(name: str, part: str) -> tuple[str, str]:
    key, equals, value = part.partition("=")
    if not equals:
        raise InputError(f"system {name!r}: {part!r} is no option: write NAME=VALUE, with commas between")
    return key, value


def _checked(kind: type[_OptionsT], name: str, options: dict[str, str]) -> _OptionsT:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(kind.model_fields) or "none"
        raise InputError(
            f"system {name!r}: option {'.'.join(map(str, first['loc'][:1]))}={first['input']!r}: {first['msg']}; its "
            f"options are: {known}"
        ) from error
