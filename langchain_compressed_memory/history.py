"""A conversation kept in a memory bank, for ``RunnableWithMessageHistory``, which LangChain deprecates and many use."""

import json
from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, message_to_dict, messages_from_dict

from core.errors import BankError, InputError

from .conversation import spoken, window
from .memory import CompressedMemory

_KEY = "message"


class CompressedChatMessageHistory(BaseChatMessageHistory):
    """The messages of one conversation, durable, in a namespace of their own.

    ``messages`` are the latest whole turns, so that a prompt stays as long as it is. What came before is in the
    bank: ``memory.as_tool()``, a retriever or a chain with ``memory`` finds it.
    """

    def __init__(self, memory: CompressedMemory, namespace: str | None = None, *, window_messages: int = 20) -> None:
        """
        Args:
            namespace: whose conversation; needed where ``memory`` has none of its own.
            window_messages: most messages that ``messages`` returns, but for the last turn, which is never cut.

        Raises:
            InputError: there is no namespace, or ``window_messages`` is below 1.
        """
        if window_messages < 1:
            raise InputError(f"window_messages={window_messages}: give at least 1")
        self._memory, self._window = memory, window_messages
        self._namespace = memory.namespace_of(namespace)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # LangChain declares an attribute
        """The latest whole turns, as they were added."""
        bank = self._memory.engine().bank
        # Twice as many, so that the first turn of the window is whole.
        ids = [name for name, *_ in bank.documents(self._namespace)][-2 * self._window :]
        held = [bank.document_metadata(self._namespace, name) for name in ids]
        stored = messages_from_dict([m for m in (metadata.get(_KEY) for metadata in held) if isinstance(m, dict)])
        return [message for turn in window(stored, self._window) for message in turn]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Store ``messages`` after those that are there, all or none."""
        first = len(self._memory.engine().bank.documents(self._namespace)) + 1
        documents = [
            Document(_text(message), id=f"message-{first + i:06d}", metadata={_KEY: message_to_dict(message)})
            for i, message in enumerate(messages)
        ]
        if documents:
            self._memory.add_documents(documents, namespace=self._namespace)

    def clear(self) -> None:
        """Remove the whole conversation, from every file of the bank."""
        try:
            self._memory.delete(namespace=self._namespace)
        except BankError:
            if self._memory.engine().bank.documents(self._namespace):
                raise  # else there is nothing to clear


def _text(message: BaseMessage) -> str:
    if said := spoken([message]):
        return said
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return f"Assistant calls: {json.dumps([{'name': c['name'], 'args': c['args']} for c in calls])}"
