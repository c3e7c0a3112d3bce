"""The memory in place of a summary: turns that leave a conversation are kept whole, and noted in short."""

from typing import TYPE_CHECKING

from langchain_core.documents import Document
from langchain_core.messages import AnyMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from .conversation import turn_document, turns
from .namespaces import chosen_namespace
from .tool import unstreamed

if TYPE_CHECKING:
    from .memory import CompressedMemory, Recollection

SUMMARY_QUESTION = "What does the user want, and what was decided?"


def summarizer(memory: "CompressedMemory", question: str) -> Runnable[list[AnyMessage], str]:
    """Return what stores messages in ``memory`` and notes them; see :meth:`CompressedMemory.as_summarizer`."""

    def stored(messages: list[AnyMessage]) -> list[Document]:
        return [document for turn in turns(messages) if (document := turn_document(turn))]

    def summarize(messages: list[AnyMessage], config: RunnableConfig) -> str:
        namespace = chosen_namespace(memory.namespace, config)
        if not (documents := stored(messages)):
            return _summary(0, None)
        memory.add_documents(documents, namespace=namespace)
        return _summary(len(documents), memory.invoke(question, unstreamed(config)))

    async def asummarize(messages: list[AnyMessage], config: RunnableConfig) -> str:
        namespace = chosen_namespace(memory.namespace, config)
        if not (documents := stored(messages)):
            return _summary(0, None)
        await memory.aadd_documents(documents, namespace=namespace)
        return _summary(len(documents), await memory.ainvoke(question, unstreamed(config)))

    return RunnableLambda(summarize, asummarize, name="compressed_memory_summarizer")


def _summary(count: int, found: "Recollection | None") -> str:
    kept = f"{count} earlier turns of this conversation are kept in long-term memory and can be recalled."
    notes = found["working_memory"] if found else ""
    return f"{kept} Noted in them:\n{notes}" if notes else kept
