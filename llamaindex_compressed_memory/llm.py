"""An application's own LlamaIndex ``LLM`` as the reasoner: it reads source text and writes notes and answers."""

from collections.abc import Callable

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import LLM

import core


class LLMWriter:
    """Puts the reasoner's prompts to an ``LLM``. Implements :class:`core.generation.Writer`."""

    def __init__(self, llm: LLM, count_tokens: Callable[[str], int]) -> None:
        """
        Args:
            count_tokens: by the bank's tokenizer; also of what was read and written, which LLMs report each in their
                own way or not at all.
        """
        self._llm, self._count = llm, count_tokens

    def count_tokens(self, text: str) -> int:
        """See :class:`core.generation.Writer`."""
        return self._count(text)

    def reply(self, prompt: "core.Prompt", on_text: Callable[[str], None] | None = None) -> "core.Reply":
        """See :class:`core.generation.Writer`."""
        messages = [
            ChatMessage(role=MessageRole.SYSTEM, content=prompt.system),
            ChatMessage(role=MessageRole.USER, content=prompt.user),
        ]
        text = self._llm.chat(messages).message.content or ""
        if on_text:
            on_text(text)
        read = sum(self._count(message.content or "") for message in messages)
        within = text if prompt.prefill in text else prompt.prefill + text
        return core.Reply(within, (), True, read, 0, tokens_counted=self._count(text))
