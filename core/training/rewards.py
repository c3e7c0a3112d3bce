"""What a rollout is rewarded for: the outcome (both papers), and the steps that led there (ReMemR1).

Formulas are those of ReMemR1 (arXiv 2509.23040, multi-level reward), with y a gold answer, m_t the
working memory after turn t, c_t the chunk that the turn read, and E what its callback brought back::

    R_out   = max_y exact_match(answer, y)      where there is no y: 1 for no answer
    r_mem   = max_y recall(y, m_t) - max_y recall(y, m_{t-1})
    r_cb    = max_y recall(y, E ∪ m_t ∪ c_t) - max_y recall(y, m_t ∪ c_t)
    r_fmt   = 1 where the reply is well formed, else 0
    R_state = r_mem + r_cb + r_fmt

The paper's released code does otherwise, and is not followed: its r_mem is a level instead of a gain,
its recall is a case-sensitive substring test averaged over the answers ("no" is found in "note"),
and it counts state scores twice, so that 0.8 and 0.2 become 0.8 and 0.4. LycheeMemory (arXiv
2602.08382) rewards every turn with the outcome alone; that is an outcome share of 1.

An error in here is an error of the program, not a reward of 0: nothing is caught.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation.metrics import declines, exact_match, f1
from ..prompts import is_well_formed
from ..working_memory import word_recall
from .settings import Outcome


@dataclass(frozen=True)
class StepReward:
    """What one turn earned by itself."""

    memory: float = 0.0
    callback: float = 0.0
    form: float = 0.0

    @property
    def total(self) -> float:
        """R_state: the sum."""
        return self.memory + self.callback + self.form


def outcome_reward(answer: str, gold: Sequence[str], measure: Outcome = "exact_match") -> float:
    """Return R_out: 1 where ``answer`` is one of ``gold`` after SQuAD's normalisation, else 0; an empty one is 0.

    Where ``gold`` is empty there is no answer to be found, and it is 1 where none is given.

    Args:
        measure: ``f1`` gives an answer that is right in part the share that it is worth.
    """
    score = {"exact_match": exact_match, "f1": f1}[measure]
    return max(score(answer, y) for y in gold) if gold else float(declines(answer))


def memory_reward(gold: Sequence[str], before: str, after: str) -> float:
    """Return r_mem, from -1 to 1: how much more of a gold answer the memory holds ``after`` the turn than ``before``.

    Where notes had to leave to make room, it can be negative.
    """
    return best_recall(gold, after) - best_recall(gold, before)


def callback_reward(gold: Sequence[str], recalled: str, memory: str, chunk: str) -> float:
    """Return r_cb, from 0 to 1: what the callback added to what was at hand already.

    The paper's c_t is the chunk beside which E is shown. Here a callback may choose that chunk, so
    ``chunk`` is the one that was open when the callback was asked for, and a chunk brought back is
    part of ``recalled``. The turn that asked is rewarded: it wrote the query, or the notes that stand for one.
    """
    at_hand = f"{memory}\n{chunk}"
    return best_recall(gold, f"{recalled}\n{at_hand}") - best_recall(gold, at_hand)


def format_reward(reply: str) -> float:
    """Return r_fmt: 1 where the ``reply``, its opening included, has its tags closed and nothing around them."""
    return float(is_well_formed(reply))


def best_recall(gold: Sequence[str], found: str) -> float:
    """Return max_y recall(y, ``found``): whole words, any case, the best of the ``gold`` answers; without any, 0."""
    return max((word_recall(y, found) for y in gold), default=0.0)
