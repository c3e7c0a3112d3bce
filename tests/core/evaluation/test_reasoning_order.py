from core.evaluation.reasoning_order import reasoning_order
from core.questions import Question

from .made import ARROWDALE, paragraph


def test_the_paragraph_with_the_answer_comes_last() -> None:
    assert [p.title for p in reasoning_order(ARROWDALE)] == ["Arrowdale (film)", "Mira Kostova"]


def test_a_decomposition_decides_where_there_is_one() -> None:
    # Both paragraphs hold the first step's answer: the words of the steps tell them apart.
    question = Question(
        id="m",
        dataset="musique",
        question="Who heads the owner of Thin?",
        answers=("Rogers",),
        paragraphs=(
            paragraph("Head of the Agency", "Rogers is head of the Agency.", support=(0,)),
            paragraph("Thin", "Thin is owned by the Agency.", support=(0,)),
        ),
        decomposition=(("Thin >> owned by", "Agency"), ("who is the head of #1", "Admiral Rogers")),
    )
    assert [p.title for p in reasoning_order(question)] == ["Thin", "Head of the Agency"]


def test_without_a_sign_the_order_of_the_data_stays() -> None:
    question = ARROWDALE.model_copy(update={"answers": ("yes",)})
    assert [p.title for p in reasoning_order(question)] == ["Mira Kostova", "Arrowdale (film)"]
