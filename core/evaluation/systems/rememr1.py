"""ReMemR1 (Shi et al., arXiv 2509.23040): MemAgent that can look up what it once remembered.

    (m_{t+1}, q_{t+1}) = π(Q, c_t, m_t, E({m_i}, i ≤ t, q_t)),  answer = π(Q, ∅, m_T, E({m_i}, i ≤ T, q_T))

E returns the one past memory with the largest share of the query's words. Only past memories are
searched, never the text; what was found is shown at the next step. Budgets as MemAgent's; a recalled
memory takes up to 1,024 tokens more. Prompts have the published structure, in other words, and no
example query, onto which queries are known to collapse.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...backbone import Backbone, Role
from ...chunking import token_ends
from ...generation import Generator, Prompt
from ...ingest import Document
from ...working_memory import word_recall
from ..cost import Cost
from ..haystack import as_one_text
from .boxed import boxed
from .memagent import EMPTY_MEMORY, NO_STOP, Budgets
from .system import Outcome
from .token_windows import window_tokens, windows

NOTHING_RECALLED = "Nothing was recalled"
_SYSTEM = "You are a helpful assistant."
_UPDATE = re.compile(r"<update>(.*?)(?:</update>|<recall>|\Z)", re.DOTALL)
_RECALL = re.compile(r"<recall>(.*?)(?:</recall>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class State:
    """What one step hands to the next."""

    memory: str = EMPTY_MEMORY
    past: tuple[str, ...] = ()
    """Memories that were replaced, in order; the present one is in the prompt already."""
    recalled: str | None = None

    def after(self, reply: str) -> "State":
        """Return the state that ``reply`` leads to; without an ``<update>`` the memory stays as it was."""
        update, query = _UPDATE.search(reply), _RECALL.search(reply)
        memory, past = self.memory, self.past
        if update and update.group(1).strip():
            past = past if memory == EMPTY_MEMORY else (*past, memory)
            memory = update.group(1).strip()
        return State(memory, past, best_match(query.group(1), past) if query else None)


def best_match(query: str, past: Sequence[str]) -> str | None:
    """Return the memory that holds most of the words of ``query``, the latest of equals; ``None`` if none holds any."""
    shares = [(word_recall(query, memory), step) for step, memory in enumerate(past)]
    share, step = max(shares, default=(0.0, 0))
    return past[step] if share > 0 else None


def memory_prompt(question: str, state: State, section: str, budgets: Budgets) -> Prompt:
    """Ask for the memory that follows from one window, and for what to look up."""
    user = (
        "Below are a problem, what is remembered so far, an older memory that was looked up, and a section of an "
        "article that may hold part of the answer. Read the section with care. Write the new memory inside "
        "<update></update>: keep every detail of the old one that matters, and add what helps to answer the problem. "
        "If something that was remembered earlier is needed again, write a query for it inside <recall></recall>.\n\n"
        f"{_shown(question, state)}<section>\n{section}\n</section>\n\nYour update:"
    )
    return Prompt(_SYSTEM, user, "", NO_STOP, budgets.memory)


def final_prompt(question: str, state: State, budgets: Budgets) -> Prompt:
    """Ask for the answer, from the memory and what was looked up last."""
    user = (
        "Below are a problem, what is remembered of an article, and an older memory that was looked up. Answer the "
        f"problem from them and write the answer inside \\boxed{{}}.\n\n{_shown(question, state)}Your answer:"
    )
    return Prompt(_SYSTEM, user, "", NO_STOP, budgets.answer)


def _shown(question: str, state: State) -> str:
    return (
        f"<problem>\n{question}\n</problem>\n\n<recalled_memory>\n{state.recalled or NOTHING_RECALLED}\n"
        f"</recalled_memory>\n\n<memory>\n{state.memory}\n</memory>\n\n"
    )


class ReMemR1:
    """The base model as a ReMemR1."""

    def __init__(self, backbone: Backbone, budgets: Budgets | None = None, role: Role | None = None) -> None:
        """
        Args:
            role: whose adapter writes. The base model by itself, unless told: this project's adapters are trained on
                its own prompts.
        """
        self._generator, self._budgets = Generator(backbone, role), budgets or Budgets()

    def take_in(self, documents: Sequence[Document]) -> "ReMemR1Reading":
        """See :class:`core.evaluation.systems.system.System`."""
        return ReMemR1Reading(self._generator, self._budgets, documents)


class ReMemR1Reading:
    """One text, tokenized; everything else is done anew for each question."""

    def __init__(self, generator: Generator, budgets: Budgets, documents: Sequence[Document]) -> None:
        self._generator, self._budgets, self.cost = generator, budgets, Cost()
        with self.cost.timed("cut"):
            self._text = as_one_text(documents)
            self._ends = token_ends(self._text, generator.backbone.tokenizer)

    def ask(self, question: str) -> Outcome:
        """See :class:`core.evaluation.systems.system.Corpus`."""
        cost, state = Cost(), State()
        for section in self._sections(question):
            reply = self._written(memory_prompt(question, state, section, self._budgets), "update", cost)
            with cost.timed("callback"):
                state = state.after(reply)
        return Outcome(boxed(self._written(final_prompt(question, state, self._budgets), "answer", cost)), cost)

    def _sections(self, question: str) -> list[str]:
        empty = memory_prompt(question, State(), "", self._budgets)
        tokens = window_tokens(self._generator.backbone, self._budgets.window, empty, 2 * self._budgets.memory)
        return windows(self._text, self._ends, tokens)

    def _written(self, prompt: Prompt, stage: str, cost: Cost) -> str:
        with cost.timed(stage):
            reply = self._generator.reply(prompt)
            cost.count(reply)
        return reply.text

    def close(self) -> None:
        """Nothing outlives the object."""
