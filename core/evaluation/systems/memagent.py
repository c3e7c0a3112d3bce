"""MemAgent (Yu et al., arXiv 2507.02259): reads everything, window by window, and rewrites a memory of plain text.

    m_{t+1} = π(Q, c_t, m_t),  answer = π(Q, ∅, m_T)

The whole reply is the memory. Budgets as published: windows of 5,000 tokens, a memory of 1,024, an
answer of 1,024. A window is shorter only where the model's context leaves no room for it. Prompts
have the published structure, in other words. Nothing is kept between questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...backbone import Backbone, Role
from ...chunking import token_ends
from ...generation import Generator, Prompt
from ...ingest import Document
from ..cost import Cost
from ..haystack import as_one_text
from .boxed import boxed
from .system import Outcome
from .token_windows import window_tokens, windows

NO_STOP = "\0"
"""A string that no model writes: the reply ends where the model ends it."""
EMPTY_MEMORY = "Nothing yet"
_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class Budgets:
    """Tokens."""

    window: int = 5000
    memory: int = 1024
    answer: int = 1024


def memory_prompt(question: str, memory: str, section: str, budgets: Budgets) -> Prompt:
    """Ask for the memory that follows from one window."""
    user = (
        "Below are a problem, what is remembered so far, and a section of an article that may hold part of the answer. "
        "Read the section with care and rewrite the memory: keep every detail of the old memory that matters, and add "
        "what the section says that helps to answer the problem.\n\n"
        f"<problem>\n{question}\n</problem>\n\n<memory>\n{memory}\n</memory>\n\n<section>\n{section}\n</section>\n\n"
        "Updated memory:"
    )
    return Prompt(_SYSTEM, user, "", NO_STOP, budgets.memory)


def final_prompt(question: str, memory: str, budgets: Budgets) -> Prompt:
    """Ask for the answer, from the memory alone."""
    user = (
        "Below are a problem and what is remembered of an article. Answer the problem from the memory and write the "
        "answer inside \\boxed{}.\n\n"
        f"<problem>\n{question}\n</problem>\n\n<memory>\n{memory}\n</memory>\n\nYour answer:"
    )
    return Prompt(_SYSTEM, user, "", NO_STOP, budgets.answer)


class MemAgent:
    """The base model as a MemAgent."""

    def __init__(self, backbone: Backbone, budgets: Budgets | None = None, role: Role | None = None) -> None:
        """
        Args:
            role: whose adapter writes. The base model by itself, unless told: this project's adapters are trained on
                its own prompts.
        """
        self._generator, self._budgets = Generator(backbone, role), budgets or Budgets()

    def take_in(self, documents: Sequence[Document]) -> "MemAgentReading":
        """See :class:`core.evaluation.systems.system.System`."""
        return MemAgentReading(self._generator, self._budgets, documents)


class MemAgentReading:
    """One text, tokenized; everything else is done anew for each question."""

    def __init__(self, generator: Generator, budgets: Budgets, documents: Sequence[Document]) -> None:
        self._generator, self._budgets, self.cost = generator, budgets, Cost()
        with self.cost.timed("cut"):
            self._text = as_one_text(documents)
            self._ends = token_ends(self._text, generator.backbone.tokenizer)

    def ask(self, question: str) -> Outcome:
        """See :class:`core.evaluation.systems.system.Corpus`."""
        cost, memory = Cost(), EMPTY_MEMORY
        for section in self._sections(question):
            memory = self._written(memory_prompt(question, memory, section, self._budgets), "update", cost)
        answer = self._written(final_prompt(question, memory, self._budgets), "answer", cost)
        return Outcome(boxed(answer), cost)

    def _sections(self, question: str) -> list[str]:
        empty = memory_prompt(question, "", "", self._budgets)
        tokens = window_tokens(self._generator.backbone, self._budgets.window, empty, self._budgets.memory)
        return windows(self._text, self._ends, tokens)

    def _written(self, prompt: Prompt, stage: str, cost: Cost) -> str:
        with cost.timed(stage):
            reply = self._generator.reply(prompt)
            cost.count(reply)
        return reply.text.strip()

    def close(self) -> None:
        """Nothing outlives the object."""
