"""A long conversation, and what four memories answer about its beginning, read by the same model.

    python long_conversation.py --data squad.jsonl.gz --turns 500 --questions 24

Each turn the user tells a paragraph of Wikipedia and the assistant takes note. After the last turn come questions
about paragraphs of the first fifth. The memories are the latest messages, LangChain's SummarizationMiddleware with
the base model as it comes, a vector store with the same embedding model, and CompressedMemory. The first three are
read by the model that reads for CompressedMemory, adapter and all, with the whole of what they remember in its prompt.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.vectorstores import InMemoryVectorStore
from own_chat_model import LocalChatModel

from core import CompressionSettings
from core.evaluation.metrics import score_question
from core.evaluation.systems.passage_reader import reading_prompt
from core.generation import Generator
from core.prompts import parse_answer
from core.questions import Question, read_questions
from langchain_compressed_memory import CompressedMemory

LATEST = 20
"""Messages that the first two memories keep word for word."""


@dataclass
class Column:
    """What one memory comes to."""

    scores: list[tuple[float, float]] = field(default_factory=list)
    question_tokens: list[int] = field(default_factory=list)
    question_seconds: list[float] = field(default_factory=list)
    turn_tokens: int = 0
    turn_seconds: float = 0.0


class SameEmbedder(Embeddings):
    """The embedding model of CompressedMemory, for the vector store."""

    def __init__(self, embedder) -> None:
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class CountedChatModel(LocalChatModel):
    """Counts what is read and written."""

    tokens: int = 0

    def _generate(self, *args, **kwargs):
        result = super()._generate(*args, **kwargs)
        self.tokens += result.generations[0].message.usage_metadata["total_tokens"]
        return result


def told(data: Path, turns: int) -> list[Question]:
    """Return a question for each of ``turns`` paragraphs, spread over the whole file."""
    by_paragraph: dict[str, Question] = {}
    for question in read_questions(data):
        if len(question.gold) == 1:
            by_paragraph.setdefault(question.gold[0].text, question)
    found = list(by_paragraph.values())
    if len(found) < turns:
        raise SystemExit(
            f"{data} has {len(found)} paragraphs with questions of their own: --turns {len(found)} at most"
        )
    return found[:: len(found) // turns][:turns]


def transcript(messages: list[AnyMessage]) -> str:
    return "\n".join(message.text for message in messages)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--questions", type=int, default=24)
    given = parser.parse_args()
    told_turns = told(given.data, given.turns)
    early = told_turns[: max(given.questions, given.turns // 5)]
    asked = early[:: len(early) // given.questions][: given.questions]

    with tempfile.TemporaryDirectory() as folder:
        memory = CompressedMemory(
            bank=Path(folder) / "bank", namespace="ada", compression=CompressionSettings(encode=False)
        )
        engine = memory.engine()
        store = InMemoryVectorStore(SameEmbedder(engine.embedder))
        model = CountedChatModel(max_tokens=200)
        summarizing = SummarizationMiddleware(model, trigger=("messages", 2 * LATEST), keep=("messages", LATEST))
        columns = {name: Column() for name in ("latest messages", "summary", "vector store", "compressed memory")}
        latest: list[AnyMessage] = []
        summarized: list[AnyMessage] = []

        def timed(name: str, work: Callable[[], object]) -> None:
            start = time.perf_counter()
            work()
            columns[name].turn_seconds += time.perf_counter() - start

        for number, question in enumerate(told_turns):
            said = f"User: {question.gold[0].document}\nAssistant: Noted."
            turn = [HumanMessage(question.gold[0].document), AIMessage("Noted.")]
            document = Document(said, id=f"turn-{number}")
            latest = [*latest, *turn][-LATEST:]
            summarized += turn

            def summarize() -> None:
                nonlocal summarized
                if update := summarizing.before_model({"messages": summarized}, None):
                    summarized = update["messages"][1:]  # the first one removes the others

            timed("summary", summarize)
            timed("vector store", lambda document=document: store.add_documents([document]))
            timed("compressed memory", lambda document=document: memory.add_documents([document]))
            print(f"\r{number + 1} turns", end="", flush=True)
        print()
        columns["summary"].turn_tokens = model.tokens

        generator = Generator(engine.backbone)

        def read(question: Question, context: str) -> tuple[str, int]:
            reply = generator.reply(reading_prompt(question.question, context))
            return parse_answer(reply.text, question.question), reply.tokens_read + reply.tokens_written

        def compressed(question: Question) -> tuple[str, int]:
            found = memory.invoke(question.question)
            return found["answer"], found["usage_metadata"]["total_tokens"]

        answering: dict[str, Callable[[Question], tuple[str, int]]] = {
            "latest messages": lambda question: read(question, transcript(latest)),
            "summary": lambda question: read(question, transcript(summarized)),
            "vector store": lambda question: read(
                question, "\n".join(d.page_content for d in store.similarity_search(question.question, k=8))
            ),
            "compressed memory": compressed,
        }
        for number, question in enumerate(asked):
            for name, answer in answering.items():
                start = time.perf_counter()
                text, tokens = answer(question)
                columns[name].question_seconds.append(time.perf_counter() - start)
                columns[name].question_tokens.append(tokens)
                scores = score_question(text, question)
                columns[name].scores.append((scores.exact_match, scores.f1))
            print(f"\r{number + 1} questions", end="", flush=True)
        print()

    print(f"{given.turns} turns, {len(asked)} questions about turns 1 to {len(early)}\n")
    print("| memory | exact match | F1 | tokens a question | tokens a turn | seconds a question | seconds a turn |")
    print("|---|---|---|---|---|---|---|")
    for name, column in columns.items():
        exact, overlap = (mean(score[i] for score in column.scores) for i in (0, 1))
        print(
            f"| {name} | {exact:.2f} | {overlap:.2f} | {mean(column.question_tokens):,.0f} "
            f"| {column.turn_tokens / given.turns:.0f} | {mean(column.question_seconds):.2f} "
            f"| {column.turn_seconds / given.turns:.3f} |"
        )


if __name__ == "__main__":
    main()
