"""What a query engine returns, in one piece or as it is written, to both colours of caller."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Protocol

from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.schema import NodeWithScore
from llama_index.core.types import TokenAsyncGen, TokenGen

import core
from core.streaming import Listening, astreamed, in_thread, streamed

from .nodes import source_node


class Ask(Protocol):
    """Answers a question that is known already."""

    def __call__(self, listening: Listening | None = None) -> "core.Answer":
        """Return the answer; its words are said to ``listening`` as they come."""
        ...


@dataclass(frozen=True)
class Responder:
    """Turns an answer from a namespace into a response."""

    engine: "core.Engine"
    namespace: str
    ask: Ask
    more: Sequence[NodeWithScore] = ()
    """Source nodes beside the answer's own."""

    def respond(self) -> Response:
        """Answer."""
        answer = self.ask()
        return Response(answer.text, self._sources(answer), _metadata(answer))

    async def arespond(self) -> Response:
        """Answer in a thread."""
        answer = await in_thread(self.ask)
        return Response(answer.text, await asyncio.to_thread(self._sources, answer), _metadata(answer))

    def stream(self) -> StreamingResponse:
        """Answer word by word, once the words are taken."""
        found = _Found()
        return StreamingResponse(self._words(found), found.nodes, found.metadata)

    def astream(self) -> AsyncStreamingResponse:
        """Answer word by word, in a thread."""
        found = _Found()
        return AsyncStreamingResponse(self._awords(found), found.nodes, found.metadata)

    def _words(self, found: "_Found") -> TokenGen:
        said = ""
        for piece in streamed(self.ask):
            text = piece if isinstance(piece, str) else self._rest(piece.result, said, found)
            said += text
            if text:
                yield text

    async def _awords(self, found: "_Found") -> TokenAsyncGen:
        said = ""
        async with aclosing(astreamed(self.ask)) as pieces:
            async for piece in pieces:
                text = piece if isinstance(piece, str) else self._rest(piece.result, said, found)
                said += text
                if text:
                    yield text

    def _rest(self, answer: "core.Answer", said: str, found: "_Found") -> str:
        """Fill in what was ``found`` and return what of the answer no model wrote: that it was nothing."""
        found.nodes.extend(self._sources(answer))
        found.metadata.update(_metadata(answer))
        return answer.text.removeprefix(said)

    def _sources(self, answer: "core.Answer") -> list[NodeWithScore]:
        nodes: dict[str, NodeWithScore] = {}
        for note in answer.sources:
            found = source_node(
                self.engine, self.namespace, note.document_id, note.span.start, note.quote, note.gate, node_id=None
            )
            nodes.setdefault(
                found.node.node_id, found
            )  # a splitter's nodes overlap: what two of them say is one source
        return [*nodes.values(), *self.more]


@dataclass(frozen=True)
class _Found:
    """What a streaming response holds from the start and is filled when the last word has come."""

    nodes: list[NodeWithScore] = field(default_factory=list)
    metadata: dict[str, object] = field(default_factory=dict)


def _metadata(answer: "core.Answer") -> dict[str, object]:
    return {"working_memory": answer.memory.text, "usage": asdict(answer.usage)}
