"""Encodes chunks into slots: the compressor of LycheeMemory (arXiv 2602.08382, section 3), three placements.

In place, the last token of each group of α *is* the slot: nothing is inserted, so encoding costs
what reading costs, and an untrained model already carries much. Inserted, a memory token follows
each group, as in the paper. Selected, as many tokens as in place are slots, but which ones is chosen
after they are read, at each layer for itself.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache

from .adapters import holds_adapter, read_card
from .backbone import Backbone
from .errors import InputError, WeightsError
from .kv_cache import Slots, gather_slots
from .selector import SELECTOR, Selector, best_positions, load_selector, save_selector, unrotated
from .settings import CompressionSettings

MEMORY_EMBEDDING = Path("compressor", "memory_embedding.safetensors")
"""Where a folder of adapters keeps the embedding of inserted memory tokens, named for their placement."""


class Compressor(nn.Module):
    """Turns the ids of chunks into :class:`core.kv_cache.Slots`.

    Its own parameter is ``memory_embedding`` [hidden], shared by all inserted memory tokens: the
    end-of-text token's embedding for ``inserted``, zero for ``inserted_copy``, which adds it to the
    embedding of the group's last token. In place has none; ``selected`` has a ``selector``, which is loaded
    and stays as it is.
    """

    def __init__(self, backbone: Backbone, settings: CompressionSettings) -> None:
        super().__init__()
        room = backbone.context_tokens
        self._inserts = settings.placement in ("inserted", "inserted_copy")
        if settings.chunk_tokens * (1 + self._inserts / settings.ratio) > room / 2:
            raise InputError(
                f"chunk_tokens={settings.chunk_tokens} takes over half of the {room} positions of "
                f"{backbone.name}, and the prompt needs the rest: lower chunk_tokens"
            )
        # Not registered as a submodule: the backbone's weights are not the compressor's to move or save.
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        self.selector: Selector | None = None
        if self._inserts:
            row = backbone.embeddings.weight[backbone.tokenizer.eos_token_id].detach().float()
            start = row.clone() if settings.placement == "inserted" else torch.zeros_like(row)
            self.memory_embedding = nn.Parameter(start)

    def save_weights(self, folder: Path) -> None:
        """Write the memory embedding or the selector beside the adapters in ``folder``; in place has neither."""
        if self._inserts and "compressor" in self.backbone.adapters:
            (folder / MEMORY_EMBEDDING).parent.mkdir(parents=True, exist_ok=True)
            save_file({self.settings.placement: self.memory_embedding.detach().cpu()}, folder / MEMORY_EMBEDDING)
        if self.selector is not None:
            save_selector(self.selector, folder)

    def load_weights(self, folder: Path) -> None:
        """Take the memory embedding or the selector from beside the adapters in ``folder``.

        The memory embedding stays as it is where there is no adapter of the compressor, or one for another
        placement, which is not loaded either (:func:`core.adapters.load_adapters`). A selector belongs to the base
        model, and is taken wherever there is one. In place needs none of this.

        Raises:
            WeightsError: what belongs there is missing, cannot be read, or is of another model.
        """
        if self.settings.placement == "selected" and (folder / SELECTOR).is_file():
            self.selector = load_selector(self.backbone, folder).requires_grad_(False)
        fits = self._inserts and read_card(folder).placement == self.settings.placement
        if fits and holds_adapter(folder / "compressor"):
            self._load_memory_embedding(folder / MEMORY_EMBEDDING)

    def _load_memory_embedding(self, file: Path) -> None:
        try:
            held = load_file(file)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{file} cannot be read ({error}): it belongs beside the adapter") from error
        found = {name: tuple(tensor.shape) for name, tensor in held.items()}
        wanted = {self.settings.placement: tuple(self.memory_embedding.shape)}
        if found != wanted:
            raise WeightsError(f"{file} holds {found}, not {wanted}: it is of another model")
        with torch.no_grad():
            self.memory_embedding.copy_(held[self.settings.placement])

    def check(self) -> None:
        """Refuse to encode without the weights that the placement needs.

        Raises:
            WeightsError: tokens are to be selected, and there is no selector.
        """
        if self.settings.placement == "selected" and self.selector is None:
            raise WeightsError(
                f"placement='selected' needs a selector for {self.backbone.name}, and there is none: give adapters "
                "that hold one, train one with 'python -m core.training --stage selector', or use placement='in_place'"
            )

    def fingerprint(self) -> str:
        """Return hex digits of all weights that slots are made with."""
        weights = self.backbone.fingerprint("compressor")
        own = b"".join(tensor.detach().cpu().numpy().tobytes() for _, tensor in sorted(self.state_dict().items()))
        return hashlib.sha256(weights.encode() + own).hexdigest()[:16] if own else weights

    def compress(self, chunks: Sequence[Sequence[int]]) -> list[Slots]:
        """Encode chunks in one pass of the model, without gradient.

        Args:
            chunks: token ids of each chunk, none empty; lengths may differ.

        Returns:
            The slots of each, on the model's device, the same as if it had been encoded alone; up to rounding,
            which among selected tokens may decide between two of equal worth.

        Raises:
            InputError: there is no chunk, or one without tokens.
            WeightsError: see :meth:`check`.
        """
        with torch.no_grad():
            return self.forward(chunks)

    def forward(self, chunks: Sequence[Sequence[int]]) -> list[Slots]:
        """Encode as :meth:`compress` does, with the gradient flowing."""
        if not chunks or not all(chunks):
            raise InputError("compress was given no chunk, or a chunk without tokens: leave empty text out")
        self.check()
        layouts = [self._layout(len(ids)) for ids in chunks]
        device, longest = self.backbone.device, max(len(source) for source, _ in layouts)
        ids = torch.zeros(len(chunks), longest, dtype=torch.long)
        inserted = torch.zeros(len(chunks), longest, dtype=torch.bool)
        for row, (chunk, (source, _)) in enumerate(zip(chunks, layouts, strict=True)):
            # An inserted token stands for -1 - i: it follows token i, whose id it may copy.
            ids[row, : len(source)] = torch.tensor(chunk)[torch.where(source < 0, -1 - source, source)]
            inserted[row, : len(source)] = source < 0
        inputs = self._inputs(ids.to(device), inserted.to(device))
        with self.backbone.using("compressor"):
            cache = self.backbone.prefill(inputs)
        slots = []
        for row, (source, kept) in enumerate(layouts):
            places = kept.to(device)
            if self.selector is not None:
                places = self._selected(self.selector, cache, row, len(source), len(kept))
            slots.append(gather_slots(cache, row, places, len(source)))
        return slots

    def _selected(self, selector: Selector, cache: DynamicCache, row: int, tokens: int, count: int) -> Tensor:
        """Choose which of a chunk's ``tokens`` are kept, int64 [layers, count]; no gradient reaches the choice."""
        turn = self.backbone.inverse_frequencies
        with torch.no_grad():
            layers = ((layer.keys[row, :, :tokens], layer.values[row, :, :tokens]) for layer in cache.layers)
            scores = [
                selector.layer_scores(n, unrotated(keys, turn), values) for n, (keys, values) in enumerate(layers)
            ]
        return best_positions(torch.stack(scores), count, min(self.settings.sink_tokens, tokens))

    def _layout(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Lay out a chunk of ``tokens``: what stands at each position, and the positions that are kept.

        A trailing group shorter than α keeps its slot. Of selected tokens only the number is known beforehand:
        it is that of in place.
        """
        ratio, sink = self.settings.ratio, min(self.settings.sink_tokens, tokens)
        lasts = torch.tensor([*range(ratio - 1, tokens, ratio), *([tokens - 1] if tokens % ratio else [])])
        source = torch.arange(tokens)
        if not self._inserts:
            return source, torch.cat((source[:sink], lasts)).unique()
        # Every token i moves back by the memory tokens before it, one for each whole group.
        places = torch.full((tokens + len(lasts),), -1)
        token_places = source + source // ratio
        memory_places = lasts + lasts // ratio + 1
        places[token_places], places[memory_places] = source, -1 - lasts
        return places, torch.cat((token_places[:sink], memory_places)).unique()

    def _inputs(self, ids: Tensor, inserted: Tensor) -> Tensor:
        if not self._inserts:
            return ids
        embedded = self.backbone.embeddings(ids)
        memory = self.memory_embedding.to(embedded.dtype)
        if self.settings.placement == "inserted_copy":
            memory = embedded + memory
        return torch.where(inserted[..., None], memory, embedded)
