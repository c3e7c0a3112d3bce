"""Reads opened chunks and writes: the transition (ReMemR1, section 3.1) and the answer, in both forms of recall."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .chunking import Span, sentences
from .embedder import Embedder
from .generation import Prompt, Scorer, Writer
from .headings import heading_of
from .memory_bank import MemoryBank
from .passage_index import StoredChunk
from .prompts import (
    ANSWER_OPENING,
    ANSWER_STOP,
    UNKNOWN,
    UPDATE_OPENING,
    UPDATE_STOP,
    AnswerStream,
    Instructions,
    answer_prompt,
    is_deduced,
    parse_answer,
    parse_update,
    update_prompt,
)
from .reader_fusion import Candidate, candidates, likeliest
from .second_look import best_evidence
from .settings import Form, RecallSettings
from .usage import Usage
from .working_memory import Note, WorkingMemory, find_evidence, find_quotations

LIKELY = 0.57
"""Cosine to the question from which a passage is likelier gold than not (docs/benchmarks.md, gate: the midpoint)."""
SURE, POSSIBLE = 0.5, 0.2
"""P(evidence) by the tagger above which a sentence is noted though the reader does not tell of it, and below which it
is not though the reader does."""
UNTOLD = 2
"""Sentences of a chunk that are noted, the likeliest, of those that the reader does not tell of. A manual says much the
same of many things, and a small reader answers from the wrong one of five notes."""


@dataclass(frozen=True)
class Update:
    """What reading one chunk changed."""

    memory: WorkingMemory
    written: tuple[Note, ...]
    """Notes that this chunk gave."""
    query: str | None
    """What the reasoner asks to have called back."""


class Reasoner:
    """Reads one chunk at a time and rewrites working memory; answers from memory alone."""

    def __init__(
        self,
        writer: Writer,
        bank: MemoryBank,
        embedder: Embedder,
        settings: RecallSettings,
        form: Form,
        instructions: Instructions | None = None,
    ) -> None:
        self._writer, self._bank, self._embedder = writer, bank, embedder
        self._settings, self._form = settings, form
        self._instructions = instructions or Instructions()

    def update(
        self,
        question: str,
        memory: WorkingMemory,
        chunk: StoredChunk,
        gate: float,
        recalled: Sequence[Note],
        usage: Usage,
    ) -> Update:
        """Read ``chunk``, opened with P(open) ``gate``, and return the memory that follows.

        What is noted is a sentence of the chunk, so that every note has a source and an invented fact is not recalled
        later. Of source text it is the sentence that a line was copied from, and a line that none holds is left out.
        From slots a model tells that something helps and what it is about, and seldom to the letter: there it is the
        sentence nearest to the question and the line. (Of 24 SQuAD questions with their paragraph open the gold
        sentence was found so for 17 of the 20 that the reader noted anything for, by words for 9.)
        Where there is a tagger (:mod:`core.evidence`) it judges every sentence beside the reader: what either is sure
        of is noted, unless the other all but rules it out. A chunk of which it rules out every sentence is not shown to
        the reader, of whose lines none would be noted; nor, unless ``read_when_sure``, is one of which it is sure of a
        sentence: the reader takes most of a question's time and finds the same. Without a tagger, where slots tell
        nothing, the sentence nearest to the question is noted if by its embedding alone it is likelier than not to be
        evidence (``likely_notes``).
        """
        text = self._bank.text(chunk.chunk_id)
        known = [note.line for note in memory.notes]
        judged = self._embedder.evidence(question, known, text) if self._settings.likely_notes else None
        if judged is not None and all(odds <= POSSIBLE for _, odds in judged):
            return Update(memory, (), None)
        sure = judged is not None and any(odds > SURE for _, odds in judged)
        told, query = list[Span](), None
        if not sure or self._settings.read_when_sure:
            told, query = self._read(question, memory, chunk, text, recalled, usage)
        if judged is not None:
            untold = sorted(((odds, span) for span, odds in judged if odds > SURE and span not in told), reverse=True)
            likeliest = {span for _, span in untold[:UNTOLD]}
            found = [span for span, odds in judged if span in likeliest or (span in told and odds > POSSIBLE)]
        elif self._form != "raw" and not told and self._settings.likely_notes:
            near = self._embedder.nearest_span(text, sentences(text), question, LIKELY)
            found = [near] if near else []
        else:
            found = told
        written = tuple(self._note(chunk, text, evidence, gate, told=evidence in told) for evidence in found)
        return Update(memory.updated(written, self._fits), written, query)

    def look_again(
        self, question: str, memory: WorkingMemory, opened: Sequence[tuple[StoredChunk, float]]
    ) -> WorkingMemory:
        """Return the memory that ``question`` is answered from, when ``opened`` were read, each with its P(open).

        With ``second_look``, where there is a tagger, that is what it finds best in all of them together
        (:mod:`core.second_look`), the likeliest first, whatever was noted on the way: then it was not known what else
        there is. Elsewhere the memory stays as it is.
        """
        if not (self._settings.second_look and self._settings.likely_notes) or self._embedder.tagger is None:
            return memory
        read = list({chunk.chunk_id: (chunk, gate) for chunk, gate in opened}.values())
        texts = [self._bank.text(chunk.chunk_id) for chunk, _ in read]
        held = {(note.chunk_id, note.span) for note in (*memory.notes, *memory.past) if note.told}
        told = {
            (row, Span(span.start - chunk.span.start, span.end - chunk.span.start))
            for row, (chunk, _) in enumerate(read)
            for chunk_id, span in held
            if chunk_id == chunk.chunk_id
        }
        found = [
            self._note(read[row][0], texts[row], span, read[row][1], told=(row, span) in told, odds=odds)
            for row, span, odds in best_evidence(self._embedder, question, texts, told)
        ]
        return memory.chosen(found, self._fits) if found else memory

    def answer(
        self,
        question: str,
        memory: WorkingMemory,
        recalled: Sequence[Note],
        usage: Usage,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """Answer from working memory and what was called back last, with no slots open.

        With ``extractor_weight``, where the embedder has an extractor and the writer tells how likely an answer is, it
        is what both find likeliest (:mod:`core.reader_fusion`), unless it is deduced rather than said.

        Returns:
            The answer; empty where the reasoner declines, and, with ``decline_bias``, where what it says is in nothing
            that it was shown.
        """
        notes, called_back = _lines(memory.notes), _lines(recalled)
        declining, weight = self._settings.decline_bias or 0.0, self._settings.extractor_weight or 0.0
        prompt = Prompt(
            self._instructions.system,
            answer_prompt(question, notes, called_back, self._instructions.answer),
            ANSWER_OPENING,
            ANSWER_STOP,
            self._settings.answer_tokens,
            favoured=(UNKNOWN, declining) if declining else None,
        )
        read = (question, *notes, *called_back) if declining else None
        both = weight > 0 and self._embedder.extractor is not None
        scorer = self._writer if both and isinstance(self._writer, Scorer) else None
        stream = AnswerStream(on_text, read) if on_text else None
        # What is written is not the answer yet where both readers are asked.
        reply = self._writer.reply(prompt, None if scorer else stream)
        usage.count(reply)
        answer = parse_answer(reply.text, question, read)
        if scorer and not is_deduced(reply.text):
            found = self._candidates(question, answer, (*notes, *called_back))
            if found:
                answer = likeliest(found, self._weighed(scorer, prompt, found, usage))
        if stream:
            stream.finish(answer)
        return answer

    def _candidates(self, question: str, written: str, lines: Sequence[str]) -> list[Candidate]:
        """Return what may be answered from ``lines``, beside what is ``written``; or nothing."""
        declining, weight = self._settings.decline_bias or 0.0, self._settings.extractor_weight or 0.0
        extraction = self._embedder.extract(question, list(dict.fromkeys(lines)))
        return candidates(written, extraction, weight, declining) if extraction else []

    def _weighed(self, scorer: Scorer, prompt: Prompt, found: Sequence[Candidate], usage: Usage) -> list[float]:
        """Return log p by the writer of each candidate that was ``found``."""
        answers = [candidate.text for candidate in found]
        usage.count_scored(sum(map(self._writer.count_tokens, answers)))
        return scorer.log_probs(prompt, answers)

    def _read(
        self,
        question: str,
        memory: WorkingMemory,
        chunk: StoredChunk,
        text: str,
        recalled: Sequence[Note],
        usage: Usage,
    ) -> tuple[list[Span], str | None]:
        """Show ``chunk`` to the reader; return which sentences of its ``text`` it tells of, and what it asks for."""
        raw = self._form == "raw"
        shown = self._shown(chunk.chunk_id, text, question, memory) if raw else None
        prompt = Prompt(
            self._instructions.system,
            update_prompt(question, memory.lines, [note.text for note in recalled], shown, self._instructions.update),
            UPDATE_OPENING,
            UPDATE_STOP,
            self._settings.update_tokens,
            () if raw else (self._bank.slots(chunk.chunk_id),),
        )
        reply = self._writer.reply(prompt)
        usage.count(reply)
        parsed = parse_update(reply.text)
        told = (self._evidence(line, question, text) for line in parsed.notes)
        return list(dict.fromkeys(span for span in told if span)), parsed.recall

    def _shown(self, chunk_id: str, text: str, question: str, memory: WorkingMemory) -> str:
        count = self._settings.raw_passages
        if count is None:
            return text
        # The bank has embedded a chunk's passages already, when the chunk was taken in.
        vectors = self._bank.passage_vectors(chunk_id)
        return self._embedder.nearest_passages(text, " ".join((question, *memory.lines[-1:])), count, vectors)

    def _evidence(self, line: str, question: str, text: str) -> Span | None:
        if quoted := find_quotations(line, text):
            return self._embedder.nearest_span(text, quoted, f"{question} {line}")
        if self._form == "raw":
            return find_evidence(line, text)
        return self._embedder.nearest_span(text, sentences(text), f"{question} {line}")

    def _note(
        self, chunk: StoredChunk, text: str, evidence: Span, gate: float, *, told: bool, odds: float | None = None
    ) -> Note:
        start = chunk.span.start + evidence.start
        span = Span(start, start + evidence.end - evidence.start)
        quote = text[evidence.start : evidence.end]
        said, over = " ".join(quote.split()), heading_of(text, *evidence)
        return Note(said, quote, chunk.chunk_id, chunk.document_id, span, gate, over, told, odds)

    def _fits(self, text: str) -> bool:
        return self._writer.count_tokens(text) <= self._settings.memory_tokens


def _lines(notes: Sequence[Note]) -> list[str]:
    """Return what is answered from: after a second look behind headings, as is learned; other readers they confuse."""
    return [note.text if note.odds is None else note.line for note in notes]
