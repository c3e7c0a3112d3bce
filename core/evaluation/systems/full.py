"""Everything in the context, as far as it goes; what is longer loses its middle (as LongBench, arXiv 2308.14508)."""

from collections.abc import Sequence

from ...backbone import Backbone, Role
from ...chunking import token_ends
from ...generation import Generator
from ...ingest import Document
from ...prompts import parse_answer
from ..cost import Cost
from ..haystack import as_one_text
from .passage_reader import reading_prompt
from .system import Outcome


class FullContext:
    """The base model alone."""

    def __init__(self, backbone: Backbone, context_tokens: int | None = None, role: Role | None = "reasoner") -> None:
        """
        Args:
            context_tokens: most positions to use; those that the model was trained on, if not given.
            role: whose adapter reads, where there is one.
        """
        self._generator = Generator(backbone, role)
        self._room = min(context_tokens or backbone.context_tokens, backbone.context_tokens)

    def take_in(self, documents: Sequence[Document]) -> "WholeText":
        """See :class:`core.evaluation.systems.system.System`."""
        return WholeText(self._generator, self._room, documents)


class WholeText:
    """One text, and where its tokens end."""

    def __init__(self, generator: Generator, room: int, documents: Sequence[Document]) -> None:
        self._generator, self._room, self.cost = generator, room, Cost()
        with self.cost.timed("cut"):
            self._text = as_one_text(documents)
            self._ends = token_ends(self._text, generator.backbone.tokenizer)

    def ask(self, question: str) -> Outcome:
        """See :class:`core.evaluation.systems.system.Corpus`."""
        cost = Cost()
        with cost.timed("answer"):
            reply = self._generator.reply(reading_prompt(question, self._fitting(question)))
            cost.count(reply)
        return Outcome(parse_answer(reply.text, question), cost)

    def _fitting(self, question: str) -> str:
        kept = min(len(self._ends), self._room)
        text = self._text if kept == len(self._ends) else self._first_and_last(kept)
        while (over := self._needed(question, text) - self._room) > 0 and kept > 0:
            kept = max(0, kept - over)
            text = self._first_and_last(kept)
        return text

    def _needed(self, question: str, text: str) -> int:
        prompt = reading_prompt(question, text)
        return len(self._generator.backbone.encode_chat(prompt.system, prompt.user, prompt.prefill)) + prompt.max_tokens

    def _first_and_last(self, tokens: int) -> str:
        """Return the first and the last half of so many tokens of the text."""
        half = tokens // 2
        if not half:
            return ""
        return f"{self._text[: self._ends[half - 1]]}\n…\n{self._text[self._ends[-half - 1] :]}"

    def close(self) -> None:
        """Nothing outlives the object."""
