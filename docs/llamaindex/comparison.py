"""Answers from the same documents with the same small model: this package, and three of LlamaIndex's own engines.

    python comparison.py --data squad.jsonl.gz hotpotqa.jsonl.gz --questions 50 --out results.jsonl

Questions are taken spread over each file and put together until their paragraphs make ``--documents`` documents, over
which each engine is built and asked those questions. LlamaIndex's engines read with CompressedMemoryLLM: the model of
the bank as it comes, since its adapter is trained on other prompts. To tell what the adapter adds from what the memory
adds, the vector index is also read with the adapter, in the words that it is trained on or near. They find with the
bank's embedding model and as many nodes as this package's gate may open. Results are appended as they come; run again,
the script goes on.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

from llama_index.core import Document, SummaryIndex, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.question_gen.types import SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.tools import QueryEngineTool

import core
from core.evaluation.metrics import score_question
from core.evaluation.summary import bootstrap
from core.evaluation.systems.passage_reader import reading_prompt
from core.questions import Question, read_questions
from llamaindex_compressed_memory import CompressedMemoryLLM, CompressedMemoryQueryEngine

Answering = Callable[[str], tuple[str, int]]
"""A question's answer and the tokens that it took, read and written."""

TOP_K = core.RecallSettings().top_k


class SameEmbedder(BaseEmbedding):
    """The embedding model of the bank."""

    embedder: object

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.embedder.embed(texts).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class OrTheQuestion(LLMQuestionGenerator):
    """Asks the question itself where what the model writes is no list of questions for a tool that there is."""

    failed = 0

    def generate(self, tools, query):
        try:
            asked = [sub for sub in super().generate(tools, query) if sub.tool_name == tools[0].name]
        except (ValueError, TypeError):  # what its parser raises on text that is no such list
            asked = []
        type(self).failed += not asked
        return asked or [SubQuestion(sub_question=query.query_str, tool_name=tools[0].name)]


def blocks(data: Path, questions: int, documents: int) -> Iterator[tuple[list[Document], list[Question]]]:
    """Put questions that share no paragraph together until they have so many documents."""
    by_paragraph: dict[str, Question] = {}
    for question in read_questions(data):
        by_paragraph.setdefault(question.gold[0].document, question)
    found = list(by_paragraph.values())
    spread = found[:: max(1, len(found) // questions)][:questions]
    held: dict[str, None] = {}
    asked: list[Question] = []
    for question in spread:
        held.update(dict.fromkeys(paragraph.document for paragraph in question.paragraphs))
        asked.append(question)
        if len(held) >= documents or question is spread[-1]:
            yield [Document(text=text, doc_id=f"document-{i}") for i, text in enumerate(held)], asked
            held, asked = {}, []


def systems(engine: core.Engine, tokens: int) -> dict[str, Callable[[list[Document]], Answering]]:
    """Return by name what takes documents in and answers from them."""
    counter = TokenCountingHandler(tokenizer=engine.backbone.encode)
    counting = CallbackManager([counter])
    llm = CompressedMemoryLLM(engine=engine, max_tokens=tokens, callback_manager=counting)
    planner = CompressedMemoryLLM(engine=engine, max_tokens=2 * tokens, callback_manager=counting)
    embed_model = SameEmbedder(embedder=engine.embedder, model_name=engine.embedder.name)
    # Its manager replaces that of its model.
    synthesizer = get_response_synthesizer(llm=llm, use_async=False, callback_manager=counting)

    trained = CompressedMemoryLLM(engine=engine, adapter=True, max_tokens=tokens, callback_manager=counting)
    asked = reading_prompt("{query_str}", "{context_str}")
    template = ChatPromptTemplate([ChatMessage(asked.system, role="system"), ChatMessage(asked.user, role="user")])
    trained_synthesizer = get_response_synthesizer(
        llm=trained, use_async=False, callback_manager=counting, text_qa_template=template
    )

    def counted(query_engine) -> Answering:
        def answer(question: str) -> tuple[str, int]:
            counter.reset_counts()
            text = str(query_engine.query(question))
            # Trained replies have tags, which LlamaIndex's engines cannot begin for them: no part of the answer.
            return re.sub(r"</?\w+>", "", text).strip(), counter.total_llm_token_count

        return answer

    def vector(documents, synthesizer=synthesizer):
        index = VectorStoreIndex.from_documents(documents, embed_model=embed_model)
        return RetrieverQueryEngine(index.as_retriever(similarity_top_k=TOP_K), synthesizer)

    def sub_questions(documents):
        tool = QueryEngineTool.from_defaults(vector(documents), name="documents", description="Paragraphs of Wikipedia")
        return SubQuestionQueryEngine(
            OrTheQuestion.from_defaults(llm=planner), synthesizer, [tool], verbose=False, use_async=False
        )

    def compressed(documents) -> Answering:
        memory = CompressedMemoryQueryEngine.from_documents(documents)

        def answer(question: str) -> tuple[str, int]:
            response = memory.query(question)
            usage = response.metadata["usage"]
            return str(response), usage["tokens_read"] + usage["slots_read"] + usage["tokens_written"]

        return answer

    return {
        "VectorStoreIndex": lambda documents: counted(vector(documents)),
        "VectorStoreIndex, adapter": lambda documents: counted(vector(documents, trained_synthesizer)),
        "SummaryIndex": lambda documents: counted(
            RetrieverQueryEngine(SummaryIndex.from_documents(documents).as_retriever(), synthesizer)
        ),
        "SubQuestionQueryEngine": lambda documents: counted(sub_questions(documents)),
        "CompressedMemoryQueryEngine": compressed,
    }


def table(records: list[dict]) -> Iterator[str]:
    yield "| data | engine | questions | answer contained | F1 | tokens a question | seconds a question | to take in |"
    yield "|---|---|---|---|---|---|---|---|"
    for data, system in dict.fromkeys((record["data"], record["system"]) for record in records):
        rows = [record for record in records if (record["data"], record["system"]) == (data, system)]
        held, f1, tokens, seconds, taken = (
            mean(row[name] for row in rows) for name in ("contained", "f1", "tokens", "seconds", "taken")
        )
        yield (
            f"| {data} | `{system}` | {len(rows)} | {held:.2f} | {f1:.2f} | {tokens:,.0f} | {seconds:.1f} "
            f"| {taken:.1f} |"
        )


def differences(records: list[dict]) -> Iterator[str]:
    """Say by how much this package's answers are better, question by question, with 95% bootstrap intervals."""
    scores = {(r["data"], r["system"], r["id"]): r for r in records}
    mine = "CompressedMemoryQueryEngine"
    for data, system in dict.fromkeys((data, system) for data, system, _ in scores if system != mine):
        both = [(scores[data, mine, i], r) for (d, s, i), r in scores.items() if (d, s) == (data, system)]
        for measure in ("contained", "f1"):
            found = bootstrap([own[measure] - other[measure] for own, other in both])
            yield f"{data}, over {system}, {measure}: {found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--questions", type=int, default=50, help="of each file")
    parser.add_argument("--documents", type=int, default=20, help="that questions are asked about")
    parser.add_argument("--tokens", type=int, default=64, help="most that an answer of LlamaIndex's engines may have")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    engine = core.Engine.open()
    records = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(record["data"], record["system"], record["id"]) for record in records}
    for data in given.data:
        for documents, questions in blocks(data, given.questions, given.documents):
            for name, take_in in systems(engine, given.tokens).items():
                asked = [question for question in questions if (data.stem, name, question.id) not in done]
                if not asked:
                    continue
                # Of this process alone: with one thread these are seconds of an idle core.
                start = time.process_time()
                answer = take_in(documents)
                taken = (time.process_time() - start) / len(questions)
                for question in asked:
                    start = time.process_time()
                    text, tokens = answer(question.question)
                    scores = score_question(text, question)
                    record = {
                        "data": data.stem,
                        "system": name,
                        "id": question.id,
                        "contained": scores.sub_exact_match,
                        "f1": scores.f1,
                        "tokens": tokens,
                        "seconds": time.process_time() - start,
                        "taken": taken,
                        "answer": text,
                    }
                    records.append(record)
                    with given.out.open("a") as out:
                        out.write(json.dumps(record) + "\n")
                    print(f"\r{len(records)} answers", end="", flush=True)
    print(f"\n{OrTheQuestion.failed} of this run's questions were not taken apart by the model\n")
    print("\n".join(table(records)))
    print("\n".join(differences(records)))


if __name__ == "__main__":
    main()
