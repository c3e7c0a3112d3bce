import asyncio
import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

import langchain_compressed_memory
from core import CompressionSettings, RecallSettings
from core.errors import BankError, InputError, UnknownNamespaceError
from langchain_compressed_memory import CompressedMemory

TEXTS = {name: topics[name][:700] for name in ("assert", "del", "power")}
QUESTION = "What does an assert statement insert into a program?"
# Short replies: what is tested is what is handed on, not how well a small model writes.
SETTINGS = RecallSettings(top_k=2, max_steps=2, callback=False, raw_passages=1, update_tokens=32, answer_tokens=8)
CLOSED = RecallSettings(threshold=1.0)
"""Nothing opens, so that no model writes."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tmp_path_factory.mktemp("banks") / "bank"


@pytest.fixture(scope="module")
def memory(bank):
    return CompressedMemory.from_documents(
        [Document(text, metadata={"source": name, "kind": "statement"}) for name, text in TEXTS.items()],
        bank=bank,
        compression=CompressionSettings(chunk_tokens=64),
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def result(memory):
    return memory.invoke(QUESTION)


@pytest.fixture(scope="module")
def closed(memory, bank):
    """Another memory over the same bank, for what needs no reading."""
    return CompressedMemory(bank=bank, namespace="default", settings=CLOSED)


def test_exported_names():
    assert sorted(langchain_compressed_memory.__all__) == [
        "CompressedChatMessageHistory",
        "CompressedConversationMemory",
        "CompressedMemory",
        "CompressedMemoryMiddleware",
        "CompressedMemoryRetriever",
    ]


def test_neither_import_nor_construction_brings_torch(tmp_path):
    code = (
        "import sys; from langchain_compressed_memory import CompressedMemory; "
        f"CompressedMemory(bank={str(tmp_path / 'new')!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
    assert not (tmp_path / "new").exists()


def test_result_holds_question_answer_memory_and_usage(result):
    assert list(result) == ["question", "answer", "sources", "working_memory", "usage", "usage_metadata"]
    assert result["question"] == QUESTION
    assert isinstance(result["answer"], str)
    assert result["answer"]
    assert isinstance(result["working_memory"], str)
    assert result["usage"]["model_calls"] >= 1
    assert result["usage"]["seconds"].keys() >= {"gate", "update"}
    read = result["usage"]["tokens_read"] + result["usage"]["slots_read"]
    written = result["usage"]["tokens_written"]
    counted = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    assert result["usage_metadata"] == counted


def test_sources_are_cut_from_the_text_and_carry_its_metadata(result):
    assert result["sources"]
    for source in result["sources"]:
        found = source.metadata
        assert source.page_content == TEXTS[found["document_id"]][found["start"] : found["end"]]
        assert found["source"] == found["document_id"]
        assert found["kind"] == "statement"
        assert SETTINGS.threshold < found["gate"] <= 1
        assert " ".join(source.page_content.split()) in result["working_memory"]


def test_batch_gives_what_invoke_gives_for_strings_and_mappings(memory, result):
    answers = memory.batch([QUESTION, {"question": QUESTION}])
    for answer in answers:
        assert (answer["answer"], answer["sources"]) == (result["answer"], result["sources"])


def test_loop_keeps_ticking_during_ainvoke(memory, result):
    async def ticks_while_asked():
        asked = asyncio.create_task(memory.ainvoke(QUESTION))
        ticks = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await asked

    ticks, answer = asyncio.run(ticks_while_asked())
    assert ticks >= 5
    assert answer["sources"] == result["sources"]


def test_nothing_opens(closed):
    result = closed.invoke(QUESTION)
    assert result["answer"]
    assert result["sources"] == []
    assert result["working_memory"] == ""
    assert result["usage"]["model_calls"] == 0


def test_stands_in_a_chain(closed):
    chain = RunnableLambda(lambda asked: {"question": asked, "user": "ada"}) | closed | itemgetter("question")
    assert chain.invoke(QUESTION) == QUESTION
    assert list(chain.stream(QUESTION)) == [QUESTION]


class Runs(BaseCallbackHandler):
    def __init__(self):
        self.started, self.ended, self.failed = [], [], []

    def on_chain_start(self, serialized, inputs, **kwargs):
        self.started.append(kwargs["name"])

    def on_chain_end(self, outputs, **kwargs):
        self.ended.append(outputs)

    def on_chain_error(self, error, **kwargs):
        self.failed.append(error)


def test_runs_are_traced(closed):
    runs = Runs()
    traced = closed.with_config(callbacks=[runs], run_name="recall")
    result = traced.invoke(QUESTION)
    assert asyncio.run(traced.ainvoke(QUESTION))["question"] == QUESTION
    assert runs.started == ["recall", "recall"]
    assert runs.ended[0] == result
    with pytest.raises(InputError):
        traced.invoke(" ")
    assert len(runs.failed) == 1


def test_documents_get_ids_of_their_own():
    pages = [
        Document("First page.", metadata={"source": "a.pdf"}),
        Document("Second page.", metadata={"source": "a.pdf"}),
    ]
    small = CompressedMemory.from_documents([*pages, Document("No source."), Document("An id.", id="id")])
    assert small.add_documents(pages) == ["a.pdf", "a.pdf#2"]
    assert small.add_documents([Document("Another without source.")]) == ["document-2"]
    stored = [name for name, *_ in small.engine().bank.documents("default")]
    assert stored == ["a.pdf", "a.pdf#2", "document-1", "id", "document-2"]


def test_texts_take_ids_and_metadata(bank):
    memory = CompressedMemory.from_texts(
        ["Ruth kept bees."], ids=["ruth"], metadatas=[{"page": 7}], bank=bank, namespace="keepers"
    )
    assert memory.engine().bank.document_metadata("keepers", "ruth") == {"page": 7}


def test_other_namespaces_are_out_of_reach(closed, memory):
    with pytest.raises(UnknownNamespaceError, match="'nobody'"):
        CompressedMemory(bank=memory.bank, namespace="nobody").invoke(QUESTION)
    with pytest.raises(ValidationError, match="namespce"):
        CompressedMemory(bank=memory.bank, namespce="keepers")
    with pytest.raises(TypeError, match="namespace"):
        closed.invoke(QUESTION, namespace="keepers")


@pytest.mark.parametrize("texts", [[], "one string", ["  "], ["fine", ""]])
def test_texts_that_cannot_be_used(texts):
    with pytest.raises(InputError):
        CompressedMemory.from_texts(texts)


def test_as_many_ids_and_metadatas_as_texts():
    with pytest.raises(InputError, match="2 texts came with 1 ids"):
        CompressedMemory.from_texts(["a", "b"], ids=["a"])
    with pytest.raises(InputError, match="1 texts came with 2 metadatas"):
        CompressedMemory.from_texts(["a"], metadatas=[{}, {}])


def test_no_documents_leave_no_bank_behind(tmp_path):
    with pytest.raises(InputError):
        CompressedMemory.from_documents([], bank=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("asked", ["", "   ", {}, {"input": "who?"}, {"question": None}, 3])
def test_inputs_that_are_no_question(closed, asked):
    with pytest.raises(InputError):
        closed.invoke(asked)


def test_bank_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("not a bank")
    with pytest.raises(BankError, match="is a file"):
        CompressedMemory(bank=tmp_path / "file", namespace="default").invoke(QUESTION)


def test_a_memory_of_some_documents_answers_and_finds_in_them_alone(memory):
    some = memory.model_copy(update={"document_ids": ["del", "power"]})
    assert {d.metadata["document_id"] for d in some.invoke(QUESTION)["sources"]} <= {"del", "power"}
    retriever = some.as_retriever(k=2, score_threshold=0.0)
    assert {d.metadata["document_id"] for d in retriever.invoke(QUESTION)} <= {"del", "power"}
    assert {d.metadata["document_id"] for d in retriever.invoke(QUESTION, document_ids=["assert"])} == {"assert"}
    assert {d.metadata["document_id"] for d in asyncio.run(retriever.ainvoke(QUESTION, document_ids=["del"]))} == {
        "del"
    }
    with pytest.raises(InputError, match="no document 'else'"):
        memory.model_copy(update={"document_ids": ["else"]}).invoke(QUESTION)
