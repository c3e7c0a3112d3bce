"""Small questions and a pool, made up: nobody can answer them from memory."""

from core.questions import Paragraph, Question


def paragraph(title: str, *sentences: str, support: tuple[int, ...] = ()) -> Paragraph:
    return Paragraph(title=title, sentences=sentences, support=support)


ARROWDALE = Question(
    id="arrowdale",
    dataset="made",
    question="In which town was the director of the film Arrowdale born?",
    answers=("Plovdiv",),
    paragraphs=(
        paragraph("Mira Kostova", "Mira Kostova likes tea. ", " She was born in Plovdiv.", support=(1,)),
        paragraph("Weather", "It rains in spring."),
        paragraph("Arrowdale (film)", "Arrowdale is a film directed by Mira Kostova.", "It is long.", support=(0,)),
    ),
)
MILL = Question(
    id="mill",
    dataset="made",
    question="Who owns the mill at Brenfield?",
    answers=("Jonas Ark", "Mr Ark"),
    paragraphs=(
        paragraph("Brenfield Mill", "The mill at Brenfield is owned by Jonas Ark.", support=(0,)),
        paragraph("Weather", "It rains in spring."),
    ),
)
QUESTIONS = (ARROWDALE, MILL)
POOL = tuple(
    paragraph(f"Village {number}", f"Village {number} has {number + 3} houses.", "A road leads to it.")
    for number in range(60)
)
