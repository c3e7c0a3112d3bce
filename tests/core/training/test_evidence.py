"""The stage that trains the tagger: its examples, what it learns, what it leaves behind."""

from pathlib import Path

import pytest
import torch

from core.chunking import sentences
from core.embedder import Embedder
from core.embedder_head import find_head
from core.errors import InputError
from core.evidence import EVIDENCE, Tagger
from core.headings import behind_heading
from core.questions import Paragraph, Question
from core.training.evidence import EvidenceTraining, Example, Examples, labels
from core.training.material import Material
from core.training.settings import TrainingSettings
from core.training.trainer import Trainer, accelerator

from .small_runs import backbone, settings

EDSEL = Paragraph(
    title="Edsel Ford", sentences=("Edsel Ford was an executive.", "His father was Henry Ford."), support=(1,)
)
HENRY = Paragraph(title="Henry Ford", sentences=("Henry Ford died in Dearborn.",), support=(0,))
BREAD = Paragraph(title="Bread", sentences=("Bread needs flour.",))
YEAST = Paragraph(title="Yeast", sentences=("Yeast is a fungus.", "It makes dough rise."), support=(1,))
HOPS = Question(
    id="1",
    dataset="test",
    question="Where did Edsel Ford's father die?",
    answers=("Dearborn",),
    paragraphs=(BREAD, EDSEL, HENRY),
)
SINGLE = Question(id="2", dataset="test", question="What makes dough rise?", answers=("yeast",), paragraphs=(YEAST,))


def evidence_settings(**changes: object) -> TrainingSettings:
    return settings(**{"stage": "evidence", "forms": ("raw",), "batch": 6, "evaluate_every": 100, **changes})


def stage_of(embedder: Embedder, few: Material, **changes: object) -> EvidenceTraining:
    torch.manual_seed(0)
    return EvidenceTraining(backbone(), embedder, evidence_settings(**changes), few)


def test_examples_are_the_same_everywhere_and_show_evidence_where_there_is_some() -> None:
    examples = [Examples((HOPS, SINGLE), 3).at(i) for i in range(200)]
    assert examples == [Examples((HOPS, SINGLE), 3).at(i) for i in range(200)]
    assert examples[:20] != [Examples((HOPS, SINGLE), 4).at(i) for i in range(20)]
    assert sum(e.question == HOPS.question for e in examples) == 160  # four of five
    for example in examples:
        gold = HOPS.gold if example.question == HOPS.question else SINGLE.gold
        shown = {s for p in gold if p.text in example.text for s in p.supporting}
        assert example.evidence == shown
        # What is noted is of a paragraph that is not read now, or does not matter.
        assert not any(said in note for note in example.notes for said in example.evidence)
    assert 0.3 < sum(not e.evidence for e in examples) / 200 < 0.5
    assert {"Henry Ford died in Dearborn."} in ({*e.notes} for e in examples)
    assert any("Bread needs flour." in e.text for e in examples)
    with pytest.raises(InputError, match="no question with supporting sentences"):
        Examples((), 0)


def test_paragraphs_and_notes_stand_under_their_titles_as_documents_write_them() -> None:
    examples = [Examples((HOPS, SINGLE), 3).at(i) for i in range(400)]
    over = {"His father": "Edsel Ford", "It makes": "Yeast"}
    seen = set()
    for example in examples:
        for said, title in over.items():
            if (place := example.text.find(said)) >= 0:
                line = behind_heading(example.text, place, place + 1)
                seen.add((title, line.startswith(f"{title}: "), example.text.count("# "), example.text.count("\n\n")))
                assert line in (f"{title}: {said[0]}", said[0])  # never under the title of another
    for title in over.values():
        assert {titled for name, titled, _, _ in seen if name == title} == {True, False}
    assert {marks for _, _, marks, _ in seen} >= {0, 1, 2, 3}
    assert {note for e in examples for note in e.notes} >= {
        "Edsel Ford: His father was Henry Ford.",
        "His father was Henry Ford.",
    }


def test_a_sentence_is_evidence_if_it_holds_some_or_is_part_of_it() -> None:
    text = "Edsel Ford\nEdsel Ford was an\nexecutive. His father was Henry Ford. He had\none; it was red."
    example = Example("?", (), text, frozenset({"Edsel Ford was an executive.", "He had one; it was red. So it was."}))
    assert labels(example, sentences(text)).tolist() == [1, 0, 1]


def test_a_few_steps_tell_evidence_better_and_leave_a_tagger_for_use(
    embedder: Embedder, few: Material, tmp_path: Path
) -> None:
    stage = stage_of(embedder, few, steps=8, learning_rate=2e-3, save_every=100)

    def loss() -> float:
        with torch.no_grad():
            return sum(float(stage(piece)[0]) for piece in stage.work(0, 0, 1))

    with torch.no_grad():
        start = stage.evaluate()
    assert set(start) == {"loss", "precision", "recall", "first"}
    before = loss()
    Trainer(stage, stage.settings, tmp_path, accelerator()).run()
    assert loss() < 0.9 * before

    folder = find_head(Tagger, str(tmp_path / "adapters"), embedder.name)
    assert folder == tmp_path / "adapters" / EVIDENCE
    used, example = Embedder(device="cpu", tagger=folder), Examples(few.train, 0).at(0)
    told = used.evidence(example.question, example.notes, example.text)
    with torch.no_grad():
        ((expected, _),) = stage._tagged([example])
    assert told is not None
    assert [p for _, p in told] == pytest.approx(expected.sigmoid().tolist(), abs=3e-2)


def test_what_is_measured_is_what_it_says(embedder: Embedder, few: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(embedder, few)
    read = [
        (torch.tensor([2.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, 0.0])),  # of two one is taken, and one too many
        (torch.tensor([-3.0, -2.0]), torch.tensor([1.0, 0.0])),  # the likeliest is not evidence
        (torch.tensor([-5.0, 1.0]), torch.tensor([0.0, 0.0])),
    ]
    monkeypatch.setattr(stage, "_parts", lambda _: [()])
    monkeypatch.setattr(stage, "_tagged", lambda _: read)
    found = stage.evaluate()
    assert (found["precision"], found["recall"], found["first"]) == pytest.approx((1 / 3, 1 / 3, 1 / 2))
