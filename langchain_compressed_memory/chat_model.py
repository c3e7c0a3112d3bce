"""An application's own chat model as the reasoner: it reads source text and writes notes and answers."""

from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, Field

import core

UNSTREAMED = "nostream"
"""The tag by which LangGraph keeps a call's tokens out of the user's stream."""

_ANSWER_OPENING = "<answer>"


class NotesFromText(BaseModel):
    """What a text adds to the notes on a question."""

    sentences: list[str] = Field(
        description="Sentences copied word for word from the text that help to answer the question; empty if none does."
    )
    recall: str | None = Field(default=None, description="What is still missing and should be looked for, if anything.")


class ChatModelWriter:
    """Puts the reasoner's prompts to a chat model. Implements :class:`core.generation.Writer`.

    Notes are asked for as structured output where the model has it, and in tags where it does not.
    """

    def __init__(
        self, llm: BaseChatModel, count_tokens: Callable[[str], int], config: RunnableConfig, *, streaming: bool
    ) -> None:
        """
        Args:
            count_tokens: by the bank's tokenizer; what a call cost is the model's own count where it gives one.
            config: of the run that the calls belong to, so that they are traced and accounted there.
            streaming: whether the answer is wanted piece by piece; many models count their tokens only if not.
        """
        self._llm, self._count, self._config, self._streaming = llm, count_tokens, config, streaming
        self._structured = _structured(llm)

    def count_tokens(self, text: str) -> int:
        """See :class:`core.generation.Writer`."""
        return self._count(text)

    def reply(self, prompt: "core.Prompt", on_text: Callable[[str], None] | None = None) -> "core.Reply":
        """See :class:`core.generation.Writer`."""
        messages = [SystemMessage(prompt.system), HumanMessage(prompt.user)]
        if prompt.prefill != _ANSWER_OPENING:
            return self._notes(prompt, messages)
        answering: RunnableConfig = {**self._config, "run_name": "answer"}
        if not self._streaming:
            said = self._llm.invoke(messages, answering)
            return self._counted(said, _within_tag(said.text, prompt.prefill), messages)
        whole: AIMessageChunk | None = None
        for piece in self._llm.stream(messages, answering):
            whole = piece if whole is None else add_ai_message_chunks(whole, piece)
            if on_text:
                on_text(piece.text)
        said = whole or AIMessageChunk(content="")
        return self._counted(said, _within_tag(said.text, prompt.prefill), messages)

    def _notes(self, prompt: "core.Prompt", messages: list[BaseMessage]) -> "core.Reply":
        tags = [*self._config.get("tags", ()), UNSTREAMED]
        config: RunnableConfig = {**self._config, "run_name": "update", "tags": tags}
        if self._structured is None:
            said = self._llm.invoke(messages, config)
            return self._counted(said, _within_tag(said.text, prompt.prefill), messages)
        result = self._structured.invoke(messages, config)
        said, parsed = result["raw"], result["parsed"]
        text = _in_tags(parsed) if isinstance(parsed, NotesFromText) else _within_tag(said.text, prompt.prefill)
        return self._counted(said, text, messages)

    def _counted(self, said: BaseMessage, text: str, messages: list[BaseMessage]) -> "core.Reply":
        usage = getattr(said, "usage_metadata", None) or {}
        read = usage.get("input_tokens") or sum(self._count(message.text) for message in messages)
        written = usage.get("output_tokens") or self._count(text)
        return core.Reply(text, (), True, read, 0, tokens_counted=written)


def _structured(llm: BaseChatModel) -> Runnable[Any, Any] | None:
    """Return ``llm`` bound to the schema of notes, or ``None`` where it cannot be."""
    try:
        return llm.with_structured_output(NotesFromText, include_raw=True)
    except (NotImplementedError, ValueError):
        return None  # it has no tools, or not in this form


def _within_tag(text: str, opening: str) -> str:
    return text if opening in text else opening + text


def _in_tags(notes: NotesFromText) -> str:
    lines = [" ".join(sentence.split()) for sentence in notes.sentences] or ["none"]
    query = " ".join((notes.recall or "").split())
    return "<update>" + "\n".join(lines) + "</update>" + (f"<recall>{query}</recall>" if query else "")
