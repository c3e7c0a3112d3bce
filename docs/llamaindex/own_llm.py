"""Bring your own LLM: it reads what the gate opens. Here it is a small local one, so that this runs anywhere.

With another: ``llm = OpenAI(…)`` or any LlamaIndex ``LLM``.
"""

from typing import Any

from llama_index.core import Document, PromptTemplate
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from transformers import AutoModelForCausalLM, AutoTokenizer

import core
from core.weights import DEFAULT_MODEL, resolve
from llamaindex_compressed_memory import CompressedMemoryQueryEngine


class LocalLLM(CustomLLM):
    """SmolLM2-135M-Instruct, as it comes."""

    tokenizer: Any = None
    model: Any = None

    def model_post_init(self, context: object) -> None:
        folder = resolve(DEFAULT_MODEL)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=DEFAULT_MODEL, context_window=8192, num_output=48)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs) -> CompletionResponse:
        chat = [{"role": "user", "content": prompt}]
        read = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        written = self.model.generate(**read, max_new_tokens=48, do_sample=False)[0, read["input_ids"].shape[1] :]
        return CompletionResponse(text=self.tokenizer.decode(written, skip_special_tokens=True))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs):
        yield self.complete(prompt, formatted)


if __name__ == "__main__":
    texts = {
        "lighthouse": "The lighthouse of Ardmore was lit in 1857. Its keeper was Ruth Calder.",
        "keeper": "Ruth Calder was born in the fishing village of Crail. She kept bees.",
    }
    engine = CompressedMemoryQueryEngine.from_documents(
        [Document(doc_id=name, text=text) for name, text in texts.items()],
        llm=LocalLLM(),
        compression=core.CompressionSettings(encode=False),  # a model of one's own reads text, and needs no slots
    )
    print(engine.get_prompts()["answer"].format())
    engine.update_prompts({"answer": PromptTemplate("Answer from the notes with a name.")})
    response = engine.query("Where was the keeper of the Ardmore lighthouse born?")
    print(response)
    print([source.node.get_content() for source in response.source_nodes], response.metadata["usage"])
