"""The bank's own model as a LlamaIndex ``LLM``, for the places that else reach for a hosted one."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import Field

import core
from core.streaming import Listening, streamed

if TYPE_CHECKING:
    from core.backbone import Role

_NO_STOP = "\0"
"""A string that no model writes: the reply ends where the model ends it."""


class CompressedMemoryLLM(CustomLLM):
    """A local model in its chat template, greedy, with the reasoner's adapter or without.

    The adapter is trained on this project's own prompts; on others the base as it comes is the better writer, which is
    the default.
    """

    engine: Any = Field(exclude=True)
    """A :class:`core.engine.Engine`, whose model writes."""
    adapter: bool = False
    """Whether the reasoner's adapter is on, where there is one."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a reply."""

    @property
    def metadata(self) -> LLMMetadata:
        """Name, context and room for a reply, in tokens."""
        backbone = self.engine.backbone
        return LLMMetadata(
            model_name=backbone.name,
            context_window=backbone.context_tokens,
            num_output=self.max_tokens,
            is_chat_model=True,
        )

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ANN401, ARG002
        """Write what follows ``prompt``, which is shown as what a user says."""
        return CompletionResponse(text=self._write("", prompt))

    @llm_completion_callback()
    def stream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> CompletionResponseGen:
        """See :meth:`complete`."""

        def words() -> CompletionResponseGen:
            text = ""
            for piece in streamed(partial(self._write, "", prompt)):
                if isinstance(piece, str):
                    text += piece
                    yield CompletionResponse(text=text, delta=piece)

        return words()

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:  # noqa: ANN401, ARG002
        """Write the assistant's next message. What came before the last one is shown as a transcript."""
        return _from_assistant(self._write(*_shown(messages)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:  # noqa: ANN401, ARG002
        """See :meth:`chat`. The work is done in a thread."""
        return _from_assistant(await asyncio.to_thread(self._write, *_shown(messages)))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ANN401, ARG002
        """See :meth:`complete`. The work is done in a thread."""
        return CompletionResponse(text=await asyncio.to_thread(self._write, "", prompt))

    def _write(self, system: str, user: str, listening: Listening | None = None) -> str:
        from core.generation import Generator  # brings torch

        def hear(piece: str) -> None:
            if listening is not None:
                listening.check()
                listening.say(piece)

        role: Role | None = "reasoner" if self.adapter else None
        prompt = core.Prompt(system or "You are a helpful assistant.", user, "", _NO_STOP, self.max_tokens)
        return Generator(self.engine.backbone, role).reply(prompt, hear).text.strip()


def _shown(messages: Sequence[ChatMessage]) -> tuple[str, str]:
    """Return what the system says, and the transcript up to what was said last."""
    system = "\n".join(m.content or "" for m in messages if m.role == MessageRole.SYSTEM)
    said = [m for m in messages if m.role != MessageRole.SYSTEM]
    earlier = "".join(f"{m.role.value}: {m.content or ''}\n" for m in said[:-1])
    asked = (said[-1].content or "") if said else ""
    return system, f"{earlier}\n{asked}" if earlier else asked


def _from_assistant(text: str) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text))
