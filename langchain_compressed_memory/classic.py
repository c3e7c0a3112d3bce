"""The memory in the ``memory=`` place of LangChain's classic chains, which LangChain deprecates and many use."""

from typing import Any

from pydantic import PrivateAttr

from core.errors import ExtraMissingError, InputError, MissingBankError, UnknownNamespaceError

from .conversation import as_material
from .history import CompressedChatMessageHistory
from .memory import CompressedMemory

try:
    from langchain_classic.base_memory import BaseMemory
except ImportError as error:
    raise ExtraMissingError("classic chains need: pip install 'compressed-memory[classic]'") from error


class CompressedConversationMemory(BaseMemory):
    """Gives a chain what was said lately, and of what was said before, what the gate opens for the input."""

    memory: CompressedMemory
    namespace: str | None = None
    """Whose conversation; needed where ``memory`` has none of its own."""
    memory_key: str = "history"
    input_key: str | None = None
    """Needed where a chain has several inputs."""
    output_key: str | None = None
    """Needed where a chain has several outputs."""
    window_messages: int = 8
    recalled: int = 3
    """Most earlier messages that are recalled."""

    _history: CompressedChatMessageHistory = PrivateAttr()

    def model_post_init(self, context: object, /) -> None:
        """Open the conversation."""
        super().model_post_init(context)
        self.namespace = self.memory.namespace_of(self.namespace)
        self._history = CompressedChatMessageHistory(self.memory, self.namespace, window_messages=self.window_messages)

    @property
    def memory_variables(self) -> list[str]:
        """The one key that is given."""
        return [self.memory_key]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what was recalled for the input, and the latest messages, as text."""
        latest = self._history.messages
        lines = [f"{'Human' if message.type == 'human' else 'AI'}: {message.text}" for message in latest]
        asked = str(inputs[_one(inputs, self.input_key, self.memory_variables, "input")])
        shown = {message.text for message in latest}
        try:
            retriever = self.memory.as_retriever(namespace=self._whose(), k=self.recalled + len(latest))
            found = retriever.invoke(asked) if asked.strip() else []
        except (MissingBankError, UnknownNamespaceError):
            found = []
        earlier = [d for d in found if d.page_content.partition(": ")[2] not in shown][: self.recalled]
        return {self.memory_key: "\n".join(([as_material(earlier), ""] if earlier else []) + lines)}

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        """Store what was said."""
        asked = inputs[_one(inputs, self.input_key, self.memory_variables, "input")]
        self._history.add_user_message(str(asked))
        self._history.add_ai_message(str(outputs[_one(outputs, self.output_key, [], "output")]))

    def clear(self) -> None:
        """Remove the whole conversation, from every file of the bank."""
        self._history.clear()

    def _whose(self) -> str | None:
        return None if self.memory.namespace is not None else self.namespace


def _one(values: dict[str, Any], given: str | None, not_these: list[str], what: str) -> str:
    keys = [given] if given else [key for key in values if key not in not_these]
    if len(keys) != 1 or keys[0] not in values:
        raise InputError(f"the {what} keys are {sorted(values)}: say which counts with {what}_key=")
    return keys[0]
