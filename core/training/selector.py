"""The selector learns what the model looks at when it reads a text a second time.

The base reads a text from the pool, and once more after "Repeat the text above": what a token is worth at a layer is
the largest attention that it then gets, the mean over the layer's key heads of its logarithm. No question is needed,
so that what is kept serves any (KVzip, arXiv 2505.23416, which keeps tokens head by head). The selector learns to
say it from the keys and values of the first reading, within a text and layer: a text keeps its share of tokens
however little it is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from transformers import DynamicCache

from ..adapters import save_adapters
from ..backbone import Backbone
from ..kv_cache import Prefix, gather_slots
from ..selector import SELECTOR, best_positions, load_selector, new_selector, save_selector, token_states, unrotated
from ..settings import CompressionSettings
from .attention import attention_received
from .material import Material
from .pretraining import PoolLessons
from .settings import TrainingSettings
from .stage import Stage

_REPEAT = "\n\nRepeat the text above word for word:\n"
_SINK = CompressionSettings().sink_tokens
"""First tokens of a text, which are kept whatever they are worth, and looked at far more than all others."""
_FITTED, _HELD_OUT = 8, 12
"""Texts that the spread of keys and values is measured on, and that the selector is."""
_KEPT = 4
"""Of so many tokens one is kept where the selector is measured: α."""
_FAINTEST = 1e-6
"""Attention below it is as good as none."""
_FARTHEST = 3.0
"""Standard deviations from the mean beyond which it does not matter how far."""
_NARROWEST = 1e-3
"""Least deviation to divide by."""


@dataclass(frozen=True)
class TextPiece:
    """A text with its share of its step."""

    text: str
    in_step: int
    """Texts of the whole step, over all processes."""


@dataclass(frozen=True)
class _Read:
    """What a text left when it was read, and what it is worth; sink tokens included."""

    keys: Tensor
    """float32 [layers, kv_heads, tokens, head_dim], not rotated."""
    values: Tensor
    """[layers, kv_heads, tokens, head_dim]."""
    worth: Tensor
    """float32 [layers, tokens]; mean 0 and deviation 1 over a layer's tokens behind the sink."""


class SelectorTraining(Stage[TextPiece]):
    """Minimises the Huber loss of what each token behind the sink is said to be worth at each layer."""

    def __init__(
        self, backbone: Backbone, settings: TrainingSettings, material: Material, adapters: Path | None = None
    ) -> None:
        """
        Args:
            backbone: that encodes, with the compressor's adapter if it has one, and reads again as it is.
            adapters: where ``backbone``'s adapters came from; a selector there is trained further.

        Raises:
            InputError: the pool has no text to learn from.
            WeightsError: the selector in ``adapters`` cannot be read or is of another model.
        """
        super().__init__()
        self.__dict__["backbone"] = backbone
        self.backbone: Backbone
        self.settings = settings
        self._texts = PoolLessons(material.pool, settings.seed)
        self._held_out = PoolLessons(material.pool, 0, held_out=True)
        if adapters is not None and (adapters / SELECTOR).is_file():
            self.selector = load_selector(backbone, adapters)
        else:
            self.selector = new_selector(backbone, settings.seed)
            self._fit_inputs()

    def work(self, step: int, process: int, processes: int) -> Sequence[TextPiece]:
        """See :class:`core.training.stage.Stage`."""
        batch = self.settings.batch
        return [TextPiece(self._texts.text(step * batch + i), batch) for i in range(batch)][process::processes]

    def forward(self, piece: TextPiece) -> tuple[Tensor, dict[str, float]]:
        """See :class:`core.training.stage.Stage`."""
        read = self._read(piece.text)
        loss = _loss(self.selector(read.keys, read.values), read.worth)
        return loss / piece.in_step, {"tokens": float(read.worth.shape[1])}

    def evaluate(self) -> dict[str, float]:
        """Measure on held-out texts, behind the sink: loss, correlation of what tokens are said to be worth with what
        they are, and the share of the tokens best worth keeping, a quarter, that the selector keeps."""
        found = dict.fromkeys(("loss", "correlation", "overlap"), 0.0)
        count = min(_HELD_OUT, len(self._held_out))
        for number in range(count):
            read = self._read(self._held_out.text(number))
            scores = self.selector(read.keys, read.values)
            for name, value in _measures(scores, read.worth).items():
                found[name] += value / count
        return found

    def save(self, folder: Path) -> None:
        """Write the selector, and every adapter there is."""
        save_adapters(self.backbone, self.backbone.adapters, folder, self.settings.placement)
        save_selector(self.selector, folder)

    def _fit_inputs(self) -> None:
        """Set what is read to mean 0 and deviation 1, by the first texts: the same whenever the run is resumed."""
        seen = list[Tensor]()
        for number in range(_FITTED):
            keys, values, _ = self._encoded(self.backbone.encode(self._texts.text(number)))
            seen.append(token_states(keys, values)[:, _SINK:])
        states = torch.cat(seen, dim=1)
        self.selector.mean.copy_(states.mean(dim=1, keepdim=True))
        self.selector.deviation.copy_(states.std(dim=1, keepdim=True).clamp_min(_NARROWEST))

    @torch.no_grad()
    def _read(self, text: str) -> _Read:
        ids = self.backbone.encode(text)[: CompressionSettings().chunk_tokens]
        keys, values, cache = self._encoded(ids)
        seen = repeat_attention(self.backbone, ids, cache).clamp_min(_FAINTEST).log().mean(dim=1)
        behind = seen[:, _SINK:]
        mean, deviation = behind.mean(dim=1, keepdim=True), behind.std(dim=1, keepdim=True)
        return _Read(keys, values, (seen - mean) / deviation.clamp_min(_NARROWEST))

    @torch.no_grad()
    def _encoded(self, ids: Sequence[int]) -> tuple[Tensor, Tensor, DynamicCache]:
        """Return plain keys and values of a text as the compressor leaves them, and its cache."""
        backbone = self.backbone
        with backbone.using("compressor"):
            cache = backbone.prefill(torch.tensor([ids], device=backbone.device))
        whole = gather_slots(cache, 0, torch.arange(len(ids), device=backbone.device), len(ids))
        return unrotated(whole.keys, backbone.inverse_frequencies), whole.values, cache


@torch.no_grad()
def repeat_attention(backbone: Backbone, ids: Sequence[int], cache: DynamicCache) -> Tensor:
    """Let the bare base read a text again after ``cache`` and return how much each of its tokens is looked at.

    Args:
        ids: of the text.
        cache: what the text left when it was read, one row; the second reading fills it on.

    Returns:
        float32 [layers, kv_heads, tokens]: the largest weight from any token of the second reading and any of the
        query heads that share a key.
    """
    device, tokens = backbone.device, len(ids)
    again = torch.tensor([[*backbone.encode(_REPEAT), *ids]], device=device)
    mask = torch.ones(1, tokens + again.shape[1], dtype=torch.long, device=device)
    read = Prefix(cache, mask[:, :tokens], torch.tensor([tokens], device=device))
    positions = torch.arange(tokens, mask.shape[1], device=device)[None]
    with backbone.using(None), attention_received(backbone, tokens) as received:
        backbone.hidden(again, mask, positions, read)
    return torch.cat(received)


def _loss(scores: Tensor, worth: Tensor) -> Tensor:
    return huber_loss(scores[:, _SINK:], worth[:, _SINK:].clamp(-_FARTHEST, _FARTHEST))


def _measures(scores: Tensor, worth: Tensor) -> dict[str, float]:
    """Return what :meth:`SelectorTraining.evaluate` measures, of one text."""
    pairs = torch.stack((scores[:, _SINK:].flatten(), worth[:, _SINK:].flatten()))
    with torch.autocast(pairs.device.type, enabled=False):  # or it has three digits
        correlation = float(torch.corrcoef(pairs)[0, 1])
    count = -(-(scores.shape[1] - _SINK) // _KEPT)
    chosen, right = (
        torch.zeros_like(worth).scatter(1, best_positions(s, _SINK + count, _SINK), 1)[:, _SINK:]
        for s in (scores, worth)
    )
    return {
        "loss": float(_loss(scores, worth)),
        "correlation": correlation,
        "overlap": float((chosen * right).sum() / right.sum()),
    }
