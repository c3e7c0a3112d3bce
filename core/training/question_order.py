"""Which question comes when in RL, each once in a pass; and which are left out because the base knows the answer."""

from collections.abc import Sequence
from random import Random

from ..backbone import Backbone
from ..errors import InputError
from ..evaluation.metrics import exact_match
from ..generation import Generator, Prompt
from ..prompts import ANSWER_OPENING, ANSWER_STOP, SYSTEM, answer_prompt, parse_answer
from ..questions import Question
from .shuffled import Shuffled

_DRAWS = 16
"""Questions tried in one place before the last of them is taken, known or not."""
_ANSWER_TOKENS = 24


class QuestionOrder:
    """An endless, seeded sequence of questions. What stands in a place depends on nothing but the place."""

    def __init__(self, questions: Sequence[Question], seed: int, closed_book: Backbone | None = None) -> None:
        """
        Args:
            closed_book: leaves out what this model answers, its adapters off, without any text; the
                papers drop these from their data beforehand. Here a question is tried when its turn
                comes, so that a short run does not answer the whole data set first.
        """
        if not questions:
            raise InputError("there are 0 questions to learn from: give a --data folder with train/*.jsonl.gz")
        self._questions, self._order, self._seed = tuple(questions), Shuffled(questions, seed), seed
        self._base = Generator(closed_book, None) if closed_book else None
        self._known: dict[str, bool] = {}

    def at(self, place: int) -> Question:
        """Return the question in ``place``; any place from 0 on has one."""
        question = self._order.at(place).item
        random = Random(f"{self._seed}:{place}:instead")
        for _ in range(_DRAWS):
            if not self._is_known(question):
                break
            question = random.choice(self._questions)
        return question

    def _is_known(self, question: Question) -> bool:
        if self._base is None:
            return False
        if question.id not in self._known:
            asked = answer_prompt(question.question, (), ())
            prompt = Prompt(SYSTEM, asked, ANSWER_OPENING, ANSWER_STOP, _ANSWER_TOKENS)
            answer = parse_answer(self._base.reply(prompt).text, question.question)
            self._known[question.id] = max(exact_match(answer, gold) for gold in question.answers) == 1
        return self._known[question.id]
