"""What the framework's dispatcher is told while a question is answered."""

from typing import Any, ClassVar

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from core import RecallSettings
from llamaindex_compressed_memory import CompressedMemoryQueryEngine
from llamaindex_compressed_memory.instrumentation import (
    AnswerEvent,
    CallbackEvent,
    CompressEvent,
    GateEvent,
    RecallEvent,
    UpdateEvent,
)

from .test_changes import MAGNOLIA, WORD, QuotingLLM, made


class Events(BaseEventHandler):
    seen: ClassVar[list[Any]] = []

    def handle(self, event, **kwargs):
        self.seen.append(event)


@pytest.fixture
def events():
    """Events and spans of everything that happens in a test."""
    root, handler, spans = get_dispatcher(), Events(), SimpleSpanHandler()
    held = list(root.event_handlers), list(root.span_handlers)
    root.add_event_handler(handler)
    root.add_span_handler(spans)
    handler.seen.clear()
    yield handler.seen, spans
    root.event_handlers, root.span_handlers = held


def stage(span):
    """The name of a span without its UUID."""
    return span.id_[:-37]


def test_taking_in_is_told(events):
    seen, _ = events
    engine = made(MAGNOLIA)
    engine.insert(MAGNOLIA)
    first, again = (event for event in seen if isinstance(event, CompressEvent))
    assert (first.documents, first.unchanged, first.chunks) == (1, 0, 1)
    assert first.tokens > 5
    assert first.seconds > 0
    assert (again.documents, again.unchanged, again.chunks, again.tokens) == (1, 1, 0, 0)


def test_stages_are_told_in_the_order_of_the_spine_with_counts_that_add_up(events):
    seen, _ = events
    engine = made(MAGNOLIA)
    response = engine.query(WORD)
    told = [event for event in seen if isinstance(event, RecallEvent)]
    assert [type(event) for event in told] == [GateEvent, UpdateEvent, CallbackEvent, GateEvent, AnswerEvent]
    assert [event.found for event in told] == [1, 1, 0, 0, 1]
    usage = response.metadata["usage"]
    for count in ("tokens_read", "slots_read", "tokens_written"):
        assert sum(getattr(event, count) for event in told) == usage[count]
    assert sum(event.seconds for event in told) == pytest.approx(sum(usage["seconds"].values()))
    assert told[1].class_name() == "UpdateEvent"


def test_spans_nest_as_the_spine_does_and_an_llms_own_are_inside(events):
    seen, spans = events
    made(MAGNOLIA).query(WORD)
    by_id = {span.id_: span for span in spans.completed_spans}
    (query,) = (span for span in by_id.values() if stage(span) == "CompressedMemoryQueryEngine._query")
    children = [stage(span) for span in spans.completed_spans if span.parent_id == query.id_]
    stages = ["gate", "update", "callback", "gate", "answer"]
    assert children == [f"CompressedMemoryQueryEngine.{name}" for name in stages]
    calls = [stage(by_id[span.parent_id]) for span in by_id.values() if stage(span) == "QuotingLLM.chat"]
    assert calls == ["CompressedMemoryQueryEngine.update", "CompressedMemoryQueryEngine.answer"]
    for event in seen:
        if isinstance(event, RecallEvent):
            assert stage(by_id[event.span_id]) == "CompressedMemoryQueryEngine." + type(event).__name__[:-5].lower()


@pytest.mark.parametrize("streaming", [False, True])
async def test_spans_of_a_thread_are_children_of_their_question(events, streaming):
    _, spans = events
    engine = CompressedMemoryQueryEngine(made(MAGNOLIA)._engine, llm=QuotingLLM(), streaming=streaming)
    response = await engine.aquery(WORD)
    if streaming:
        assert [word async for word in response.async_response_gen()]
    (query,) = (span for span in spans.completed_spans if stage(span) == "CompressedMemoryQueryEngine._aquery")
    assert sum(span.parent_id == query.id_ for span in spans.completed_spans) == 5
    assert not spans.open_spans


def test_a_stage_that_fails_is_dropped(events):
    _, spans = events

    class Failing(QuotingLLM):
        def complete(self, prompt, formatted=False, **kwargs):
            raise TimeoutError("no answer came")

    with pytest.raises(TimeoutError):
        CompressedMemoryQueryEngine(made(MAGNOLIA)._engine, llm=Failing()).query(WORD)
    assert "CompressedMemoryQueryEngine.update" in [stage(span) for span in spans.dropped_spans]
    assert not spans.open_spans


def test_retrieval_tells_how_many_opened(events):
    seen, _ = events
    engine = CompressedMemoryQueryEngine(made(MAGNOLIA)._engine, settings=RecallSettings(threshold=0))
    assert len(engine.as_retriever().retrieve(WORD)) == 1
    assert [event.found for event in seen if isinstance(event, GateEvent)] == [1]
