"""The memory in an agent: recalls before the model is called, writes the turn afterwards, and gives a recall tool."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables.config import ensure_config

from core.errors import ExtraMissingError, InputError, MissingBankError, UnknownNamespaceError

from .conversation import as_material, turn_document, turn_id, window
from .memory import CompressedMemory
from .namespaces import chosen_namespace
from .retriever import CompressedMemoryRetriever

try:
    from langchain.agents.middleware import AgentMiddleware
    from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse
    from langgraph.runtime import Runtime
except ImportError as error:
    raise ExtraMissingError("agents need: pip install 'compressed-memory[agents]'") from error


class CompressedMemoryMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Gives ``create_agent`` a long-term memory, one namespace a user.

    The model sees the latest whole turns of the conversation and, in the system message, the stored chunks that the
    gate opens for what the user said last. The state of the graph stays as it is, so that nothing is lost and nothing
    is streamed that the user did not ask for. After each run its turns are stored.

    The namespace is the memory's own, or that of ``config["configurable"]["namespace"]``; without one the run fails.
    """

    def __init__(
        self, memory: CompressedMemory, *, window_messages: int = 20, recalled: int = 3, tool: bool = True
    ) -> None:
        """
        Args:
            window_messages: of the conversation that the model sees; a turn is never cut.
            recalled: most chunks that are recalled, of those that the gate opens.
            tool: whether the agent can ask the memory itself.

        Raises:
            InputError: a number is below 1.
        """
        super().__init__()
        for name, value in (("window_messages", window_messages), ("recalled", recalled)):
            if value < 1:
                raise InputError(f"{name}={value}: give at least 1")
        self._memory, self._window, self._recalled = memory, window_messages, recalled
        self.tools = [memory.as_tool()] if tool else []

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with the latest turns and what is recalled."""
        question, retriever, seen = self._asked(request)
        found: list[Document] = []
        if question:
            with suppress(MissingBankError, UnknownNamespaceError):  # nothing was said yet
                found = retriever.invoke(question)
        return handler(self._prepared(request, found, seen))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """See :meth:`wrap_model_call`."""
        question, retriever, seen = self._asked(request)
        found: list[Document] = []
        if question:
            with suppress(MissingBankError, UnknownNamespaceError):
                found = await retriever.ainvoke(question)
        return await handler(self._prepared(request, found, seen))

    def after_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> None:  # noqa: ARG002
        """Store the turns that the model has just seen; those that are stored already cost nothing."""
        if documents := self._said(state["messages"]):
            self._memory.add_documents(documents, namespace=self._namespace())

    async def aafter_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> None:  # noqa: ARG002
        """See :meth:`after_agent`."""
        if documents := self._said(state["messages"]):
            await self._memory.aadd_documents(documents, namespace=self._namespace())

    def _namespace(self) -> str:
        return chosen_namespace(self._memory.namespace, ensure_config())

    def _asked(self, request: ModelRequest[Any]) -> tuple[str, CompressedMemoryRetriever, list[list[AnyMessage]]]:
        """Return what the user said last, where to look for it, and the turns that the model sees anyway."""
        seen = window(request.messages, self._window)
        said = [message.text for message in request.messages if isinstance(message, HumanMessage)]
        # Turns that the model sees anyway are found too, and left out afterwards.
        namespace, most = self._namespace(), self._recalled + len(seen)
        fixed = self._memory.namespace
        retriever = self._memory.as_retriever(k=most, namespace=None if fixed else namespace)
        return (said[-1].strip() if said else ""), retriever, seen

    def _prepared(
        self, request: ModelRequest[Any], found: list[Document], seen: list[list[AnyMessage]]
    ) -> ModelRequest[Any]:
        shown = {turn_id(turn) for turn in seen if turn[0].id}
        recalled = [document for document in found if document.metadata["document_id"] not in shown]
        kept = [message for turn in seen for message in turn]
        if not recalled:
            return request.override(messages=kept)
        material = as_material(recalled[: self._recalled])
        blocks: list[Any] = [*request.system_message.content_blocks] if request.system_message else []
        system = SystemMessage(content_blocks=[*blocks, {"type": "text", "text": material}])
        return request.override(messages=kept, system_message=system)

    def _said(self, messages: list[AnyMessage]) -> list[Document]:
        documents = (turn_document(turn) for turn in window(messages, self._window))
        return [document for document in documents if document]
