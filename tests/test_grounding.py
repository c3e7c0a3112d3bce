"""An answer keeps to what it was answered from, or is none."""

from collections.abc import Callable

import pytest

from core.backbone import Backbone
from core.embedder import Embedder
from core.engine import Engine
from core.generation import Generator, Prompt, Reply
from core.grounding import is_grounded
from core.prompts import AnswerStream, parse_answer
from core.reasoner import Reasoner
from core.settings import CompressionSettings, RecallSettings
from core.usage import Usage
from core.working_memory import WorkingMemory

READ = (
    "In which county was Anna Holm born?",
    "Anna Holm: She was born near Oconto Falls on 4 May 1858, and kept the lighthouses of Curaçao.",
)
MADE_UP = "Rama Shillong kept the lighthouses near Oconto Falls"


@pytest.mark.parametrize(
    ("answer", "grounded"),
    [
        ("Oconto Falls", True),
        ("oconto falls.", True),
        ("Oconto", True),
        ("Ocono", False),
        ("4 May 1858", True),
        ("1885", False),
        ("185", False),
        ("Curacao", True),
        ("a lighthouse", True),
        ("kept lighthouses", True),
        # Three letters are no stem.
        ("Ann", False),
        # Half of the words made up are enough, fewer are not.
        ("Rama Falls", False),
        ("Rama Anna Holm", True),
        ("Rama Shillong of Oconto", False),
        # From the fourth word on an answer is free.
        ("She kept the lighthouses because nobody else would", True),
        # What stands nowhere and need not.
        ("yes", True),
        ("No.", True),
        ("", True),
        ("[]", True),
    ],
)
def test_an_answer_is_grounded_where_its_words_were_read(answer: str, grounded: bool) -> None:
    assert is_grounded(answer, READ) is grounded


def test_a_script_without_blanks_is_read_in_parts() -> None:
    read = ["她在哪里出生?", "她出生在北京附近的一个村庄。"]
    assert is_grounded("北京", read)
    assert not is_grounded("上海", read)


@pytest.mark.parametrize(
    "said", ["Ocono", "Oconto Falls", "She kept the lighthouses of Oconto Falls", MADE_UP, "unknown", "yes"]
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_made_up_is_neither_parsed_nor_streamed(said: str, size: int) -> None:
    reply, shown = f"<answer>{said}</answer>", list[str]()
    stream = AnswerStream(shown.append, READ)
    for start in range(0, len(reply), size):
        stream(reply[start : start + size])
    parsed = parse_answer(reply, "", READ)
    assert parsed == ("" if said in {"Ocono", MADE_UP, "unknown"} else said)
    # What is sure to be an answer is shown before it is whole.
    assert bool(shown) is (parsed != "" and len(said.split()) > 2)
    stream.finish(parsed)
    assert "".join(shown) == parsed


class Inventing(Generator):
    """Answers what nobody wrote."""

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        if on_text:
            on_text("<answer>Ocono</answer>")
        return Reply("<answer>Ocono</answer>", (1,), True, 1, 0)


@pytest.mark.parametrize(("bias", "answer"), [(3.0, ""), (0.0, "Ocono"), (None, "Ocono")])
def test_only_a_reasoner_that_may_decline_is_held_to_its_notes(
    default_backbone: Backbone, default_embedder: Embedder, bias: float | None, answer: str
) -> None:
    engine, shown = Engine(default_backbone, default_embedder, CompressionSettings()), list[str]()
    settings = RecallSettings(decline_bias=bias)
    reasoner = Reasoner(Inventing(engine.backbone), engine.bank, engine.embedder, settings, "raw")
    assert reasoner.answer(READ[0], WorkingMemory(), [], Usage(), shown.append) == answer
    assert "".join(shown) == answer
