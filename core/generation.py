"""Writes text after a prompt and opened slots. The trainer samples through this too: there is no second decode loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .backbone import Backbone, Role
from .errors import InputError
from .kv_cache import Prefix, Slots, empty_prefix, expand_prefix, open_slots, shortened, taken_rows
from .teacher_forcing import Row, target_log_probs

_DRAFT_TOKENS = 8
"""Tokens that are guessed ahead; more cost more to check on a CPU, and few guesses hold so long."""
_MATCHED_TOKENS = (3, 2, 1)


@dataclass(frozen=True)
class Prompt:
    """What the model reads before it writes: slots first, then one chat exchange with the reply begun."""

    system: str
    user: str
    prefill: str
    """First words of the reply; they are part of it."""
    stop: str
    """The reply ends with this string, which is part of it."""
    max_tokens: int
    slots: tuple[Slots, ...] = ()
    """Chunks to open before the text, in reading order."""
    favoured: tuple[str, float] | None = None
    """Words that the reply rather begins with, and by how many nats their first token is raised. Samples are drawn
    without: what is learned from them is the model's own."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote for one prompt."""

    text: str
    """The whole reply, the prompt's prefill included."""
    token_ids: tuple[int, ...]
    """The tokens written, the prefill not included."""
    complete: bool
    """Whether the model came to an end by itself, rather than to the limit."""
    tokens_read: int
    slots_read: int
    tokens_counted: int | None = None
    """Tokens written, where a model tells their number and not which they are."""
    log_probs: tuple[float, ...] = field(default=(), compare=False)
    """log p of each token written, at temperature 1; empty where it was decoded greedily."""

    @property
    def tokens_written(self) -> int:
        return len(self.token_ids) if self.tokens_counted is None else self.tokens_counted


class Writer(Protocol):
    """What a reasoner needs of a model: the local one (:class:`Generator`), or an application's own."""

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        """Write the reply to ``prompt``; ``on_text`` sees it grow, a piece at a time."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return the tokens that ``text`` takes of the budget for working memory."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A writer that also tells how likely it would have written something."""

    def log_probs(self, prompt: Prompt, replies: Sequence[str]) -> list[float]:
        """Return log p of each of ``replies``, which go on from the prompt's prefill and end with its stop."""
        ...


def reply_rows(backbone: Backbone, prompt: Prompt, replies: Sequence[str]) -> list[Row]:
    """Return ``prompt`` with each of ``replies`` that go on from its prefill, ended with its stop, as they are read."""
    read = tuple(backbone.encode_chat(prompt.system, prompt.user, prompt.prefill))
    return [Row(read, tuple(backbone.encode(reply + prompt.stop))) for reply in replies]


class Generator:
    """Decodes replies from a local model, a batch at a time; greedy unless given a temperature."""

    def __init__(self, backbone: Backbone, role: Role | None = "reasoner") -> None:
        """
        Args:
            role: whose adapter writes; ``None``: the base model.
        """
        self.backbone = backbone
        self.role: Role | None = role
        self._heads: dict[str, Prefix] = {}
        self._read: tuple[Prompt, Prefix] | None = None
        ends = backbone.causal_lm.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self._ends = {e for e in (*listed, backbone.tokenizer.eos_token_id) if e is not None}

    def count_tokens(self, text: str) -> int:
        """See :class:`Writer`."""
        return len(self.backbone.encode(text))

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        """Decode one prompt greedily; ``on_text`` sees the reply grow, a piece at a time."""
        return self.replies([prompt], on_text=on_text)[0]

    def replies(
        self,
        prompts: Sequence[Prompt],
        *,
        temperature: float = 0.0,
        random: torch.Generator | Sequence[torch.Generator] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Reply]:
        """Decode all ``prompts`` together; one that is given several times is read once.

        Args:
            prompts: either all with slots or all without.
            temperature: 0 takes the likeliest token.
            random: source of samples where ``temperature`` is above 0; or one for each prompt, on the
                CPU, so that what is sampled for a prompt does not depend on the others.
            on_text: sees the first prompt's reply grow, a piece at a time.

        Raises:
            InputError: a prompt and its reply are longer than the model's context.
        """
        backbone = self.backbone
        once, rows = _each_once(prompts)
        if temperature == 0 and len(once) < len(prompts):
            written_once = self.replies(once, on_text=on_text)
            return [written_once[row] for row in rows]
        read = [backbone.encode_chat(p.system, p.user, p.prefill) for p in once]
        with torch.no_grad(), backbone.using(self.role):
            prefix, ids, mask, positions = self._begun(once, read)
            written: list[list[int]] = [[] for _ in prompts]
            scored: list[list[float]] = [[] for _ in prompts]
            done, complete, shown = [False] * len(prompts), [False] * len(prompts), len(prompts[0].prefill)
            alone = len(prompts) == 1 and temperature == 0
            draft: list[int] = []
            going = list(range(len(prompts)))  # in the batch still, in order
            while not all(done):
                hidden, prefix = backbone.hidden(ids, mask, positions, prefix)
                if len(hidden) < len(going):
                    hidden, prefix = hidden[rows], taken_rows(prefix, rows)
                logits = backbone.logits(hidden[:, -1 - len(draft) :]).float()
                self._favour(prompts if temperature == 0 and not written[0] else (), logits)
                drawn = [random[row] for row in going] if isinstance(random, Sequence) else random
                chosen = _choose(logits[:, -1], temperature, drawn)[:, None] if not alone else logits.argmax(dim=-1)
                found = _log_probs(logits[:, -1], chosen[:, 0]) if temperature else []
                kept = _agreeing(draft, chosen[0].tolist()) if draft else 1
                for place, (row, tokens) in enumerate(zip(going, chosen[:, :kept].tolist(), strict=True)):
                    for token in tokens:
                        if done[row]:
                            break
                        written[row].append(token)
                        scored[row].extend(found[place : place + 1])
                        said = self._text(prompts[row], written[row])[len(prompts[row].prefill) :]
                        complete[row] = token in self._ends or prompts[row].stop in said
                        done[row] = complete[row] or len(written[row]) >= prompts[row].max_tokens
                if on_text:
                    # An unfinished character waits for its other bytes, while they may come.
                    text = self._text(prompts[0], written[0])
                    if (done[0] or not text.endswith("\ufffd")) and len(text) > shown:
                        on_text(text[shown:])
                        shown = len(text)
                prefix = shortened(prefix, len(draft) + 1 - kept)
                room = min(_DRAFT_TOKENS, prompts[0].max_tokens - len(written[0]) - 1)
                draft = continuation([*read[0], *written[0]], room) if alone else []
                left = [place for place, row in enumerate(going) if not done[row]]
                if 0 < 2 * len(left) <= len(going):  # to carry what has ended costs more than to take out the rest
                    chosen, prefix, going = chosen[left], taken_rows(prefix, left), [going[place] for place in left]
                ids = torch.cat((chosen[:, kept - 1 : kept], chosen.new_tensor([draft] * len(going))), dim=1)
                positions = prefix.next_positions[:, None] + torch.arange(ids.shape[1], device=ids.device)
                mask = torch.cat((prefix.mask, torch.ones_like(ids)), dim=1)
            self._keep(prompts[0], read[0], prefix, alone=alone)
        return [
            Reply(self._text(p, w), tuple(w), c, len(r), sum(len(s) for s in p.slots), log_probs=tuple(f))
            for p, w, c, r, f in zip(prompts, written, complete, (read[row] for row in rows), scored, strict=True)
        ]

    def _keep(self, prompt: Prompt, read: Sequence[int], prefix: Prefix, *, alone: bool) -> None:
        """Keep what was read of a prompt ``alone`` but for its last token, after which a reply begins."""
        if alone and not prompt.slots and not self.backbone.trained:
            self._read = prompt, shortened(prefix, prefix.slots - len(read) + 1)

    def log_probs(self, prompt: Prompt, replies: Sequence[str]) -> list[float]:
        """See :class:`Scorer`; a prompt that was replied to last is not read again.

        Raises:
            InputError: the prompt has slots.
        """
        if prompt.slots:
            raise InputError("replies to a prompt with slots cannot be scored")
        begun = self._read[1] if self._read and self._read[0] == prompt else None
        rows = reply_rows(self.backbone, prompt, replies)
        with torch.no_grad():
            found = target_log_probs(self.backbone, rows, role=self.role, begun=begun)
            return [float(log_probs.sum()) for log_probs in found]

    def _begun(self, prompts: Sequence[Prompt], read: Sequence[list[int]]) -> tuple[Prefix, Tensor, Tensor, Tensor]:
        """Return what is open before the ``prompts``, and of what is still to ``read`` ids, mask and positions."""
        prefix = self._open(prompts)
        self._check_room(prompts, read, prefix)
        head = self._head(prompts)
        if head is not None:
            prefix = expand_prefix(head, len(prompts))
        return prefix, *left_padded([ids[0 if head is None else head.slots :] for ids in read], prefix)

    def _head(self, prompts: Sequence[Prompt]) -> Prefix | None:
        """Return what all ``prompts`` begin with, read once for all that this generator writes; ``None``: nothing.

        Only where reading is what costs, and where no training changes what was read. It is read by itself also the
        first time, so that a reply never hangs on what was asked before.
        """
        backbone, systems = self.backbone, {prompt.system for prompt in prompts}
        if any(p.slots for p in prompts) or len(systems) > 1 or backbone.device.type != "cpu" or backbone.trained:
            return None
        (system,) = systems
        if system not in self._heads and (head := backbone.encode_chat_head(system)):
            nothing = empty_prefix(1, backbone.device)
            _, self._heads[system] = backbone.hidden(*left_padded([head], nothing), nothing)
        return self._heads.get(system)

    def _favour(self, prompts: Sequence[Prompt], logits: Tensor) -> None:
        """Raise in ``logits`` [prompts, tokens, vocabulary] what each reply rather begins with."""
        for place, prompt in enumerate(prompts):
            if prompt.favoured is not None:
                text, nats = prompt.favoured
                logits[place, -1, self.backbone.encode(text)[0]] += nats

    def _open(self, prompts: Sequence[Prompt]) -> Prefix:
        backbone = self.backbone
        opened = [bool(p.slots) for p in prompts]
        if not any(opened):
            return empty_prefix(len(prompts), backbone.device)
        if not all(opened):
            raise InputError("prompts with slots and prompts without cannot share a batch")
        return open_slots(
            [p.slots for p in prompts], backbone.inverse_frequencies, device=backbone.device, dtype=backbone.dtype
        )

    def _check_room(self, prompts: Sequence[Prompt], read: Sequence[list[int]], prefix: Prefix) -> None:
        for prompt, ids, start in zip(prompts, read, prefix.next_positions.tolist(), strict=True):
            needed = start + len(ids) + prompt.max_tokens
            if needed > self.backbone.context_tokens:
                raise InputError(
                    f"a prompt takes {needed} positions ({start} for slots, {len(ids)} for text, {prompt.max_tokens} "
                    f"to write), {self.backbone.name} has {self.backbone.context_tokens}: shorten the question, or set "
                    "smaller chunks or budgets"
                )

    def _text(self, prompt: Prompt, written: list[int]) -> str:
        kept = [t for t in written if t not in self._ends]
        text: str = prompt.prefill + self.backbone.tokenizer.decode(kept, skip_special_tokens=True)
        if prompt.stop in text[len(prompt.prefill) :]:
            text = text[: text.index(prompt.stop, len(prompt.prefill)) + len(prompt.stop)]
        return text


def continuation(tokens: Sequence[int], count: int) -> list[int]:
    """Guess up to ``count`` tokens that follow ``tokens``: those that once followed the same last three, two or one.

    Updates and answers are mostly copied from what the prompt shows. All of a guess is checked in the one pass that
    the next token takes anyway (inference with reference, arXiv 2304.04487: a draft without a model).
    """
    for length in _MATCHED_TOKENS:
        last = list(tokens[-length:])
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == last:
                return list(tokens[start + length : start + length + count])
    return []


def _each_once(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """Return the ``prompts`` without those that are there already, and for each given its number among them."""
    # Slots are the same where they are one object: to compare what they hold would take longer than to read them.
    keys = [(p.system, p.user, p.prefill, p.stop, p.max_tokens, p.favoured, tuple(map(id, p.slots))) for p in prompts]
    once = dict(zip(keys, prompts, strict=True))
    numbers = {key: number for number, key in enumerate(once)}
    return list(once.values()), [numbers[key] for key in keys]


def _agreeing(draft: Sequence[int], chosen: Sequence[int]) -> int:
    """Return how many of ``chosen`` the model stands by: each guess that it chose too, and its own next token."""
    wrong = (place for place, (guess, token) in enumerate(zip(draft, chosen, strict=False)) if guess != token)
    return next(wrong, len(draft)) + 1


def left_padded(rows: Sequence[Sequence[int]], prefix: Prefix) -> tuple[Tensor, Tensor, Tensor]:
    """Batch prompts of unequal length to be read after ``prefix``, padded on the left.

    Returns:
        ids int64 [batch, tokens]; mask int64 [batch, slots + tokens]; positions int64 [batch, tokens].
    """
    longest, device = max(map(len, rows)), prefix.mask.device
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0) + prefix.next_positions[:, None]
    return ids, torch.cat((prefix.mask, mask), dim=1), positions


def _choose(logits: Tensor, temperature: float, random: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    odds = torch.softmax(logits / temperature, dim=-1)
    if random is None or isinstance(random, torch.Generator):
        return torch.multinomial(odds, 1, generator=random).squeeze(1)
    # One number a row decides, by the inverse of the cumulative odds, in float64 for the sake of rare tokens.
    cumulative = odds.double().cumsum(dim=-1)
    drawn = torch.stack([torch.rand(1, dtype=torch.float64, generator=source) for source in random])
    found = torch.searchsorted(cumulative, drawn.to(logits.device) * cumulative[:, -1:], right=True)
    return found.squeeze(1).clamp(max=logits.shape[-1] - 1)


def _log_probs(logits: Tensor, chosen: Tensor) -> list[float]:
    found: list[float] = torch.log_softmax(logits, dim=-1).gather(1, chosen[:, None]).squeeze(1).tolist()
    return found
