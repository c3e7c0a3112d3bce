"""The base model: any Hugging Face decoder with plain rotary embeddings, unmodified, and its adapters."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .errors import InputError, ModelError, WeightsError
from .kv_cache import Prefix
from .quiet_peft import quiet_peft
from .weights import DEFAULT_MODEL, quiet_loading, resolve

Role = Literal["compressor", "gate", "reasoner"]
ROLES: tuple[Role, ...] = ("compressor", "gate", "reasoner")

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# On a CPU, PyTorch and oneDNN keep a compiled kernel for each of the last 1,024 shapes of a matrix product, and
# texts come in all lengths: that made a long ingest grow by hundreds of megabytes. A pass needs about ten; training,
# which needs hundreds, asks for more before it imports this.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "32")

_ROPE_TYPES = ("default", "linear", "llama3")  # a fixed turn for each position: what re-rotation assumes


def check_family(config: PretrainedConfig, name: str) -> None:
    """Refuse a model whose keys cannot be moved by a plain rotation, or that does not see all it is given.

    Raises:
        ModelError: with the reason.
    """
    reason = None
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    # Mistral slides whenever a window is set, Qwen only when it is told to use it.
    slides = config.model_type == "mistral" or getattr(config, "use_sliding_window", False)
    if config.model_type not in FAMILIES:
        reason = f"its family {config.model_type!r} is not among {', '.join(FAMILIES)}"
    elif slides and getattr(config, "sliding_window", None):
        reason = f"it attends through a sliding window of {config.sliding_window} tokens"
    elif rope.get("partial_rotary_factor", 1.0) != 1.0:
        reason = f"it rotates only {rope['partial_rotary_factor']:.0%} of each head"
    elif kind not in _ROPE_TYPES:
        reason = f"its rotary scaling {kind!r} is not among {', '.join(_ROPE_TYPES)}"
    if reason:
        raise ModelError(f"model {name!r} is not supported: {reason}. Choose a Llama, Qwen2, Qwen3, Mistral or SmolLM2")


def best_device() -> torch.device:
    """Return CUDA where there is one, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """Return bf16 where the hardware computes in it, else fp32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def avoid_planned_attention(device: torch.device) -> None:
    """On CUDA, turn the attention of cuDNN off for this process, where PyTorch would take it.

    It makes a plan for each shape that it has not met, and here nearly each pass has another: a step of reinforcement
    learning took 2.8 times as long on an H200 with PyTorch 2.11 (training/smollm2_h100.sh). PyTorch's other fused
    kernels take over.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(enabled=False)


_MERGED_PARAMETERS = 500_000_000
"""Up to this size a copy of the weights is kept for each adapter in use: unmerged, a small base spends a third of
a pass on adapters, and a large one has no room for copies."""


@dataclass(frozen=True)
class _Merged:
    """An adapter in use, added to the weights it changes."""

    weights: dict[nn.Linear, Tensor]
    base: dict[nn.Linear, Tensor]
    fingerprint: str


class Backbone:
    """A base model, its tokenizer and up to three adapters, of which one is on at a time.

    Safe to share between threads: a forward pass happens inside :meth:`using`, which holds a lock,
    because which adapter is on is a property of the shared weights.
    """

    def __init__(self, causal_lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        check_family(causal_lm.config, name)
        if not tokenizer.is_fast:
            raise ModelError(f"model {name!r} has no fast tokenizer, which chunking needs for character offsets")
        self.name = name
        self.tokenizer = tokenizer
        self.causal_lm = causal_lm.eval().requires_grad_(False)
        avoid_planned_attention(causal_lm.device)
        self.config: PretrainedConfig = causal_lm.config
        self._peft: PeftModel | None = None
        self._trainable: set[str] = set()
        self._active: Role | None = None
        self._merged: dict[Role, _Merged] = {}
        self._lora_layers: list[LoraLayer] = []
        self._lock = threading.RLock()
        self._base_parameters = sum(p.numel() for p in causal_lm.parameters())
        self.base_fingerprint = _hash_tensors(causal_lm.state_dict())[:16]

    @classmethod
    def load(
        cls, name: str = DEFAULT_MODEL, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> "Backbone":
        """Load model ``name`` (see :func:`core.weights.resolve`) onto ``device`` in ``dtype``, the best there are.

        Raises:
            WeightsError: the weights are not to be had.
            ModelError: the family is not supported.
        """
        folder = resolve(name)
        device = device or best_device()
        try:
            # Before the weights, so that an unsupported model is refused without reading gigabytes.
            check_family(AutoConfig.from_pretrained(folder), name)
            with quiet_loading():
                model = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=dtype or best_dtype(device), use_safetensors=True
                )
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise WeightsError(f"model {name!r} at {folder} cannot be loaded: {error}") from error
        return cls(model.to(device), tokenizer, name)

    @property
    def device(self) -> torch.device:
        return self.causal_lm.device

    @property
    def dtype(self) -> torch.dtype:
        return self.causal_lm.dtype

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def context_tokens(self) -> int:
        """Positions that the model was trained on."""
        return int(self.config.max_position_embeddings)

    @property
    def inverse_frequencies(self) -> Tensor:
        """float32 [head_dim / 2]: radians that each pair of dimensions turns for each position."""
        return self.causal_lm.model.rotary_emb.inv_freq

    @property
    def embeddings(self) -> nn.Embedding:
        return self.causal_lm.get_input_embeddings()

    # ---- text to ids ----

    def encode(self, text: str) -> list[int]:
        """Tokenize ``text`` as data: nothing in it becomes a control token, no token is added."""
        with self._lock:  # a fast tokenizer may not be used by two threads at once
            ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
                "input_ids"
            ]
        return ids

    def encode_chat(self, system: str, user: str, prefill: str) -> list[int]:
        """Tokenize one exchange in the model's chat template, up to and with the ``prefill`` of the reply.

        ``user`` is tokenized as data, so that a document cannot end the turn it is shown in.
        """
        _, after = self._chat_shell(system)
        with self._lock:
            tail = self.tokenizer(after + prefill, add_special_tokens=False)["input_ids"]
        return [*self.encode_chat_head(system), *self.encode(user), *tail]

    def encode_chat_head(self, system: str) -> list[int]:
        """Tokenize what :meth:`encode_chat` begins with, whatever the user says."""
        before, _ = self._chat_shell(system)
        with self._lock:
            ids: list[int] = self.tokenizer(before, add_special_tokens=False)["input_ids"]
        return ids

    def _chat_shell(self, system: str) -> tuple[str, str]:
        mark = "\u241acontent\u241a"
        if self.tokenizer.chat_template:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": mark}]
            shell = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            shell = f"{system}\n\n{mark}\n\n"
        before, after = shell.split(mark)
        return before, after

    # ---- passes ----

    def hidden(
        self, inputs: Tensor, mask: Tensor, positions: Tensor, prefix: Prefix | None = None, *, keep_cache: bool = True
    ) -> tuple[Tensor, Prefix]:
        """Run the decoder without its head, after ``prefix`` where there is one.

        Args:
            inputs: int64 ids [batch, tokens], or embeddings [batch, tokens, hidden].
            mask: int64 [batch, slots + tokens], 0 where a slot or token is padding.
            positions: int64 [batch, tokens].
            prefix: opened slots; its cache is filled on.
            keep_cache: whether keys and values are wanted afterwards.

        Returns:
            Hidden states [batch, tokens, hidden], and the prefix grown by what was read.
        """
        name = "inputs_embeds" if inputs.is_floating_point() else "input_ids"
        out = self.causal_lm.model(
            **{name: inputs},
            attention_mask=mask,
            position_ids=positions,
            past_key_values=prefix.cache if prefix else None,
            use_cache=keep_cache,
        )
        return out.last_hidden_state, Prefix(out.past_key_values, mask, positions[:, -1] + 1)

    def prefill(self, inputs: Tensor) -> DynamicCache:
        """Run the decoder over rows that all begin at position 0; return their keys and values.

        Rows may be padded on the right: causal attention never looks there, so no mask is passed, and
        the causal kernel is used, which is faster than a masked one.

        Args:
            inputs: int64 ids [batch, tokens], or embeddings [batch, tokens, hidden].
        """
        name = "inputs_embeds" if inputs.is_floating_point() else "input_ids"
        return self.causal_lm.model(**{name: inputs}, use_cache=True).past_key_values

    def logits(self, hidden: Tensor) -> Tensor:
        """Project hidden states [..., hidden] to logits [..., vocabulary]."""
        # A part of a longer sequence keeps the strides of the whole, with which a bf16 product on a CPU takes some 270
        # times as long (64 rows of 393 tokens, the default model's head, torch 2.13).
        return self.causal_lm.lm_head(hidden.clone(memory_format=torch.contiguous_format))

    # ---- adapters ----

    @property
    def adapters(self) -> tuple[Role, ...]:
        """Roles that have an adapter."""
        return tuple(role for role in ROLES if role in self._merged or (self._peft and role in self._peft.peft_config))

    @property
    def trained(self) -> tuple[Role, ...]:
        """Roles whose adapter gradients may reach."""
        return tuple(role for role in self.adapters if role in self._trainable)

    @contextmanager
    def using(self, role: Role | None) -> Iterator[None]:
        """Turn the adapter of ``role`` on, or all off where it has none or is ``None``; undone on leaving."""
        with self._lock:
            before = self._active
            self._activate(role)
            try:
                yield
            finally:
                self._activate(before)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Read with trained adapters as they are now, added to copies of the weights; no gradient reaches them within.

        To write, a small base takes most of its time for adapters that are apart; a large one, which has no room for
        copies, goes on as before.
        """
        small = self._base_parameters <= _MERGED_PARAMETERS
        roles = [role for role in self.trained if small and role not in self._merged]

        def switch(merged: Mapping[Role, _Merged]) -> None:
            before = self._active
            self._activate(None)  # while the layers hold the base's own weights
            for role in roles:
                self._merged.pop(role, None)
            self._merged.update(merged)
            self._activate(before)

        with self._lock:
            with self.using(None):
                added = {role: self._added(role) for role in roles}
            switch(added)
        try:
            yield
        finally:
            with self._lock:
                switch({})

    def add_adapter(self, role: Role, *, rank: int, alpha: int) -> None:
        """Give ``role`` a new LoRA adapter on every linear layer. It starts as the identity and can be trained."""
        if role in self.adapters:
            raise InputError(f"role {role!r} has an adapter already")
        self._inject(role, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"))
        self._trainable.add(role)
        self._restore_gradients()

    def load_adapter(self, role: Role, folder: Path, *, trainable: bool = False) -> None:
        """Load the adapter of ``role`` from a folder as ``peft`` writes it.

        Args:
            trainable: whether it is to be trained further, in fp32; else it is only used, and merged
                into a copy of the weights where the base is small.

        Raises:
            InputError: the role has an adapter already.
            WeightsError: the folder holds no adapter, or one for another model.
        """
        if role in self.adapters:
            raise InputError(f"role {role!r} has an adapter already")
        if not (folder / "adapter_model.safetensors").is_file():
            raise WeightsError(f"no adapter at {folder}: it needs adapter_config.json and adapter_model.safetensors")
        self._inject(role, LoraConfig.from_pretrained(str(folder)))
        try:
            weights = load_peft_weights(str(folder), device=str(self.device))
            set_peft_model_state_dict(self._peft, weights, role)
        except RuntimeError as error:
            raise WeightsError(f"the adapter at {folder} is not for {self.name}: {error}") from error
        if trainable:
            self._trainable.add(role)
        elif self._base_parameters <= _MERGED_PARAMETERS:
            self._merge(role)
        self._restore_gradients()

    def save_adapter(self, role: Role, folder: Path) -> None:
        """Write the adapter of ``role`` into ``folder``/``role`` as ``peft`` reads it, bf16, in safetensors."""
        if self._peft is None or role not in self._peft.peft_config:
            there = ", ".join(self._peft.peft_config) if self._peft else ""
            raise InputError(f"role {role!r} has no adapter to save; there are: {there or 'none'}")
        tensors = get_peft_model_state_dict(self._peft, adapter_name=role)
        target = folder / role
        target.mkdir(parents=True, exist_ok=True)
        self._peft.peft_config[role].save_pretrained(str(target))
        halved = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in tensors.items()}
        save_file(halved, target / "adapter_model.safetensors")

    def adapter_parameters(self, role: Role) -> list[nn.Parameter]:
        """Return the parameters of the adapter of ``role``."""
        return [p for name, p in self.causal_lm.named_parameters() if f".{role}." in name]

    def train_only(self, roles: Sequence[Role]) -> None:
        """Let gradients reach the adapters of ``roles``, all at once, and no others, whichever is on."""
        self._trainable = set(roles)
        self._restore_gradients()

    def _inject(self, role: Role, config: LoraConfig) -> None:
        if self._peft is None:
            with quiet_peft():
                self._peft = PeftModel(self.causal_lm, config, adapter_name=role)
        else:
            self._peft.add_adapter(role, config)
        self._lora_layers = self._found_lora_layers()
        self._activate(self._active)

    def _activate(self, role: Role | None) -> None:
        if self._active in self._merged:
            _point(self._merged[self._active].base)
        self._active = role
        if role in self._merged:
            _point(self._merged[role].weights)
        on = self._peft is not None and role in self._peft.peft_config and role not in self._merged
        # What peft's own switch sets. That one looks for all layers and turns gradients on and off each time, which for
        # lessons through slots happens several times a pass.
        for layer in self._lora_layers:
            layer._disable_adapters = not on
            if on:
                layer._active_adapter = [role]

    def _restore_gradients(self) -> None:
        # peft lets gradients reach the adapter that was added last alone, and the compressor learns from what the
        # reasoner reads.
        for role in self._peft.peft_config if self._peft else ():
            for parameter in self.adapter_parameters(role):
                parameter.requires_grad_(role in self._trainable)

    def _merge(self, role: Role) -> None:
        """Keep the adapter as weights to point the base's layers at, and take it out of the layers' way."""
        merged = self._added(role)
        assert self._peft is not None  # noqa: S101 - the role was injected
        if list(self._peft.peft_config) == [role]:
            self._peft.unload()
            self._peft = None
        else:
            self._peft.delete_adapter(role)
        self._lora_layers = self._found_lora_layers()
        self._merged[role] = merged

    def _found_lora_layers(self) -> list[LoraLayer]:
        return [module for module in self.causal_lm.modules() if isinstance(module, LoraLayer)]

    def _added(self, role: Role) -> _Merged:
        """Return the weights with the adapter of ``role``, which is not on, added."""
        weights, base = {}, {}
        for layer in self._lora_layers:
            if role in layer.scaling:
                linear = layer.get_base_layer()
                base[linear] = linear.weight.data
                with torch.no_grad():
                    added = linear.weight.data.float() + layer.get_delta_weight(role).float()
                weights[linear] = added.to(linear.weight.dtype)
        return _Merged(weights, base, self.fingerprint(role))

    def fingerprint(self, role: Role | None) -> str:
        """Return 16 hex digits of what the base and the adapter of ``role`` compute with; ``None``: the base alone."""
        if role in self._merged:
            return self._merged[role].fingerprint
        weights = {n: p for n, p in self.causal_lm.named_parameters() if f".{role}." in n}
        # The same matrices scaled otherwise compute other slots.
        scales = [layer.scaling[role] for layer in self._lora_layers if role in layer.scaling]
        parts = f"{self.base_fingerprint}{_hash_tensors(weights)}{scales or ''}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _point(weights: Mapping[nn.Linear, Tensor]) -> None:
    for linear, weight in weights.items():
        linear.weight.data = weight


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and up to 1024 evenly spread values of each tensor: milliseconds, whatever the size.

    Values are compared in bf16, so that a model has one fingerprint in every precision.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 1024)].to("cpu", torch.bfloat16).float()
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()
