"""The stage that trains the extractor: its examples, its loss, what it learns, what it leaves behind."""

from pathlib import Path

import pytest
import torch

from core.embedder import Embedder
from core.embedder_head import find_head
from core.errors import InputError
from core.evaluation.withheld import names_answer
from core.extraction import Extractor, lay_out
from core.headings import titled
from core.questions import Paragraph, Question
from core.second_look import SENTENCES
from core.training.extraction import Example, Examples, ExtractionTraining, NotedExamples, loss
from core.training.material import Material
from core.training.trainer import Trainer, accelerator

from .small_runs import backbone, settings
from .test_evidence import BREAD, HOPS
from .test_evidence import SINGLE as RISING
from .test_noted import EDSEL_II
from .test_noted import HOPS as LONG_HOPS
from .test_noted import RISING as LONG_YEAST

SINGLE = RISING.model_copy(update={"question": "What does yeast make rise?", "answers": ("dough",)})

LONG_RISING = LONG_YEAST.model_copy(update={"question": "What does yeast make rise?", "answers": ("dough",)})

OFFERED = Question(
    id="3",
    dataset="test",
    question="Which rises, dough or bread?",
    answers=("dough",),
    paragraphs=(Paragraph(title="Dough", sentences=("It rises, dough.",), support=(0,)),),
)
UNSAID = HOPS.model_copy(update={"id": "4", "answers": ("Michigan",)})


def stage_of(embedder: Embedder, few: Material, **changes: object) -> ExtractionTraining:
    torch.manual_seed(0)
    small = {"stage": "extractor", "forms": ("raw",), "batch": 6, "evaluate_every": 100}
    return ExtractionTraining(backbone(), embedder, settings(**{**small, **changes}), few)


def test_examples_are_the_same_everywhere_and_say_where_the_answer_stands() -> None:
    examples = [Examples((HOPS, SINGLE), 3).at(i) for i in range(300)]
    assert examples == [Examples((HOPS, SINGLE), 3).at(i) for i in range(300)]
    assert examples[:20] != [Examples((HOPS, SINGLE), 4).at(i) for i in range(20)]
    assert sum(e.question == HOPS.question for e in examples) == 240  # four of five
    silent = [e for e in examples if not e.places]
    assert 0.06 < len(silent) / 300 < 0.2
    assert not any(names_answer(HOPS, note) or names_answer(SINGLE, note) for e in silent for note in e.notes)
    for example in examples:
        assert len(set(example.notes)) == len(example.notes)
        said = {example.notes[note][slice(*span)] for note, span in example.places}
        assert said <= ({"Dearborn"} if example.question == HOPS.question else {"dough"})
    whole = [e for e in examples if e.question == HOPS.question and e.places]
    titled = "Edsel Ford: His father was Henry Ford."
    for example in whole:
        assert {"Henry Ford died in Dearborn."} < set(example.notes)
        assert titled in example.notes or "His father was Henry Ford." in example.notes
    assert {titled in e.notes for e in whole} == {True, False}
    assert {e.notes.index("Henry Ford died in Dearborn.") for e in whole} > {0, 1, 2}
    assert any("Edsel Ford was an executive." in note for e in whole for note in e.notes)  # of its own paragraph
    assert any(BREAD.sentences[0] in note for e in whole for note in e.notes)


def test_what_no_note_can_say_is_left_out() -> None:
    examples = Examples((HOPS, SINGLE, OFFERED, UNSAID), 3)
    assert {examples.at(i).answers for i in range(100)} == {HOPS.answers, SINGLE.answers}
    with pytest.raises(InputError, match="no question whose labelled evidence says its answer"):
        Examples((OFFERED, UNSAID), 0)


@pytest.fixture(scope="module")
def noted(judging: Embedder) -> list[Example]:
    examples = NotedExamples((LONG_HOPS, LONG_RISING), judging, 1, withheld=0.25)
    return [examples.at(i) for i in range(48)]


def test_notes_as_in_use_are_the_same_in_any_order_and_in_any_process(judging: Embedder, noted: list[Example]) -> None:
    again = NotedExamples((LONG_HOPS, LONG_RISING), judging, 1, withheld=0.25, processes=1)
    assert [again.at(i) for i in (40, 3, 47)] == [noted[i] for i in (40, 3, 47)]
    other = NotedExamples((LONG_HOPS, LONG_RISING), judging, 2, withheld=0.25)
    assert [other.at(i) for i in range(8)] != noted[:8]
    assert len(again) == 5  # of several hops four times
    assert {e.question for e in noted} == {LONG_HOPS.question, LONG_RISING.question}


def test_of_notes_as_in_use_those_say_the_answer_that_are_evidence(noted: list[Example]) -> None:
    asked = {question.question: question for question in (LONG_HOPS, LONG_RISING)}
    silent = [e for e in noted if not e.places]
    assert 0 < len(silent) < len(noted) / 2
    for example in noted:
        question = asked[example.question]
        assert 0 < len(example.notes) <= SENTENCES
        for note, span in example.places:
            assert example.notes[note][slice(*span)].lower() == question.answers[0].lower()
            assert any(said in example.notes[note] for p in question.gold for said in p.supporting)
        assert bool(example.places) == any(names_answer(question, note) for note in example.notes)
    beside = [note for e in noted for note in e.notes if titled("Edsel Ford II", EDSEL_II.sentences[0]) == note]
    assert beside or any("Baking powder" in note for e in noted for note in e.notes)  # what the tagger takes for it


def test_what_is_withheld_is_in_no_note(judging: Embedder) -> None:
    examples = NotedExamples((LONG_HOPS, LONG_RISING), judging, 1, withheld=1.0)
    drawn = [examples.at(i) for i in range(16)]
    assert not any(example.places for example in drawn)
    assert any("Edsel Ford" in note for example in drawn for note in example.notes)  # what is near is left


def test_where_nothing_is_noted_the_labels_are_learned_from(judging: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.second_look.DOUBTFUL", 1.0)
    examples = NotedExamples((LONG_HOPS, LONG_RISING), judging, 1)
    assert [examples.at(i) for i in range(4)] == [Examples((LONG_HOPS, LONG_RISING), 1).at(i) for i in range(4)]


def test_a_run_has_the_share_of_notes_as_in_use_that_was_asked_for(judging: Embedder) -> None:
    questions = (LONG_HOPS, LONG_RISING)
    stage = stage_of(judging, Material(questions, questions, ()), batch=5, noted=0.4)
    noted, plain = NotedExamples(questions, judging, 0), Examples(questions, 0)
    shown = {example for piece in stage.work(0, 0, 1) for example in piece.examples}
    # Of five places the third and the fifth.
    assert shown == {plain.at(0), plain.at(1), noted.at(0), plain.at(2), noted.at(1)}
    with torch.no_grad():
        measured = stage.evaluate()
    alone = {"loss", "f1", "declined", "declined_silent"}
    assert set(measured) == alone | {f"{name}_noted" for name in alone}


def test_notes_as_in_use_need_a_tagger(embedder: Embedder, few: Material) -> None:
    with pytest.raises(InputError, match=r"no tagger for embedder 'all-MiniLM-L6-v2'.*--noted at 0"):
        stage_of(embedder, few, noted=0.5)


def test_the_loss_is_that_of_the_answer_wherever_it_stands(embedder: Embedder) -> None:
    example = Example("Who?", ("Ann saw Ann.", "Bo."), ("Ann",), ())
    layout = lay_out(embedder.model.tokenizer, example.question, example.notes)
    named = [p and example.notes[p.note][slice(*p.span)] == "Ann" for p in layout.places]
    first, second = (row for row, is_ann in enumerate(named) if is_ann)
    log_probs = torch.full((len(layout.ids), 2), -9.0)
    log_probs[0] = torch.tensor([-1.5, -0.5])
    log_probs[first], log_probs[second] = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.0])
    assert float(loss(log_probs, layout, example)) == pytest.approx(2.0)  # none says it
    places = tuple(place for place in (layout.places[first], layout.places[second]) if place)
    both = Example(example.question, example.notes, example.answers, places)
    expected = -torch.tensor([-3.0, -4.0]).logsumexp(0)
    assert float(loss(log_probs, layout, both)) == pytest.approx(float(expected))
    gone = lay_out(embedder.model.tokenizer, example.question, ())  # what was cut off is not said
    assert float(loss(log_probs[: len(gone.ids)], gone, both)) == pytest.approx(2.0)


def test_a_few_steps_find_answers_better_and_leave_an_extractor_for_use(
    embedder: Embedder, few: Material, tmp_path: Path
) -> None:
    stage = stage_of(embedder, few, steps=8, learning_rate=2e-3, save_every=100)

    def of_a_step() -> float:
        with torch.no_grad():
            return sum(float(stage(piece)[0]) for piece in stage.work(0, 0, 1))

    with torch.no_grad():
        assert set(stage.evaluate()) == {"loss", "f1", "declined", "declined_silent"}
    before = of_a_step()
    Trainer(stage, stage.settings, tmp_path, accelerator()).run()
    assert of_a_step() < 0.9 * before
    folder = find_head(Extractor, str(tmp_path / "adapters"), embedder.name)
    assert folder == tmp_path / "adapters" / Extractor.kind
    example = Examples(few.train, 0).at(0)
    found = Embedder(device="cpu", extractor=folder).extract(example.question, example.notes)
    assert found is not None
    with torch.no_grad():
        expected = stage.head([found.layout])[0]
    torch.testing.assert_close(found.log_probs.exp(), expected.exp(), atol=3e-2, rtol=0)


def test_what_is_measured_is_what_it_says(embedder: Embedder, few: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(embedder, few)
    right = Example("Who?", ("Ann.",), ("Ann",), (lay_out(stage._tokenizer, "Who?", ("Ann.",)).places[4],))  # type: ignore[arg-type]
    half = Example("Who?", ("Ann Lee.",), ("Ann",), right.places)
    silent = Example("Who?", ("Bo.",), ("Ann",), ())
    stage._held_out = [right, half, silent, silent]
    answers = iter([("Ann", -1.0, -2.0), ("Ann Lee", -2.0, -1.0), ("Bo", -1.0, -3.0), ("Bo", -3.0, -1.0)])

    def found(*_: object) -> object:
        said, odds, unsaid = next(answers)
        return type("Found", (), {"spans": ((said, odds),), "unsaid": unsaid, "log_probs": None, "layout": None})()

    monkeypatch.setattr("core.training.extraction.extracted", found)
    monkeypatch.setattr("core.training.extraction.loss", lambda *_: torch.tensor(3.0))
    assert stage.evaluate() == pytest.approx(
        {"loss": 3.0, "f1": (1 + 2 / 3) / 2, "declined": 0.5, "declined_silent": 0.5}
    )
