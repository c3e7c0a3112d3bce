"""One answer of two readers, worked by hand."""

from collections.abc import Callable, Sequence

import pytest
import torch

from core.backbone import Backbone
from core.embedder import Embedder
from core.engine import EXTRACTOR_WEIGHT, Engine
from core.errors import InputError
from core.extraction import Extraction, Layout
from core.generation import Generator, Prompt, Reply
from core.ingest import Document
from core.prompts import UNKNOWN, is_deduced
from core.reader_fusion import candidates, likeliest
from core.reasoner import Reasoner
from core.settings import CompressionSettings, RecallSettings, replaced
from core.usage import Usage
from core.working_memory import WorkingMemory

from .tiny_models import backbone

QUICK = RecallSettings(update_tokens=8, answer_tokens=4)
BY_WRITING = {"Ribe": -1.0, "Skagen": -2.0, "Crail": -6.0, UNKNOWN: -4.0}


def extraction(*spans: tuple[str, float], unsaid: float = -5.0) -> Extraction:
    return Extraction(("Crail and Skagen",), spans, unsaid, Layout((), (), ()), torch.empty(0, 2))


@pytest.mark.parametrize(
    ("written", "weight", "bias", "answer"),
    [
        # Ribe stands in no note: -1 - 12 w. Skagen: -2 - 2 w. Crail: -6 - 0.1 w. Unknown: -4 - 5 w + bias.
        ("Ribe", 0.0, 0.0, "Ribe"),
        ("Ribe", 0.09, 0.0, "Ribe"),
        ("Ribe", 0.11, 0.0, "Skagen"),
        ("Ribe", 2.0, 0.0, "Skagen"),
        ("Ribe", 2.2, 0.0, "Crail"),
        ("", 0.3, 0.0, "Skagen"),
        ("", 0.3, 2.8, "Skagen"),
        ("", 0.3, 3.0, ""),
        ("Skagen", 1.0, 5.1, ""),
        ("Skagen", 1.0, 4.9, "Skagen"),
    ],
)
def test_what_both_find_likeliest_is_answered(written: str, weight: float, bias: float, answer: str) -> None:
    found = candidates(written, extraction(("Crail", -0.1), ("Skagen", -2.0)), weight, bias)
    assert likeliest(found, [BY_WRITING[candidate.text] for candidate in found]) == answer


def test_each_answer_is_a_candidate_once_and_that_none_is_said_always_is() -> None:
    found = candidates("Skagen", extraction(("Crail", -0.1), ("Skagen", -2.0)), 0.5, 3.0)
    assert found == [("Skagen", -1.0), ("Crail", -0.05), (UNKNOWN, 0.5)]
    assert candidates("", extraction(), 0.3, 3.0) == []  # nothing to choose from


@pytest.mark.parametrize(
    ("reply", "deduced"),
    [
        ("<answer>Ribe</answer>", False),
        ("<answer>No. 7</answer>", False),
        ("<answer>Yes.</answer>", True),
        ("<answer>no", True),
        ("<answer><working>A: 1858; B: 1860; first</working>A</answer>", True),
        ("", False),
    ],
)
def test_what_is_deduced_stands_in_no_note(reply: str, deduced: bool) -> None:
    assert is_deduced(reply) is deduced


class Saying(Generator):
    """Writes the same always; what it finds likely is the model's own."""

    def __init__(self, backbone: Backbone, answer: str) -> None:
        super().__init__(backbone)
        self.answer = answer
        self.scored: list[str] = []

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        if on_text:
            on_text(self.answer)
        return Reply(f"<answer>{self.answer}</answer>", (1,), True, 1, 0)

    def log_probs(self, prompt: Prompt, replies: Sequence[str]) -> list[float]:
        self.scored += replies
        return super().log_probs(prompt, replies)


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = Engine.open(compression=CompressionSettings(encode=False))
    made.add([Document("keeper", "Ruth Calder was born in the fishing village of Crail. She kept bees in Ribe.")])
    return made


ASKED = "Where was Ruth Calder born?"
NOTED = "Ruth Calder was born in the fishing village of Crail. She kept bees in Ribe."


def answered(engine: Engine, writer: Generator, **settings: object) -> tuple[str, list[str]]:
    """Return the answer from one note, and the pieces in which it was shown."""
    shown = list[str]()
    reasoner = Reasoner(writer, engine.bank, engine.embedder, RecallSettings(**settings), "raw")
    memory = engine.ask(ASKED).memory
    assert " ".join(note.text for note in memory.notes)
    return reasoner.answer(ASKED, memory, [], Usage(), shown.append), shown


def test_a_wrong_note_is_put_right_and_shown_so(engine: Engine) -> None:
    alone, both = Saying(engine.backbone, "Ribe"), Saying(engine.backbone, "Ribe")
    assert answered(engine, alone, extractor_weight=0) == ("Ribe", ["Ribe"])
    assert alone.scored == []
    answer, shown = answered(engine, both, extractor_weight=2.0)
    assert "Crail" in answer
    assert "".join(shown) == answer
    assert {"Ribe", UNKNOWN, answer} <= set(both.scored)


@pytest.mark.parametrize("said", ["yes", "<working>Ruth: 1858; Anna: 1860; first</working>Ruth"])
def test_what_is_deduced_stays_the_reasoners(engine: Engine, said: str) -> None:
    writer = Saying(engine.backbone, said)
    assert answered(engine, writer, extractor_weight=2.0)[0] == said.split(">")[-1]
    assert writer.scored == []


def test_by_default_it_is_for_a_trained_reasoner_alone(
    engine: Engine, default_backbone: Backbone, default_embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = list[float | None]()

    class Watched(Reasoner):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            weights.append(self._settings.extractor_weight)

    monkeypatch.setattr("core.engine.Reasoner", Watched)
    engine.ask(ASKED)
    engine.ask(ASKED, settings=RecallSettings(extractor_weight=0.7))
    engine.ask(ASKED, writer=Saying(engine.backbone, "Crail"), settings=RecallSettings(extractor_weight=0.7))
    bare = Engine(default_backbone, default_embedder, CompressionSettings(encode=False))
    bare.add([Document("keeper", NOTED)])
    bare.ask(ASKED)
    other = backbone()
    other.add_adapter("reasoner", rank=2, alpha=4)
    with Engine(other, default_embedder, CompressionSettings(encode=False)) as trained:
        trained.add([Document("keeper", NOTED)])
        trained.ask(ASKED, settings=QUICK)
        trained.ask(ASKED, settings=replaced(QUICK, extractor_weight=0.7))
    assert weights == [EXTRACTOR_WEIGHT, 0.7, 0, None, 0, 0.7]


def test_without_an_extractor_the_reasoner_answers_alone(
    default_backbone: Backbone, default_embedder: Embedder
) -> None:
    assert default_embedder.extractor is None
    bare, writer = Engine(default_backbone, default_embedder, CompressionSettings()), Saying(default_backbone, "Ribe")
    reasoner = Reasoner(writer, bare.bank, bare.embedder, RecallSettings(extractor_weight=2.0), "raw")
    assert reasoner.answer(ASKED, WorkingMemory(), [], Usage()) == "Ribe"
    assert writer.scored == []


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan"), "much"])
def test_a_weight_that_is_none_is_refused(weight: object) -> None:
    with pytest.raises(InputError, match="extractor_weight"):
        RecallSettings(extractor_weight=weight)
