"""Banks that outlive their process, and banks that both frameworks share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import Document, QueryBundle

from core import CompressionSettings
from core.errors import BankMismatchError, MissingBankError
from langchain_compressed_memory import CompressedMemoryRetriever as LangChainRetriever
from llamaindex_compressed_memory import CompressedMemoryQueryEngine

from .stored_texts import QUESTION, SETTINGS, TEXTS

REOPEN = """
import json, sys
from core import RecallSettings
from llamaindex_compressed_memory import CompressedMemoryQueryEngine
engine = CompressedMemoryQueryEngine.from_persist_dir(sys.argv[1], settings=RecallSettings(**json.loads(sys.argv[2])))
response = engine.query(sys.argv[3])
print(json.dumps([str(response), [found.node.to_dict() for found in response.source_nodes]]))
"""


@pytest.fixture(scope="module")
def held():
    """An engine whose bank is in memory, slots and all."""
    return CompressedMemoryQueryEngine.from_documents(
        [Document(doc_id=name, text=text, metadata={"kind": "statement"}) for name, text in TEXTS.items()],
        compression=CompressionSettings(chunk_tokens=64),
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def persisted(held, tmp_path_factory):
    folder = tmp_path_factory.mktemp("persisted") / "bank"
    held.persist(folder)
    return folder


def test_a_bank_in_memory_is_persisted_and_answers_alike_in_a_new_process(held, persisted):
    arguments = [str(persisted), SETTINGS.model_dump_json(), QUESTION]
    run = subprocess.run(
        [sys.executable, "-c", REOPEN, *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    text, nodes = json.loads(run.stdout.splitlines()[-1])
    response = held.query(QUESTION)
    assert text == str(response)
    assert nodes == [found.node.to_dict() for found in response.source_nodes]


def test_persisting_copies_to_the_bit_and_follows_changes(held, persisted):
    reopened = CompressedMemoryQueryEngine.from_persist_dir(persisted)
    assert reopened._engine.bank.digest() == held._engine.bank.digest()
    held.insert(Document(doc_id="bees", text="Bees like clover."))
    held.persist(persisted)
    assert [name for name, *_ in reopened._engine.bank.documents("default")] == [*TEXTS, "bees"]
    held.delete_ref_doc("bees")
    held.persist(persisted)
    reopened.persist(persisted)  # its own directory: nothing to do
    assert reopened._engine.bank.digest() == held._engine.bank.digest()
    assert not any(b"clover" in file.read_bytes() for file in persisted.rglob("*") if file.is_file())


def test_directories_that_cannot_be_used(held, bank, tmp_path):
    with pytest.raises(MissingBankError, match="nothing-here"):
        CompressedMemoryQueryEngine.from_persist_dir(tmp_path / "nothing-here")
    other = CompressedMemoryQueryEngine.from_documents(
        [Document(text="Bees.")], compression=CompressionSettings(chunk_tokens=64, encode=False)
    )
    with pytest.raises(BankMismatchError, match="encode"):
        other.persist(bank)


def test_the_other_framework_reads_what_this_one_wrote(held, persisted):
    found = LangChainRetriever(bank=persisted, namespace="default", k=2).invoke(QUESTION)
    mine = held.retrieve(QueryBundle(QUESTION))
    assert all(isinstance(one, LangChainDocument) for one in found)
    assert [one.id for one in found] == [one.node.node_id for one in mine]
    assert [one.page_content for one in found] == [one.node.get_content() for one in mine]
    assert found[0].metadata["kind"] == "statement"
    assert found[0].metadata["gate"] == mine[0].score
