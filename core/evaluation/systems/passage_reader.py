"""The reader that retrieval is combined with: the passages found, then the question, in one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...chunking import Span
from ...embedder import Embedder
from ...generation import Generator, Prompt
from ...ingest import Document
from ...prompts import ANSWER_OPENING, ANSWER_STOP, parse_answer
from ...settings import RecallSettings
from ..cost import Cost
from .system import Outcome

ANSWER_TOKENS = RecallSettings().answer_tokens
_SYSTEM = "You answer questions from texts. Write the answer inside <answer></answer>."


@dataclass(frozen=True)
class Passage:
    """A piece of a document that is found and shown on its own."""

    document_id: str
    span: Span
    text: str


def cut(documents: Sequence[Document], embedder: Embedder) -> list[Passage]:
    """Cut documents into passages of at most 128 tokens of the embedder, in order."""
    return [
        Passage(document.document_id, span, document.text[span.start : span.end])
        for document in documents
        for span in embedder.passages(document.text)
    ]


def reading_prompt(question: str, text: str) -> Prompt:
    """Show ``text`` and ask for the answer."""
    user = f"<text>\n{text}\n</text>\n\nQuestion: {question}\n\nAnswer from the text in a few words."
    return Prompt(_SYSTEM, user, ANSWER_OPENING, ANSWER_STOP, ANSWER_TOKENS)


def read_passages(generator: Generator, question: str, passages: Sequence[Passage], cost: Cost) -> Outcome:
    """Answer from ``passages``, likeliest first; all of them are cited, as such a pipeline does."""
    with cost.timed("answer"):
        reply = generator.reply(reading_prompt(question, "\n\n".join(passage.text.strip() for passage in passages)))
        cost.count(reply)
    return Outcome(
        parse_answer(reply.text, question),
        cost,
        tuple((passage.document_id, passage.span) for passage in passages),
        tuple(dict.fromkeys(passage.document_id for passage in passages)),
    )
