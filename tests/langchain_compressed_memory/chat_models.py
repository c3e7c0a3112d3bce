"""Chat models that read in the reasoner's place: two that quote without thinking, and a real small one."""

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

from core.backbone import Backbone
from core.generation import Generator, Prompt


class QuotingChatModel(BaseChatModel):
    """Notes the line with most words of the question, answers with its last note, says it read 100 and wrote 10."""

    @property
    def _llm_type(self) -> str:
        return "quoting"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = AIMessage(self._said(messages[-1].text), usage_metadata=_USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        words = self._said(messages[-1].text).split(" ")
        for i, word in enumerate(words):
            last = i == len(words) - 1
            said = AIMessageChunk(word if last else word + " ", usage_metadata=_USAGE if last else None)
            chunk = ChatGenerationChunk(message=said)
            if run_manager:
                run_manager.on_llm_new_token(said.text, chunk=chunk)
            yield chunk

    def _said(self, asked: str) -> str:
        if "<text>" in asked:
            shown, _, rest = asked.partition("<text>")[2].partition("</text>")
            wanted = set(rest.rpartition("Question: ")[2].splitlines()[0].lower().strip("?").split())
            lines = shown.strip().splitlines()
            return f"<update>{max(lines, key=lambda line: len(wanted & set(line.lower().split())))}</update>"
        notes = [line for line in asked.splitlines() if line.startswith("- ")]
        return f"<answer>{notes[-1][2:]}</answer>"


_USAGE = UsageMetadata(input_tokens=100, output_tokens=10, total_tokens=110)


class StructuredChatModel(QuotingChatModel):
    """The same, with tools: its notes are the arguments of a call."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not kwargs.get("tools"):
            return super()._generate(messages, stop, run_manager, **kwargs)
        quoted = self._said(messages[-1].text).removeprefix("<update>").removesuffix("</update>")
        arguments = {"sentences": [quoted], "recall": None}
        call = {"name": "NotesFromText", "args": arguments, "id": "1", "type": "tool_call"}
        message = AIMessage("", tool_calls=[call], usage_metadata=_USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if kwargs.get("tools"):
            message = self._generate(messages, tools=kwargs["tools"]).generations[0].message
            assert isinstance(message, AIMessage)
            yield ChatGenerationChunk(message=AIMessageChunk(**message.model_dump(exclude={"type"})))
            return
        yield from super()._stream(messages, stop, run_manager, **kwargs)


class LocalChatModel(BaseChatModel):
    """The default base model, without adapters, as an application would wrap a model of its own."""

    backbone: Any

    @property
    def _llm_type(self) -> str:
        return "local"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        assert isinstance(self.backbone, Backbone)
        system, user = messages[0].text, messages[-1].text
        reply = Generator(self.backbone, None).reply(Prompt(system, user, "", "\0", 48))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(reply.text))])
