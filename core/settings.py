"""What a user may set, flat and checked. Two objects: how text is encoded, how it is recalled."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import InputError

Placement = Literal["in_place", "inserted", "inserted_copy", "selected"]
Form = Literal["raw", "compressed"]
GateChoice = Literal["slots", "similarity"]
Ratio = Literal[1, 2, 4, 8, 16]
SlotType = Literal["bf16", "int8"]


DEFAULT_NAMESPACE = "default"


class CheckedSettings(BaseModel):
    """Frozen settings whose errors name the value that was given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'settings'}={e['input']!r}: {e['msg']}" for e in error.errors()
            )
            raise InputError(f"{type(self).__name__}: {problems}") from None


_SettingsT = TypeVar("_SettingsT", bound=CheckedSettings)


def replaced(settings: _SettingsT, **changes: object) -> _SettingsT:
    """Return ``settings`` with ``changes`` applied and everything checked again.

    Raises:
        InputError: a name is unknown or a value is out of range.
    """
    return type(settings)(**{**settings.model_dump(), **changes})


class CompressionSettings(CheckedSettings):
    """How text becomes slots. Part of a bank's fingerprint: one bank, one of these."""

    chunk_tokens: Annotated[int, Field(ge=16, le=4096)] = 1024
    """Most tokens in a chunk."""
    ratio: Ratio = 4
    """α: raw tokens for each slot. 1 keeps every token, which is exact and saves nothing."""
    placement: Placement = "in_place"
    """``in_place``: the last token of each group of α is its slot. ``inserted``: a learned memory
    token follows each group (LycheeMemory, section 3). ``inserted_copy``: that token starts as a
    copy of the group's last one. ``selected``: as many tokens as in place, at each layer those that a
    trained selector finds best worth keeping (:mod:`core.selector`)."""
    sink_tokens: Annotated[int, Field(ge=0, le=64)] = 4
    """First tokens of a chunk that are kept beside the slots (the attention sink, arXiv 2309.17453)."""
    encode: bool = True
    """Whether chunks are encoded into slots at ingest. Without, only the raw form can be used, and
    ingesting costs only the embedding."""
    slots: SlotType = "bf16"
    """How slots are kept. ``bf16``: as the model computes them, which is bf16 wherever that is fast, else fp32.
    ``int8``: half of bf16's bytes, with a scale for each channel (:mod:`core.quantization`); read back in bf16."""


class NamespaceLimit(CheckedSettings):
    """How much one namespace of a bank may hold; ``None`` sets no limit."""

    documents: Annotated[int, Field(ge=1)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Of the bank's model; text that stands in several documents counts once, as it is stored once."""


class RecallSettings(CheckedSettings):
    """How a question is answered from a bank."""

    form: Form | None = None
    """What the reasoner reads: source text (``raw``) or slots (``compressed``). ``None`` takes
    ``compressed`` where the model has trained adapters and ``raw`` where it has none."""
    gate: GateChoice | None = None
    """What decides which chunks open: a trained gate over their ``slots``, or the ``similarity`` of embeddings.
    ``None`` takes the slots where the adapters hold a gate and the bank keeps slots."""
    gate_candidates: Annotated[int, Field(ge=1)] = 32
    """Chunks nearest by embedding whose slots a trained gate scores; the rest stay closed. More
    is more exact and slower."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """τ: the gate opens a chunk when P(open) is above it."""
    top_k: Annotated[int, Field(ge=1)] = 4
    """The gate opens a chunk only if it ranks among this many for the question and the memory."""
    max_steps: Annotated[int, Field(ge=1)] = 8
    """Most chunks that are read for one question, called-back ones included."""
    callback: bool = True
    """Whether older memories and passed-over chunks can be called back."""
    callback_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Floor for what a callback may bring back: a share of words for memories, P(open) for chunks."""
    follow_names: bool = True
    """Whether a chunk that is about what a note names, in the note's very words, is likelier to open
    (:mod:`core.naming_gate`)."""
    raw_passages: Annotated[int, Field(ge=1)] | None = 2
    """Passages of 128 tokens of an opened chunk that the raw form shows: those nearest to the question
    and the notes, in order. ``None`` shows the whole chunk, which suits models from a few billion parameters on."""
    likely_notes: bool = True
    """Whether sentences of an opened chunk are also judged by themselves, and those that are likely evidence noted: by
    the tagger where one is trained for the embedder (:mod:`core.evidence`), else, in the compressed form, by their
    nearness to the question where the reader tells nothing. A small reader misses much. Of no effect where an
    application's own model reads."""
    read_when_sure: bool = False
    """Whether the reasoner also reads an opened chunk in which the tagger is sure of a sentence. That is about half of
    a question's work and changes few answers (docs/benchmarks.md, "Of what the tagger is sure"). Of no effect without a
    tagger, without ``likely_notes`` and where an application's own model reads."""
    second_look: bool = True
    """Whether the tagger chooses anew, when all is read, which sentences are answered from, each behind its heading
    (:mod:`core.second_look`). It finds more of the evidence, and more that is none: the default reasoner has learned to
    answer from such notes (``--noted``). Of no effect without a tagger, without ``likely_notes`` and where an
    application's own model reads."""
    memory_tokens: Annotated[int, Field(ge=16, le=4096)] = 256
    """Most tokens of working memory; older lines leave it first and stay within the callback's reach."""
    update_tokens: Annotated[int, Field(ge=8, le=4096)] = 64
    """Most tokens that the reasoner writes after reading a chunk."""
    answer_tokens: Annotated[int, Field(ge=4, le=4096)] = 160
    """Most tokens of the answer, and of the facts that a trained reasoner writes down before it."""
    candidates: Annotated[int, Field(ge=1)] | None = 2048
    """Passages that the index returns for the gate to score; ``None`` scores every passage."""
    decline_bias: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Nats by which ``unknown`` is favoured as an answer (the threshold on the null answer of SQuAD 2.0, arXiv
    1806.03822, on its first token). ``None`` takes 3 where the reasoner has a trained adapter: it declines where it
    gives ``unknown`` a twentieth of what it gives its answer. Elsewhere 0. Where it is above 0, an answer half of whose
    first words stand in neither question nor notes is declined too (:mod:`core.grounding`). Of no effect where an
    application's own model reads."""
    extractor_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What log p of an answer counts by the extractor that finds answers in the notes, beside that by the reasoner,
    which counts once (:mod:`core.reader_fusion`). ``None`` takes 0.6 where the default model's reasoner has a trained
    adapter, else 0, which leaves the reasoner alone: a larger model may read better than the extractor. Of no effect
    where no extractor is trained for the embedder (:mod:`core.extraction`) and where an application's own model
    reads."""
    exact: bool = False
    """Whether they are found by a scan of every passage also where the namespace is so large that its index is
    approximate (:class:`core.approximation.IndexSettings`)."""
