"""Questions asked over haystacks of their own, as a stage that learns from what comes of it."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from ..adapters import save_adapters
from ..backbone import Backbone
from ..compressor import Compressor
from ..embedder import Embedder
from ..errors import InputError
from ..evaluation.haystack import Pool, own_haystack
from ..evaluation.metrics import score_answer
from ..evaluation.withheld import Lacking
from ..questions import Question
from ..settings import CompressionSettings, Form, Ratio, RecallSettings
from .material import Material
from .question_order import QuestionOrder
from .reference import Reference
from .rollouts import Rollouts, Task
from .settings import TrainingSettings
from .shuffled import Shuffled
from .stage import Stage

_Work = TypeVar("_Work")


class Asked(NamedTuple):
    """What came of a question that was answered greedily."""

    answer: str
    outcome: float
    """R_out."""
    reward: float


class Asking(Stage[_Work]):
    """Draws questions, asks them through the recall loop, and measures on held-out ones."""

    def __init__(
        self,
        backbone: Backbone,
        settings: TrainingSettings,
        material: Material,
        embedder: Embedder,
        recall: RecallSettings,
    ) -> None:
        """
        Args:
            backbone: its trained adapters, as they are now, become the reference.
            recall: how questions are answered.
        """
        super().__init__()
        # Registered, so that the loop sees what is trained and wraps it for several processes.
        self.causal_lm = backbone.causal_lm
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        self.compressor = Compressor(backbone, CompressionSettings(ratio=4, placement=settings.placement))
        if settings.start:
            self.compressor.load_weights(Path(settings.start))
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        self.reference = Reference(trained)
        closed_book = backbone if settings.leave_out_closed_book else None
        self._order = QuestionOrder(material.train, settings.seed, closed_book)
        # Of all data sets, which lie one after the other.
        self._held_out = Shuffled(material.held_out, 0, "held out").order(0)[: settings.held_out_questions]
        if not self._held_out:
            raise InputError("there are 0 held-out questions to measure on: give more training questions in --data")
        others = (p for question in (*material.train, *material.held_out) for p in question.paragraphs)
        self._pool = Pool((*material.pool, *others))
        self.rollouts = Rollouts(
            backbone,
            self.compressor,
            embedder,
            recall,
            placement=settings.placement,
            at_once=settings.rollouts_at_once,
        )

    @abstractmethod
    def asked(self, tasks: Sequence[Task]) -> list[Asked]:
        """Answer ``tasks`` greedily, with the parameters as they are."""

    def drawn(self, step: int, process: int, processes: int) -> list[Task]:
        """Return what ``process`` of ``processes`` asks in ``step``: a question is the same in any process."""
        places = range(step * self.settings.batch, (step + 1) * self.settings.batch)[process::processes]
        return [self._drawn(place) for place in places]

    def evaluate(self) -> dict[str, float]:
        """Answer held-out questions greedily, slots at α = 4; return exact match, F1 and mean reward for each form.

        Where questions without an answer are learned from, also the share of the same questions that is declined over
        a haystack without their gold paragraphs, or without what says the answer in them.
        """
        found: dict[str, float] = {}
        for form in dict.fromkeys(self.settings.forms):
            asked = self._answered(form)
            scores = [score_answer(a.answer, q.answers) for q, a in zip(self._held_out, asked, strict=True)]
            found[f"exact_match_{form}"] = sum(score.exact_match for score in scores) / len(scores)
            found[f"f1_{form}"] = sum(score.f1 for score in scores) / len(scores)
            found[f"reward_{form}"] = sum(a.reward for a in asked) / len(asked)
            shares: dict[Lacking, float] = {"absent": self.settings.absent, "withheld": self.settings.withheld}
            for lacking, share in shares.items():
                if share:
                    declined = [a.outcome for a in self._answered(form, lacking)]
                    name = "declined" if lacking == "absent" else "declined_withheld"
                    found[f"{name}_{form}"] = sum(declined) / len(declined)
        return found

    def save(self, folder: Path) -> None:
        """Write every adapter there is, so that the next stage finds those it does not train; and the compressor's."""
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        self.compressor.save_weights(folder)

    def _answered(self, form: Form, lacking: Lacking = None) -> list[Asked]:
        return self.asked([self._task(question, form, 4, 0, "held out", lacking) for question in self._held_out])

    def _drawn(self, place: int) -> Task:
        """Return what is asked in ``place``."""
        random = Random(f"{self.settings.seed}:{place}")
        form, ratio = random.choice(self.settings.forms), random.choice(self.settings.ratios)
        lot = random.random() - self.settings.absent
        lacking: Lacking = "absent" if lot < 0 else "withheld" if lot < self.settings.withheld else None
        seed = self.settings.seed + place
        return self._task(self._order.at(place), form, ratio, seed, f"{self.settings.seed}:{place}", lacking)

    def _task(
        self, question: Question, form: Form, ratio: Ratio, haystack_seed: int, seed: str, lacking: Lacking
    ) -> Task:
        documents = max(self.settings.haystack, len(question.paragraphs))
        haystack = own_haystack(question, self._pool, documents, seed=haystack_seed, lacking=lacking)
        return Task(question, haystack.documents, form, ratio, seed, lacking is not None)
