"""The loop on real text: what it opens, what it calls back, what it cites, and what it leaves alone."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pydoc_data.topics import topics

import numpy as np
import pytest
from numpy.typing import NDArray

from core.backbone import Backbone
from core.chunking import Span, sentences
from core.embedder import Embedder
from core.embedder_head import find_head
from core.engine import DECLINE_BIAS, Engine
from core.errors import InputError, UnknownNamespaceError
from core.evidence import Tagger
from core.gate import SimilarityGate
from core.generation import Generator, Prompt, Reply
from core.ingest import Document
from core.prompts import NOTHING_FOUND, UNKNOWN
from core.reasoner import POSSIBLE, SURE, UNTOLD, Reasoner
from core.recall import CITED, Answer, Began, Ended, Event, Opened, Recall, Step, Written, best_sources
from core.second_look import SENTENCES, best_evidence
from core.settings import CompressionSettings, Form, RecallSettings, replaced
from core.usage import Usage
from core.weights import DEFAULT_EMBEDDER
from core.working_memory import Note, WorkingMemory, find_evidence

# The reference says in the section on "break" which clause still runs; what that clause does stands
# in the section on "try", which comes first and is not near the question.
HOPS = ("try", "del", "assert", "break")
QUESTION = "When a loop is ended early, what still runs?"
FIRST_HOP = 'passes control out of a "try" statement with a "finally" clause, that "finally" clause is executed before'
SECOND_HOP = "specifies a ‘cleanup’ handler"


class ScriptedGenerator(Generator):
    """Writes what a good reader would: the sentence of the shown text that a hop needs, if it is there."""

    def __init__(self, backbone: Backbone, replies: dict[str, str]) -> None:
        super().__init__(backbone)
        self._replies = replies

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        shown = " ".join(prompt.user.partition("</text>")[0].split())
        if prompt.prefill == "<answer>":
            return Reply("<answer>the finally clause</answer>", (1,), True, 1, 0)
        text = next((reply for key, reply in self._replies.items() if key in shown), "<update>none</update>")
        return Reply(text, (1,), True, 1, 0)


class Telling(Generator):
    """Says the same of every chunk."""

    def __init__(self, backbone: Backbone, told: str) -> None:
        super().__init__(backbone)
        self._told = told

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        text = "<answer>nothing</answer>" if prompt.prefill == "<answer>" else f"<update>{self._told}</update>"
        return Reply(text, (1,), True, 1, 0)


@pytest.fixture(scope="module")
def hops(default_backbone: Backbone, default_embedder: Embedder) -> Engine:
    engine = Engine(default_backbone, default_embedder, CompressionSettings(chunk_tokens=192))
    engine.add([Document(name, topics[name]) for name in HOPS])
    return engine


def scripted(engine: Engine, settings: RecallSettings, replies: dict[str, str]) -> Answer:
    reasoner = Reasoner(ScriptedGenerator(engine.backbone, replies), engine.bank, engine.embedder, settings, "raw")
    gate = SimilarityGate(engine.embedder, settings.candidates)
    return Recall(engine.bank, gate, reasoner, settings).ask(QUESTION, "default")


READER = {
    FIRST_HOP: f"<update>{FIRST_HOP}</update>",
    SECOND_HOP: f"<update>If “finally” is present, it {SECOND_HOP}.</update>",
}


QUICK = RecallSettings(top_k=2, max_steps=2, update_tokens=32, answer_tokens=16)
"""For what hangs on no more words than these."""


def narrow(**changes: object) -> RecallSettings:
    return RecallSettings(top_k=2, raw_passages=None, **changes)


def test_a_clue_passed_over_before_it_mattered_is_called_back(hops: Engine) -> None:
    answer = scripted(hops, narrow(), READER)
    called_back = [step for step in answer.steps if step.called_back]
    assert any(SECOND_HOP in " ".join(note.quote.split()) for step in called_back for note in step.written)
    assert {note.document_id for note in answer.sources} == {"break", "try"}


def test_the_same_clue_is_lost_without_the_callback(hops: Engine) -> None:
    answer = scripted(hops, narrow(callback=False), READER)
    assert {note.document_id for note in answer.sources} == {"break"}
    assert not any(step.called_back or step.recalled.query for step in answer.steps)


def test_the_clue_is_not_found_without_the_note_that_makes_it_relevant(hops: Engine) -> None:
    answer = scripted(hops, narrow(), {SECOND_HOP: READER[SECOND_HOP]})
    assert answer.sources == ()


def test_a_query_of_the_reasoner_is_what_is_searched_for(hops: Engine) -> None:
    asked = {FIRST_HOP: f"<update>{FIRST_HOP}</update><recall>How are targets deleted?</recall>"}
    answer = scripted(hops, narrow(), asked)
    asking = next(i for i, step in enumerate(answer.steps) if step.recalled.query)
    assert answer.steps[asking].recalled.query == "How are targets deleted?"
    called_back = answer.steps[asking + 1]
    assert (called_back.called_back, called_back.chunk.document_id) == (True, "del")


def test_a_note_that_left_the_memory_is_recalled_by_a_query(hops: Engine) -> None:
    replies = {
        FIRST_HOP: f"<update>{FIRST_HOP}</update><recall>How are targets deleted?</recall>",
        "Deletion of a name": "<update>Deletion of a name removes the binding of that name from the local or global "
        "namespace</update><recall>which clause is executed before leaving the loop</recall>",
    }
    answer = scripted(hops, narrow(memory_tokens=60), replies)
    recalled = [note for step in answer.steps for note in step.recalled.notes]
    assert any("finally" in note.text for note in recalled)
    assert all(note not in answer.memory.notes for note in recalled)


def test_what_no_sentence_of_the_chunk_says_is_not_noted(hops: Engine) -> None:
    invented = {FIRST_HOP: "<update>Queen Victoria signed the treaty of Utrecht in Paris.</update>"}
    assert scripted(hops, narrow(), invented).memory.notes == ()


def test_every_source_is_the_text_at_its_span(reference_engine: Engine, reference_documents: list[Document]) -> None:
    texts = {document.document_id: document.text for document in reference_documents}
    found = 0
    for question in ("What does the assert statement insert?", "What is pass?"):
        answer = reference_engine.ask(question, settings=QUICK)
        for note in answer.sources:
            assert texts[note.document_id][note.span.start : note.span.end] == note.quote
            found += 1
        for step in answer.steps:
            whole = texts[step.chunk.document_id][step.chunk.span.start : step.chunk.span.end]
            assert whole == reference_engine.bank.text(step.chunk.chunk_id)
    assert found


@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_asking_twice_gives_the_same_answer_and_leaves_the_bank_as_it_was(reference_engine: Engine, form: str) -> None:
    before = reference_engine.bank.digest()
    settings = replaced(QUICK, form=form)
    first, second = (reference_engine.ask("What does break do in a loop?", settings=settings) for _ in range(2))
    assert (first.text, first.sources, first.memory, first.steps) == (
        second.text,
        second.sources,
        second.memory,
        second.steps,
    )
    assert first.steps
    assert reference_engine.bank.digest() == before


def test_a_trace_changes_no_answer(reference_engine: Engine) -> None:
    """The real model in the form that is the default; tests/test_trace.py has both forms on a tiny one."""
    settings = replaced(QUICK, form="raw")
    question = "What does break do in a loop?"
    asked, traced = (
        reference_engine.ask(question, settings=settings),
        reference_engine.trace(question, settings=settings).answer,
    )
    assert asked.steps
    assert (asked.text, asked.sources, asked.memory, asked.steps) == (
        traced.text,
        traced.sources,
        traced.memory,
        traced.steps,
    )


def test_the_compressed_form_reads_slots_and_no_source_text(reference_engine: Engine) -> None:
    settings = {
        form: RecallSettings(form=form, top_k=1, callback=False, update_tokens=32) for form in ("raw", "compressed")
    }
    raw, compressed = (reference_engine.ask("What is pass?", settings=settings[f]) for f in ("raw", "compressed"))
    assert raw.usage.slots_read == 0
    assert compressed.usage.slots_read == sum(step.chunk.slots for step in compressed.steps) > 0
    assert compressed.steps[0].chunk == raw.steps[0].chunk


def test_what_is_shown_is_chosen_by_the_embeddings_of_the_bank(
    hops: Engine, default_embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question embeds itself and its notes, and no text that the bank has embedded."""
    embedded: list[str] = []
    embed = default_embedder.embed

    def watched(texts: Sequence[str]) -> NDArray[np.float32]:
        embedded.extend(texts)
        return embed(texts)

    monkeypatch.setattr(default_embedder, "embed", watched)
    answer = scripted(hops, RecallSettings(top_k=2, raw_passages=1), READER)
    passages = {
        text[start:end]
        for step in answer.steps
        for text in [hops.bank.text(step.chunk.chunk_id)]
        for start, end in default_embedder.passages(text)
    }
    assert len(passages) > len(answer.steps)
    assert not passages & set(embedded)


def test_a_listener_sees_each_step_and_the_answer_as_it_grows(reference_engine: Engine) -> None:
    events: list[Event] = []
    answer = reference_engine.ask("What does the assert statement insert?", settings=QUICK, listener=events.append)
    assert tuple(e for e in events if isinstance(e, Step)) == answer.steps
    written = "".join(e.text for e in events if isinstance(e, Written))
    assert written == answer.text


def test_what_a_listener_raises_ends_the_question(reference_engine: Engine) -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference_engine.ask("What is pass?", listener=stop)
    assert reference_engine.ask("What is pass?", settings=QUICK).steps


def test_a_question_about_nothing_in_the_documents_says_so_without_a_model_call(reference_engine: Engine) -> None:
    answer = reference_engine.ask("zxqv", settings=RecallSettings(threshold=0.999))
    assert (answer.text, answer.sources, answer.steps) == (NOTHING_FOUND, (), ())
    assert answer.usage.model_calls == 0


@pytest.mark.parametrize("question", ["", "  \n", "?!"])
def test_a_question_without_words_is_refused(reference_engine: Engine, question: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(question))):
        reference_engine.ask(question)


def test_an_unknown_namespace_is_refused_naming_those_there_are(reference_engine: Engine) -> None:
    with pytest.raises(UnknownNamespaceError, match=r"no namespace 'alice'; it has: 'default'"):
        reference_engine.ask("What is pass?", "alice")


def test_a_question_longer_than_the_context_is_refused(reference_engine: Engine) -> None:
    with pytest.raises(InputError, match="positions"):
        reference_engine.ask("What is pass? " * 2500, settings=RecallSettings(threshold=0))


def test_reading_stops_at_max_steps(reference_engine: Engine) -> None:
    answer = reference_engine.ask(
        "statement", settings=RecallSettings(threshold=0, top_k=3, max_steps=3, update_tokens=8)
    )
    assert len(answer.steps) == 3


def test_retrieve_lists_what_opens_likeliest_first(reference_engine: Engine) -> None:
    opened = reference_engine.retrieve("What does the assert statement do?", settings=RecallSettings(top_k=3))
    assert opened[0].chunk.document_id == "assert"
    assert [o.gate for o in opened] == sorted((o.gate for o in opened), reverse=True)
    assert 1 <= len(opened) <= 3


def test_retrieve_among_documents_opens_chunks_of_no_others(reference_engine: Engine) -> None:
    settings = RecallSettings(threshold=0, top_k=50)
    found = reference_engine.retrieve(QUESTION, settings=settings, document_ids=["del", "pass"])
    assert {opened.chunk.document_id for opened in found} == {"del", "pass"}
    assert reference_engine.retrieve(QUESTION, settings=settings, document_ids=[]) == []
    every = {opened.chunk.chunk_id: opened for opened in reference_engine.retrieve(QUESTION, settings=settings)}
    assert all(every[opened.chunk.chunk_id].text == opened.text for opened in found)


def test_every_step_is_announced_when_its_chunk_opens(reference_engine: Engine) -> None:
    events: list[object] = []
    answer = reference_engine.ask("What does the pass statement do?", settings=QUICK, listener=events.append)
    opened = [e for e in events if isinstance(e, Opened)]
    assert [(e.chunk, e.gate, e.called_back) for e in opened] == [
        (s.chunk, s.gate, s.called_back) for s in answer.steps
    ]
    kinds = [type(e) for e in events if isinstance(e, Opened | Step)]
    assert kinds == [Opened, Step] * len(answer.steps)


class OwnModel:
    """An application's own model: it quotes the last line of what it is shown, and counts its tokens itself."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        self.prompts.append(prompt)
        if prompt.prefill == "<answer>":
            return Reply("<answer>nothing happens</answer>", (), True, 11, 0, tokens_counted=2)
        quoted = prompt.user.partition("</text>")[0].strip().splitlines()[-1]
        return Reply(f"<update>{quoted}</update>", (), True, 100, 0, tokens_counted=7)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def test_a_model_of_ones_own_reads_whole_chunks_and_its_tokens_are_counted(reference_engine: Engine) -> None:
    model = OwnModel()
    answer = reference_engine.ask("What does the pass statement do?", writer=model)
    assert answer.text == "nothing happens"
    assert answer.sources
    steps = len(answer.steps)
    assert (answer.usage.tokens_read, answer.usage.tokens_written) == (100 * steps + 11, 7 * steps + 2)
    for step, prompt in zip(answer.steps, model.prompts[:-1], strict=True):
        assert reference_engine.bank.text(step.chunk.chunk_id) in prompt.user
        assert prompt.slots == ()


def test_asked_of_chunks_it_reads_them_all_and_no_others(reference_engine: Engine) -> None:
    chunks = [c.chunk_id for c in reference_engine.bank.index("default").chunks if c.document_id in ("del", "pass")]
    answer = reference_engine.ask(QUESTION, settings=RecallSettings(threshold=1.0), writer=OwnModel(), chunk_ids=chunks)
    assert [step.chunk.chunk_id for step in answer.steps] == chunks
    with pytest.raises(InputError, match="'elsewhere'"):
        reference_engine.ask(QUESTION, chunk_ids=["elsewhere"])


def test_asked_of_documents_it_opens_and_calls_back_no_others(reference_engine: Engine) -> None:
    everything = RecallSettings(threshold=0.0, top_k=20, max_steps=20, callback_threshold=0.0)
    names = ("exceptions", "pass")
    answer = reference_engine.ask(QUESTION, settings=everything, writer=OwnModel(), document_ids=names)
    chunks = [c.chunk_id for c in reference_engine.bank.index("default").chunks if c.document_id in names]
    assert {step.chunk.chunk_id for step in answer.steps} == set(chunks)
    found = reference_engine.retrieve(QUESTION, settings=everything, document_ids=["pass"])
    assert {one.chunk.document_id for one in found} == {"pass"}
    assert reference_engine.ask(QUESTION, writer=OwnModel(), document_ids=[]).text == NOTHING_FOUND


def test_documents_that_are_not_there_are_named(reference_engine: Engine) -> None:
    for ask in (reference_engine.ask, reference_engine.retrieve, reference_engine.trace):
        with pytest.raises(InputError, match="namespace 'default' has no document 'none', 'passs': name"):
            ask(QUESTION, document_ids=["passs", "pass", "none"])
        with pytest.raises(InputError, match="one string, 'pass'"):
            ask(QUESTION, document_ids="pass")
        with pytest.raises(UnknownNamespaceError, match="no namespace 'bob'"):
            ask(QUESTION, "bob", document_ids=["pass"])
    with pytest.raises(InputError, match="both given"):
        reference_engine.ask(QUESTION, chunk_ids=[], document_ids=["pass"])


def test_stages_are_announced_and_their_counts_add_up(reference_engine: Engine) -> None:
    events: list[Event] = []
    usage = reference_engine.ask(QUESTION, listener=events.append, writer=OwnModel()).usage
    stages = [event for event in events if isinstance(event, Began | Ended)]
    for began, ended in zip(stages[::2], stages[1::2], strict=True):
        assert isinstance(began, Began)
        assert isinstance(ended, Ended)
        assert began.stage == ended.stage
    done = [event for event in stages if isinstance(event, Ended)]
    assert sum(event.tokens_read for event in done) == usage.tokens_read
    assert sum(event.tokens_written for event in done) == usage.tokens_written
    assert sum(event.found for event in done if event.stage == "update") == sum(
        len(event.written) for event in events if isinstance(event, Step)
    )


def test_slots_are_not_for_a_model_of_ones_own(reference_engine: Engine) -> None:
    with pytest.raises(InputError, match="form='compressed' reads slots of the bank's model"):
        reference_engine.ask("What?", settings=RecallSettings(form="compressed"), writer=OwnModel())


def test_what_slots_say_about_is_looked_up_in_the_text_and_what_text_says_is_copied(reference_engine: Engine) -> None:
    engine, question = reference_engine, "What happens when a pass statement is executed?"
    settings = RecallSettings(top_k=1, callback=False)
    answers = []
    for form in ("compressed", "raw"):
        reasoner = Reasoner(
            Telling(engine.backbone, "Nothing at all gets done."), engine.bank, engine.embedder, settings, form
        )
        gate = SimilarityGate(engine.embedder, settings.candidates)
        answers.append(Recall(engine.bank, gate, reasoner, settings).ask(question, "default"))
    (compressed,) = answers[0].memory.notes
    assert "null operation" in " ".join(compressed.quote.split())
    assert compressed.quote in engine.bank.text(compressed.chunk_id)
    assert answers[1].memory.notes == ()


def test_of_slots_that_tell_nothing_a_likely_sentence_is_noted(reference_engine: Engine) -> None:
    engine, everything = reference_engine, RecallSettings(threshold=0, top_k=20, max_steps=20)

    def notes(question: str, form: Form, settings: RecallSettings = everything) -> list[str]:
        reasoner = Reasoner(Telling(engine.backbone, "none"), engine.bank, engine.embedder, settings, form)
        gate = SimilarityGate(engine.embedder, settings.candidates)
        answer = Recall(engine.bank, gate, reasoner, settings).ask(question, "default")
        for note in answer.memory.notes:
            assert note.quote in engine.bank.text(note.chunk_id)
        return [note.text for note in answer.memory.notes]

    near = "What happens when a pass statement is executed?"
    noted = notes(near, "compressed")
    assert any("nothing happens" in note for note in noted)
    assert len(noted) < 6  # of twenty chunks: what is not likely is left out
    assert notes("Who painted the ceiling of the chapel in Rome?", "compressed") == []
    assert notes(near, "compressed", replaced(everything, likely_notes=False)) == []
    assert notes(near, "raw") == []  # whoever reads the text itself is believed


class Noting(Telling):
    """Says the same of every chunk, and keeps what it was shown."""

    def __init__(self, backbone: Backbone, told: str) -> None:
        super().__init__(backbone, told)
        self.shown: list[str] = []

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        if prompt.prefill == "<update>":
            self.shown.append(prompt.user)
        return super().reply(prompt, on_text)


@pytest.fixture(scope="module")
def judging() -> Embedder:
    return Embedder(tagger=find_head(Tagger, "default", DEFAULT_EMBEDDER))


STATEMENT = "What happens when a pass statement is executed?"
SAYS_IT = "when it is executed, nothing happens"
EVERYTHING = RecallSettings(threshold=0, top_k=50, max_steps=50, callback=False, raw_passages=None, read_when_sure=True)


def judged(
    engine: Engine, embedder: Embedder, told: str, form: Form = "raw", settings: RecallSettings = EVERYTHING
) -> tuple[Answer, list[str]]:
    writer = Noting(engine.backbone, told)
    reasoner = Reasoner(writer, engine.bank, embedder, settings, form)
    gate = SimilarityGate(engine.embedder, settings.candidates)
    return Recall(engine.bank, gate, reasoner, settings).ask(STATEMENT, "default"), writer.shown


@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_evidence_that_the_reader_misses_is_noted(reference_engine: Engine, judging: Embedder, form: Form) -> None:
    answer, _ = judged(reference_engine, judging, "none", form)
    assert any(SAYS_IT in note.text for note in answer.memory.notes)
    for note in answer.memory.notes:
        assert note.quote in reference_engine.bank.text(note.chunk_id)
    missed, _ = judged(reference_engine, judging, "none", form, replaced(EVERYTHING, likely_notes=False))
    assert missed.memory.notes == ()


def test_a_chunk_without_evidence_is_not_shown_to_the_reader_and_would_have_added_nothing(
    reference_engine: Engine, judging: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, shown = judged(reference_engine, judging, "none")
    assert 0 < len(shown) < len(quick.steps)
    assert any(SAYS_IT in " ".join(text.split()) for text in shown)
    # The slow path: whatever the tagger says, the reader is asked; here it quotes a line of another subject.
    irrelevant = "The target list is evaluated"
    fast, _ = judged(reference_engine, judging, irrelevant)
    monkeypatch.setattr("core.reasoner.all", lambda _: False, raising=False)
    slow, asked = judged(reference_engine, judging, irrelevant)
    assert len(asked) == len(slow.steps)
    assert slow.memory == fast.memory
    assert slow.sources == fast.sources


@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_of_what_the_tagger_is_sure_it_notes_without_the_reader_what_it_notes_beside_a_silent_one(
    reference_engine: Engine, judging: Embedder, form: Form
) -> None:
    slow, asked = judged(reference_engine, judging, "none", form)
    fast, shown = judged(reference_engine, judging, "none", form, replaced(EVERYTHING, read_when_sure=False))
    assert fast.steps == slow.steps
    assert fast.memory == slow.memory
    in_doubt, known = 0, list[str]()
    for step in fast.steps:
        judgements = judging.evidence(STATEMENT, known, reference_engine.bank.text(step.chunk.chunk_id)) or ()
        in_doubt += POSSIBLE < max(odds for _, odds in judgements) <= SURE
        known = [note.line for note in step.memory.notes]
    assert 0 < in_doubt == len(shown) < len(asked)


def test_of_what_is_possible_the_reader_decides(reference_engine: Engine, judging: Embedder) -> None:
    bank, tried = reference_engine.bank, 0
    for chunk in bank.index("default").chunks:
        text = bank.text(chunk.chunk_id)
        odds = judging.evidence(STATEMENT, (), text)
        assert odds is not None
        for span, probability in odds:
            told = " ".join(text[span.start : span.end].split())
            reasoner = Reasoner(Telling(reference_engine.backbone, told), bank, judging, EVERYTHING, "raw")
            update = reasoner.update(STATEMENT, WorkingMemory(), chunk, 1.0, (), Usage())
            noted = [note.text for note in update.written]
            if find_evidence(told, text) == span:
                assert (told in noted) == (probability > POSSIBLE)
                tried += POSSIBLE < probability <= SURE
            untold = sorted((p for s, p in odds if p > SURE and s != span), reverse=True)[:UNTOLD]
            likeliest = [s for s, p in odds if p in untold]
            assert all(" ".join(text[s.start : s.end].split()) in noted for s in likeliest)
            if find_evidence(told, text) == span:
                assert len(update.written) == len(untold) + (probability > POSSIBLE)
    assert tried > 2


def test_of_many_alike_the_likeliest_are_noted(default_backbone: Backbone) -> None:
    class Generous(Embedder):
        def evidence(self, question: str, notes: object, text: str) -> list[tuple[Span, float]]:
            spans = sentences(text)
            return [(span, 0.6 + 0.3 * (7 * row % len(spans)) / len(spans)) for row, span in enumerate(spans)]

    judging = Generous()
    with Engine(default_backbone, judging, CompressionSettings(encode=False)) as engine:
        engine.add([Document("methods", topics["string-methods"][:4283])])
        (chunk,) = engine.bank.index("default").chunks
        odds = judging.evidence(STATEMENT, [], engine.bank.text(chunk.chunk_id))
        reasoner = Reasoner(Telling(default_backbone, "none"), engine.bank, judging, EVERYTHING, "raw")
        update = reasoner.update(STATEMENT, WorkingMemory(), chunk, 1.0, (), Usage())
    assert all(p > SURE for _, p in odds)
    assert len(odds) > UNTOLD
    likeliest = sorted(odds, key=lambda pair: -pair[1])[:UNTOLD]
    assert {note.span for note in update.written} == {span for span, _ in likeliest}


def test_an_answer_rests_on_what_is_best_when_all_is_read(reference_engine: Engine, judging: Embedder) -> None:
    answer, _ = judged(reference_engine, judging, "The target list is evaluated")
    notes, bank = answer.memory.notes, reference_engine.bank
    read = {step.chunk.chunk_id: step for step in answer.steps}
    ids = list(read)
    told = {(n.chunk_id, n.span) for step in answer.steps for n in step.written if n.told}
    found = best_evidence(
        judging,
        STATEMENT,
        [bank.text(i) for i in ids],
        {(ids.index(i), Span(s.start - read[i].chunk.span.start, s.end - read[i].chunk.span.start)) for i, s in told},
    )
    assert [(note.chunk_id, note.odds) for note in notes] == [(ids[f.text], f.odds) for f in found]
    assert 1 < len(notes) <= SENTENCES
    for note in notes:
        assert note.told == ((note.chunk_id, note.span) in told)
        assert note.gate == read[note.chunk_id].gate
        assert bank.text(note.chunk_id)[note.span.start - read[note.chunk_id].chunk.span.start :].startswith(note.quote)
    # What was noted on the way and is not needed in the end has left.
    before = {(n.document_id, n.span) for n in answer.steps[-1].memory.notes}
    kept = {(n.document_id, n.span) for n in notes}
    assert {(n.document_id, n.span) for n in answer.memory.past} >= before - kept
    sure = {note for note in notes if note.odds is not None and note.odds > CITED}
    assert sure <= set(answer.sources) <= set(notes)
    # Without it, what was noted on the way stays.
    settings = replaced(EVERYTHING, second_look=False)
    plain, _ = judged(reference_engine, judging, "The target list is evaluated", settings=settings)
    assert plain.memory == answer.steps[-1].memory


def test_the_tagger_and_the_answer_read_notes_behind_their_headings(default_backbone: Backbone) -> None:
    class Sure(Embedder):
        def __init__(self) -> None:
            super().__init__(tagger=find_head(Tagger, "default", DEFAULT_EMBEDDER))
            self.known: list[list[str]] = []

        def evidence(self, question: str, notes: Sequence[str], text: str) -> list[tuple[Span, float]]:
            self.known.append(list(notes))
            return [(span, 0.9) for span in sentences(text) if text[span.start : span.end].endswith(".")]

    class Heard(Telling):
        asked = ""

        def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
            self.asked = prompt.user
            return super().reply(prompt, on_text)

    sure, writer = Sure(), Heard(default_backbone, "none")
    with Engine(default_backbone, sure, CompressionSettings(encode=False)) as engine:
        engine.add([Document("a", "Anna Holm\n\nShe kept a diary."), Document("j", "Jens Holm\n\nHe kept a boat.")])
        reasoner = Reasoner(writer, engine.bank, sure, EVERYTHING, "raw")
        recall = Recall(engine.bank, SimilarityGate(sure, EVERYTHING.candidates), reasoner, EVERYTHING)
        answer = recall.ask("What did they keep?", "default")
    lines = {"Anna Holm: She kept a diary.", "Jens Holm: He kept a boat."}
    assert len(answer.steps) == 2
    assert sure.known[0] == []
    assert len(sure.known[1]) == 1
    assert {line for known in sure.known for line in known} <= lines
    assert {line.removeprefix("- ") for line in writer.asked.splitlines() if line.startswith("- ")} == lines


def test_doubtful_notes_are_cited_only_for_what_they_say() -> None:
    def doubted(text: str, odds: float | None, heading: str | None = None) -> Note:
        return Note(text, text, "", text, Span(0, 1), 1.0, heading, odds=odds)

    sure, says, doubtful, told = (
        doubted("Anna kept it.", 0.9),
        doubted("She kept a diary in Ribe.", 0.2, "Anna Holm"),
        doubted("Jens lit it.", 0.3),
        doubted("Oil was used.", None),
    )
    assert set(best_sources("Anna Holm, Ribe", (sure, says, doubtful, told))) == {sure, says, told}
    assert best_sources("Oil", (doubtful, says)) == (doubtful,)
    assert best_sources("Oil", ()) == ()


def test_where_the_notes_do_not_say_it_nothing_is_answered_and_nothing_cited(
    reference_engine: Engine, judging: Embedder
) -> None:
    class Honest(Telling):
        def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
            return replace(super().reply(prompt), text="<answer>unknown</answer>")

    reasoner = Reasoner(Honest(reference_engine.backbone, ""), reference_engine.bank, judging, EVERYTHING, "raw")
    gate = SimilarityGate(reference_engine.embedder, EVERYTHING.candidates)
    answer = Recall(reference_engine.bank, gate, reasoner, EVERYTHING).ask(STATEMENT, "default")
    assert answer.memory.notes
    assert (answer.text, answer.sources) == (NOTHING_FOUND, ())


def test_the_bias_decides_when_nothing_is_answered() -> None:
    with Engine.open(compression=CompressionSettings(encode=False)) as engine:
        engine.add([Document("keeper", "Ruth Calder was born in the fishing village of Crail. She kept bees.")])

        def asked(bias: float | None) -> tuple[str, int]:
            answer = engine.ask("Where was Ruth Calder born?", settings=RecallSettings(decline_bias=bias))
            assert answer.memory.notes
            return answer.text, len(answer.sources)

        assert asked(99) == (NOTHING_FOUND, 0)
        assert asked(0) == asked(None)
        assert "Crail" in asked(None)[0]


def test_only_a_trained_reasoner_is_made_to_decline(reference_engine: Engine, default_backbone: Backbone) -> None:
    biases = list[tuple[str, float] | None]()

    class Watched(Generator):
        def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
            if prompt.prefill == "<answer>":
                biases.append(prompt.favoured)
            return super().reply(prompt, on_text)

    with Engine.open(compression=CompressionSettings(encode=False)) as trained, pytest.MonkeyPatch.context() as patch:
        trained.add([Document("keeper", "Ruth Calder was born in the fishing village of Crail. She kept bees.")])
        patch.setattr("core.engine.Generator", Watched)
        trained.ask("Where was Ruth Calder born?")
        reference_engine.ask(STATEMENT, settings=QUICK)
        reference_engine.ask(STATEMENT, settings=replaced(QUICK, decline_bias=0.5))
    assert not default_backbone.adapters
    assert biases == [(UNKNOWN, DECLINE_BIAS), None, (UNKNOWN, 0.5)]


@pytest.mark.parametrize("bias", [-1, float("inf"), float("nan"), "much"])
def test_a_bias_that_is_none_is_refused(bias: object) -> None:
    with pytest.raises(InputError, match="decline_bias"):
        RecallSettings(decline_bias=bias)


def test_a_model_of_ones_own_is_believed(reference_engine: Engine, judging: Embedder) -> None:
    own, engine = OwnModel(), reference_engine
    plain = engine.ask(STATEMENT, writer=(alone := OwnModel()), settings=QUICK)
    engine.embedder, before = judging, engine.embedder
    try:
        judged_too = engine.ask(STATEMENT, writer=own, settings=QUICK)
    finally:
        engine.embedder = before
    assert judged_too.memory == plain.memory
    assert [prompt.user for prompt in own.prompts] == [prompt.user for prompt in alone.prompts]
    assert len(own.prompts) == len(plain.steps) + bool(plain.memory.notes)


def test_a_second_look_puts_no_headings_before_a_model_of_ones_own(
    default_backbone: Backbone, default_embedder: Embedder
) -> None:
    said, own = "She kept a diary of every storm that she saw.", OwnModel()
    with Engine(default_backbone, default_embedder, CompressionSettings(encode=False)) as engine:
        engine.add([Document("keepers", f"Anna Holm\n\nThe keeper of the lighthouse.\n{said}")])
        answer = engine.ask("What did the keeper of the lighthouse keep?", writer=own, settings=QUICK)
    assert [(note.heading, note.text.endswith(said)) for note in answer.memory.notes] == [("Anna Holm", True)]
    assert "Anna Holm" not in own.prompts[-1].user
