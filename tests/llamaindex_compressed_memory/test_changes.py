"""Documents that come, change and go, and a model of one's own."""

from typing import Any, ClassVar

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.schema import Document

from core import CompressionSettings
from core.errors import BankError, InputError, UnknownNamespaceError
from llamaindex_compressed_memory import CompressedMemoryQueryEngine


class QuotingLLM(CustomLLM):
    """Notes the last line of the text it is shown; answers with its last note."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="quoting")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        if "<text>\n" in prompt:
            shown = prompt.rpartition("<text>\n")[2].partition("</text>")[0]
            return CompletionResponse(text=f"<update>{shown.strip().splitlines()[-1]}</update>")
        notes = [line for line in prompt.splitlines() if line.startswith("- ")]
        return CompletionResponse(text=f"<answer>{notes[-1][2:]}</answer>")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError


class ListeningLLM(QuotingLLM):
    """Keeps what it was told."""

    heard: ClassVar[list[str]] = []

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.heard.append(prompt)
        return super().complete(prompt, formatted, **kwargs)


def made(*documents: Document, **options: Any) -> CompressedMemoryQueryEngine:
    return CompressedMemoryQueryEngine.from_documents(
        documents, llm=QuotingLLM(), compression=CompressionSettings(encode=False), **options
    )


WORD = "What is the secret word?"
MAGNOLIA = Document(doc_id="word", text="The secret word is magnolia.")


def test_a_model_of_ones_own_reads_what_the_gate_opens():
    response = made(MAGNOLIA).query(WORD)
    assert str(response) == "The secret word is magnolia."
    (found,) = response.source_nodes
    assert found.node.get_content() == MAGNOLIA.text
    assert response.metadata["usage"]["tokens_read"] > 50
    assert response.metadata["usage"]["tokens_written"] > 5


def test_prompts_are_shown_and_changed():
    llm = ListeningLLM()
    engine = CompressedMemoryQueryEngine(made(MAGNOLIA)._engine, llm=llm)
    assert set(engine.get_prompts()) == {"system", "update", "answer"}
    engine.query(WORD)
    assert engine.get_prompts()["update"].format() in llm.heard[0]
    assert engine.get_prompts()["answer"].format() in llm.heard[-1]
    engine.update_prompts({"answer": PromptTemplate("Answer in German."), "system": PromptTemplate("Be exact.")})
    assert engine.get_prompts()["answer"].format() == "Answer in German."
    llm.heard.clear()
    assert str(engine.query(WORD)) == "The secret word is magnolia."
    assert "Answer in German." not in llm.heard[0]
    assert "Answer in German." in llm.heard[-1]
    assert all("Be exact." in heard for heard in llm.heard)
    with pytest.raises(InputError, match="'text_qa_template'"):
        engine.update_prompts({"text_qa_template": PromptTemplate("")})
    with pytest.raises(InputError, match="context_str"):
        engine.update_prompts({"answer": PromptTemplate("Answer from {context_str}.")})


def test_documents_are_inserted_refreshed_and_deleted():
    engine = made(MAGNOLIA)
    engine.insert(Document(doc_id="bees", text="Bees like clover."))
    changed = Document(doc_id="word", text="The secret word is walnut.")
    assert engine.refresh_ref_docs([changed, Document(doc_id="bees", text="Bees like clover.")]) == [True, False]
    assert str(engine.query(WORD)) == "The secret word is walnut."
    with pytest.raises(BankError, match="no document 'nothing'"):
        engine.delete_ref_doc("nothing")
    engine.delete_ref_doc("word")
    assert "walnut" not in str(engine.query(WORD))
    with pytest.raises(InputError, match="empty"):
        engine.insert(Document(doc_id="empty", text=" "))
    engine.delete_namespace()
    with pytest.raises(UnknownNamespaceError):
        engine.query(WORD)


def test_deleted_bytes_are_gone_from_the_directory(tmp_path):
    engine = made(MAGNOLIA, Document(doc_id="bees", text="Bees like clover."), bank=tmp_path / "bank")
    engine.insert(Document(doc_id="tagged", text="Wasps do not.", metadata={"tag": "xylophone"}))
    assert any(b"xylophone" in f.read_bytes() for f in (tmp_path / "bank").rglob("*") if f.is_file())
    engine.delete_ref_doc("tagged")
    assert not any(b"xylophone" in f.read_bytes() for f in (tmp_path / "bank").rglob("*") if f.is_file())
