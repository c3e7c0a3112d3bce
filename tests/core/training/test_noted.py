"""Answers from notes as the tagger makes them: the same everywhere, and true of those notes."""

import re
from random import Random

import pytest

from core.embedder import Embedder
from core.errors import InputError
from core.evaluation.withheld import names_answer, without_answer
from core.prompts import UNKNOWN
from core.questions import Paragraph, Question
from core.second_look import SENTENCES
from core.training.lessons import Lessons, Turn
from core.training.material import Material
from core.training.noted import ANSWERS_IN_LESSON, NotedLessons, target
from core.training.supervised import Supervised

from .small_runs import backbone, material, settings
from .test_evidence import EDSEL, HENRY, SINGLE, YEAST
from .test_evidence import HOPS as PLAIN

EDSEL_II = Paragraph(
    title="Edsel Ford II",
    sentences=(
        "Edsel Bryant Ford II is a great-grandson of Henry Ford.",
        "His father, Henry Ford II, died in Detroit, in the hospital that bears the name of the family.",
    ),
)
BAKING = Paragraph(
    title="Baking powder",
    sentences=(
        "It lightens cakes and quick breads by what it gives off in the oven, and it is sold in small tins.",
        "It makes batter and dough rise at once.",
    ),
)
HOPS = PLAIN.model_copy(update={"paragraphs": (EDSEL_II, EDSEL, HENRY)})
RISING = SINGLE.model_copy(update={"paragraphs": (YEAST, BAKING)})


@pytest.fixture(scope="module")
def turns(judging: Embedder) -> list[Turn]:
    lessons = NotedLessons((HOPS, RISING), judging, 1, withheld=0.25)
    return [turn for i in range(4) for turn in lessons.at(i).turns]


def test_processes_draw_the_same_lessons(judging: Embedder, turns: list[Turn]) -> None:
    drawn = NotedLessons((HOPS, RISING), judging, 1, withheld=0.25, processes=1)
    assert [turn for i in range(4) for turn in drawn.at(i).turns] == turns


def notes_of(turn: Turn) -> list[str]:
    return re.findall(r"^- (.*)$", turn.user.split("\nQuestion: ")[0], re.MULTILINE)


def test_lessons_are_the_same_in_any_order_and_alike_in_length(judging: Embedder, turns: list[Turn]) -> None:
    again = NotedLessons((HOPS, RISING), judging, 1, withheld=0.25)
    assert [list(again.at(i).turns) for i in (3, 0)] == [turns[-ANSWERS_IN_LESSON:], turns[:ANSWERS_IN_LESSON]]
    assert again.at(0).chunk is None
    lengths = [len(turn.user) for turn in turns]
    assert lengths == sorted(lengths)
    assert NotedLessons((HOPS, RISING), judging, 2, withheld=0.25).at(0) != again.at(0)


def test_what_the_notes_do_not_say_is_unknown_and_what_they_say_is_answered(turns: list[Turn]) -> None:
    asked = {q.question: q for q in (HOPS, RISING)}
    unknown = 0
    for turn in turns:
        question = asked[turn.user.split("Question: ")[1].splitlines()[0]]
        notes = notes_of(turn)
        assert 0 < len(notes) <= SENTENCES
        answer = turn.target.removesuffix("</answer>")
        right = [note for note in notes if any(s in note for p in question.gold for s in p.supporting)]
        assert right or answer == UNKNOWN
        if right and answer == UNKNOWN:  # the other half was withheld
            assert question.answers[0].lower() not in " ".join((question.question, *notes)).lower()
        if answer != UNKNOWN:
            assert answer == question.answers[0]
            assert answer.lower() in " ".join((question.question, *notes)).lower()
        unknown += answer == UNKNOWN
    assert 0 < unknown < len(turns) / 2


def test_labelled_evidence_takes_the_place_of_what_a_tagger_finds(judging: Embedder) -> None:
    lessons = NotedLessons((HOPS, RISING), judging, 1, labelled=1.0)
    evidence = {
        HOPS.question: ["His father was Henry Ford.", "Henry Ford died in Dearborn."],
        RISING.question: ["It makes dough rise."],
    }
    others = 0
    for turn in (turn for i in range(4) for turn in lessons.at(i).turns):
        asked = turn.user.split("Question: ")[1].splitlines()[0]
        notes = notes_of(turn)
        assert all(any(said in note for note in notes) for said in evidence[asked])
        assert turn.target == {HOPS.question: "Dearborn", RISING.question: "yeast"}[asked] + "</answer>"
        others += len(notes) - len(evidence[asked])
    assert others > 0
    read = NotedLessons((HOPS, RISING), judging, 1, labelled=0.5)
    assert read.at(0) != lessons.at(0)


def test_what_is_compared_is_answered_behind_its_working_or_not_at_all(judging: Embedder) -> None:
    compared = HOPS.model_copy(
        update={"id": "c", "question": "Did Edsel Ford die before Henry Ford?", "answers": ("yes",)}
    )
    worked = compared.model_copy(
        update={"id": "w", "question": "Who died first, Edsel Ford or Henry Ford?", "answers": ("Edsel Ford",)}
    )
    worked = worked.model_copy(update={"working": "Edsel Ford: 1943; Henry Ford: 1947"})
    turns = NotedLessons((RISING, compared, worked), judging, 1, labelled=1.0).at(0).turns
    targets = {turn.user.split("Question: ")[1].splitlines()[0]: turn.target for turn in turns}
    assert targets[worked.question] == "<working>Edsel Ford: 1943; Henry Ford: 1947</working>Edsel Ford</answer>"
    assert compared.question not in targets  # that would teach to guess
    plain = NotedLessons((RISING, compared), judging, 1, labelled=1.0).at(0).turns
    assert any(compared.question in turn.user for turn in plain)  # where nothing better is there


def test_notes_are_what_the_tagger_finds_behind_headings(turns: list[Turn]) -> None:
    noted = {note for turn in turns for note in notes_of(turn)}
    assert any("His father was Henry Ford." in note for note in noted)
    assert "Baking powder: It makes batter and dough rise at once." in noted
    assert "It makes dough rise." in noted  # nothing that could be a heading stands over so short a text
    said = [s for p in (EDSEL, HENRY, EDSEL_II, YEAST, BAKING) for s in (p.document, *p.sentences)]
    assert all(any(note.split(": ", 1)[-1] in " ".join(text.split()) for text in said) for note in noted)


@pytest.mark.parametrize(
    ("answers", "notes", "found", "wanted"),
    [
        (("Dearborn",), ("Henry Ford died in Dearborn.",), 1, "Dearborn"),
        (("the city", "dearborn"), ("Henry Ford died in Dearborn.",), 1, "the city"),  # by another name
        (("Dearborn",), ("He died in Dearborn.",), 0, UNKNOWN),  # of someone else
        (("Dearborn",), ("His father was Henry Ford.",), 1, None),  # the other half is missing
        (("born",), ("He died in Dearborn.",), 1, None),
        (("yes",), ("His father was Henry Ford.", "He died in Dearborn."), 2, "yes"),
        (("yes",), ("His father was Henry Ford.",), 1, None),  # one of two that are compared
        (("yes",), ("Bread needs flour.",), 0, UNKNOWN),
        (("Edsel Ford",), ("It is a car.", "It is named after him."), 2, "Edsel Ford"),  # the question names it
        (("Edsel Ford",), ("It is a car.",), 1, None),
    ],
)
def test_the_target_is_what_the_notes_allow(
    answers: tuple[str, ...], notes: tuple[str, ...], found: int, wanted: str | None
) -> None:
    question = Question(id="1", dataset="t", question=HOPS.question, answers=answers, paragraphs=(EDSEL, HENRY))
    assert target(question, notes, found) == wanted


@pytest.mark.parametrize(
    ("answers", "notes", "wanted"),
    [
        (("Dearborn",), ("His father was Henry Ford.",), UNKNOWN),  # near, and all that is left
        (("Dearborn",), ("Henry Ford's Dearborn home.",), None),  # it may be said all the same
        (("yes",), ("His father was Henry Ford.",), UNKNOWN),
        (("Edsel Ford",), ("It is a car.",), None),  # the question names it
    ],
)
@pytest.mark.parametrize("found", [0, 1])
def test_what_was_withheld_is_unknown(
    answers: tuple[str, ...], notes: tuple[str, ...], found: int, wanted: str | None
) -> None:
    question = Question(id="1", dataset="t", question=HOPS.question, answers=answers, paragraphs=(EDSEL,))
    assert target(question, notes, found, withheld=True) == wanted


def test_an_answer_is_withheld_with_every_sentence_that_names_it() -> None:
    home = Paragraph(
        title="Fair Lane",
        sentences=("Fair Lane is in Dearborn.", "He died in Dearborn.", "It is a house.", "It has a dam."),
        support=(1, 3),
    )
    question = HOPS.model_copy(update={"paragraphs": (BAKING, EDSEL, home, HENRY)})
    seen = {tuple((p.title, p.sentences, p.support) for p in without_answer(question, Random(i))) for i in range(20)}
    edsel = ("Edsel Ford", EDSEL.sentences, (1,))  # the first hop is left, and still evidence
    house = ("Fair Lane", ("It is a house.",), ())
    with_dam = ("Fair Lane", ("It is a house.", "It has a dam."), (1,))
    assert seen == {(edsel, house), (edsel, with_dam)}


def test_a_title_that_names_the_answer_is_withheld_too() -> None:
    town = Paragraph(
        title="Dearborn, Michigan", sentences=("It lies in Michigan.", "Dearborn is a city."), support=(1,)
    )
    question = HOPS.model_copy(update={"paragraphs": (EDSEL, town, HENRY)})
    titles = {p.title for i in range(8) for p in without_answer(question, Random(i))}
    assert titles == {"Edsel Ford", ""}


def test_an_answer_is_named_with_or_without_its_article() -> None:
    asked = HOPS.model_copy(update={"answers": ("The Ballet Theater", "A")})
    assert names_answer(asked, "It founded Ballet Theater in 1940.")
    assert names_answer(asked, "They chose A")  # an answer of nothing but an article is left as it is
    assert not names_answer(asked, "It founded the Ballet of its theater.")


def test_where_no_sentence_names_the_answer_one_half_of_the_evidence_is_withheld() -> None:
    compared = HOPS.model_copy(update={"answers": ("yes",)})
    left = {tuple(p.support for p in without_answer(compared, Random(i))) for i in range(20)}
    assert left == {((), (0,)), ((1,),)}  # of the one paragraph a sentence stays, of the other nothing


def test_a_run_has_the_share_that_was_asked_for_and_no_other_answers(
    judging: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.noted._ALIKE", 1)  # no more than is looked at
    monkeypatch.setattr("core.training.supervised._HELD_OUT_LESSONS", 1)
    chosen = settings(stage="reasoner", forms=("raw",), batch=5, noted=0.4)
    questions = (HOPS, RISING)
    stage = Supervised(backbone(), chosen, Material(questions, questions, ()), judging)
    noted, plain = NotedLessons(questions, judging, 0), Lessons(questions, ("raw",), 0, answers=False)
    shown = [lesson for step in range(2) for piece in stage.work(step, 0, 1) for lesson in piece.lessons]
    # Of ten places the third, fifth, eighth and tenth.
    expected = [plain.at(0), plain.at(1), noted.at(0), plain.at(2), noted.at(1)]
    assert shown == [*expected, plain.at(3), plain.at(4), noted.at(2), plain.at(5), noted.at(3)]
    assert not any(turn.target.endswith("</answer>") for i in range(len(plain)) for turn in plain.at(i).turns)
    assert "loss_noted" in stage.evaluate()


def test_notes_need_a_tagger(judging: Embedder) -> None:
    with pytest.raises(InputError, match=r"no tagger for embedder 'all-MiniLM-L6-v2'.*--noted at 0"):
        NotedLessons((HOPS, RISING), Embedder(device="cpu"), 0)
    with pytest.raises(InputError, match=r"noted=0\.5 needs an embedder"):
        Supervised(backbone(), settings(noted=0.5), material())
