"""Bring your own chat model: it reads what the gate opens. Here it is a small local one, so that this runs anywhere.

With a hosted model: ``llm = init_chat_model("…")``.
"""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.weights import DEFAULT_MODEL, resolve
from langchain_compressed_memory import CompressedMemory


class LocalChatModel(BaseChatModel):
    """SmolLM2-135M-Instruct, as it comes."""

    max_tokens: int = 48
    tokenizer: Any = None
    model: Any = None

    def model_post_init(self, context: object) -> None:
        folder = resolve(DEFAULT_MODEL)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder)

    @property
    def _llm_type(self) -> str:
        return "local"

    def _generate(self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager=None, **kwargs):
        roles = {"system": "system", "human": "user", "ai": "assistant"}
        chat = [{"role": roles[message.type], "content": message.text} for message in messages if message.type in roles]
        read = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        start = read["input_ids"].shape[1]
        written = self.model.generate(**read, max_new_tokens=self.max_tokens, do_sample=False)[0, start:]
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        usage = {"input_tokens": start, "output_tokens": len(written)}
        usage["total_tokens"] = sum(usage.values())
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])


if __name__ == "__main__":
    memory = CompressedMemory.from_texts(
        [
            "The lighthouse of Ardmore was lit in 1857. Its keeper was Ruth Calder.",
            "Ruth Calder was born in the fishing village of Crail. She kept bees.",
        ],
        llm=LocalChatModel(),
    )
    result = memory.invoke("Where was the keeper of the Ardmore lighthouse born?")
    print(result["answer"])
    print([source.page_content for source in result["sources"]], result["usage_metadata"])
