"""What is written, when it stops, and that a batch writes what each prompt alone does."""

import copy
from dataclasses import replace
from pydoc_data.topics import topics

import pytest
import torch

from core import generation
from core.backbone import Backbone
from core.compressor import Compressor
from core.errors import InputError
from core.generation import Generator, Prompt, Reply, continuation
from core.kv_cache import Slots
from core.settings import CompressionSettings

from .tiny_models import backbone, causal_lm, default_backbone, random_ids, tokenizer, writer

NEVER = "\0 never written"
# Tokens must be equal: the best two logits lie further apart than fp32 noise, which is below 1e-4.


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbone()


def opened(model: Backbone, *lengths: int) -> tuple[Slots, ...]:
    made = Compressor(model, CompressionSettings(ratio=4))
    return tuple(made.compress([random_ids(n, seed=n) for n in lengths]))


def prompts(*slots: tuple[Slots, ...]) -> list[Prompt]:
    users = ("Who kept the lighthouse?", "Why?", "When was the lighthouse at Skagen built, and by whom was it kept?")
    return [
        Prompt("Be brief.", user, prefill, NEVER, tokens, part)
        for user, prefill, tokens, part in zip(users, ("<answer>", "", "<update>"), (12, 9, 16), slots, strict=True)
    ]


def scripted(script: list[int]) -> Generator:
    """Return a generator whose model writes ``script`` after the prefill ``:``."""
    model = writer(script, tokenizer().encode(":")[0])
    return Generator(Backbone(model, tokenizer(), "scripted"))


def ask(stop: str = NEVER, tokens: int = 20) -> Prompt:
    return Prompt("Be brief.", "Write.", ":", stop, tokens)


def text_ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False)


# ---- batches ----


def test_a_batch_writes_what_each_prompt_alone_does(tiny: Backbone) -> None:
    generator, asked = Generator(tiny), prompts((), (), ())
    assert generator.replies(asked) == [generator.reply(prompt) for prompt in asked]
    assert [len(reply.token_ids) for reply in generator.replies(asked)] == [12, 9, 16]


def test_a_batch_over_unequal_numbers_of_slots_writes_what_each_prompt_alone_does(tiny: Backbone) -> None:
    generator = Generator(tiny)
    asked = prompts(opened(tiny, 40, 9), opened(tiny, 3), opened(tiny, 64, 1, 33))
    replies = generator.replies(asked)
    assert replies == [generator.reply(prompt) for prompt in asked]
    assert [reply.slots_read for reply in replies] == [sum(map(len, prompt.slots)) for prompt in asked]
    without = generator.replies([replace(prompt, slots=()) for prompt in asked])
    assert all(a.token_ids != b.token_ids for a, b in zip(replies, without, strict=True))


def test_a_batch_over_slots_writes_what_each_prompt_alone_does_with_the_default_model() -> None:
    model = default_backbone()
    made = Compressor(model, CompressionSettings(ratio=2))
    texts = ("Anna Holm kept the lighthouse at Skagen. " * 3, "It was built in 1858.")
    first, second = made.compress([model.encode(text) for text in texts])
    asked = [
        Prompt("Be brief.", "Who kept the lighthouse at Skagen?", "The", NEVER, 6, (first,)),
        Prompt("Be brief.", "When was the lighthouse built? Name the year.", "It", NEVER, 6, (first, second)),
    ]
    generator = Generator(model)
    assert generator.replies(asked) == [generator.reply(prompt) for prompt in asked]


def test_greedy_replies_are_what_the_plain_model_writes_token_by_token(tiny: Backbone) -> None:
    (prompt, *_) = prompts((), (), ())
    ids, model = tiny.encode_chat(prompt.system, prompt.user, prompt.prefill), causal_lm()
    read = len(ids)
    for _ in range(prompt.max_tokens):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    reply = Generator(tiny).reply(prompt)
    assert list(reply.token_ids) == ids[read:]
    assert (reply.tokens_read, reply.slots_read) == (read, 0)


def test_a_reply_is_as_likely_as_the_plain_model_says_token_by_token(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, counted = Backbone.hidden, list[int]()

    def watched(self, inputs, *args, **kwargs):
        counted.append(inputs.shape[1])
        return plain(self, inputs, *args, **kwargs)

    monkeypatch.setattr(Backbone, "hidden", watched)
    (prompt, *_) = prompts((), (), ())
    prompt, model = replace(prompt, stop="</answer>"), causal_lm()
    read, replies = tiny.encode_chat(prompt.system, prompt.user, prompt.prefill), ["Anna Holm", "", "in 1858"]
    expected = list[float]()
    for reply in replies:
        written = tiny.encode(f"{reply}</answer>")
        with torch.no_grad():
            odds = model(torch.tensor([[*read, *written]]), use_cache=False).logits[0].float().log_softmax(-1)
        expected.append(sum(float(odds[len(read) - 1 + i, token]) for i, token in enumerate(written)))
    generator = Generator(tiny)
    assert generator.log_probs(prompt, replies) == pytest.approx(expected, abs=1e-3)
    # What was just replied to is not read again; another prompt is.
    for asked in (prompt, replace(prompt, user="Who kept the lighthouse at Skagen?")):
        written = generator.reply(asked)
        counted.clear()
        assert generator.log_probs(prompt, replies) == pytest.approx(expected, abs=1e-3)
        assert (max(counted) < 32 + written.tokens_read // 2) is (asked is prompt)
        assert generator.reply(asked) == written  # which changes nothing
    with pytest.raises(InputError, match="with slots"):
        Generator(tiny).log_probs(replace(prompt, slots=opened(tiny, 9)), replies)


# ---- what prompts begin with ----


def test_what_prompts_begin_with_is_read_once_and_changes_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = backbone(), Backbone.hidden
    read = list[int]()

    def counted(self, inputs, *args, **kwargs):
        read.append(inputs.shape[1])
        return plain(self, inputs, *args, **kwargs)

    monkeypatch.setattr(Backbone, "hidden", counted)
    monkeypatch.setattr(generation, "continuation", lambda *_: [])
    asked, head = prompts((), (), ()), len(model.encode_chat_head("Be brief."))
    whole = [len(model.encode_chat(p.system, p.user, p.prefill)) for p in asked]
    generator = Generator(model)
    replies = [generator.reply(prompt) for prompt in asked]
    assert [n for n in read if n > 1] == [head, *(n - head for n in whole)]
    assert [reply.tokens_read for reply in replies] == whole
    assert generator.replies(asked) == replies
    model.add_adapter("reasoner", rank=2, alpha=4)
    read.clear()
    model.train_only(["reasoner"])  # whose steps would leave behind what was read before them
    assert Generator(model).reply(asked[0]) == replies[0]  # a new adapter is the identity
    assert max(read) == whole[0]
    model.train_only([])
    read.clear()
    assert Generator(model).reply(asked[0]) == replies[0]
    assert max(read) == max(head, whole[0] - head)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prompt_that_is_given_several_times_is_read_once(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    first, second, third = prompts(opened(tiny, 40), opened(tiny, 9), opened(tiny, 33))
    other = replace(first, slots=opened(tiny, 64))  # the same words after another chunk
    asked, generator = [first, second, first, other, third, first], Generator(tiny)

    def written(rows: list[int]) -> list[Reply]:
        sources = [torch.Generator().manual_seed(row) for row in rows]
        return generator.replies([asked[row] for row in rows], temperature=temperature, random=sources)

    alone = [written([row])[0] for row in range(len(asked))]
    shapes, plain = list[tuple[int, int]](), Backbone.hidden

    def counted(self, inputs, *args, **kwargs):
        shapes.append(tuple(inputs.shape))
        return plain(self, inputs, *args, **kwargs)

    monkeypatch.setattr(Backbone, "hidden", counted)
    assert written(list(range(len(asked)))) == alone
    assert [rows for rows, tokens in shapes if tokens > 1] == [4]
    assert max(rows for rows, tokens in shapes if tokens == 1) == (6 if temperature else 4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_that_have_ended_leave_the_batch(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    lengths = (3, 9, 2, 16, 4, 5)
    slots = [opened(tiny, 7 * n) if temperature else () for n in lengths]
    asked = [
        Prompt("Be brief.", f"Who kept lighthouse {n}?", "", NEVER, n, part)
        for n, part in zip(lengths, slots, strict=True)
    ]
    generator = Generator(tiny)

    def written(rows: list[int]) -> list[Reply]:
        sources = [torch.Generator().manual_seed(row) for row in rows]
        return generator.replies([asked[row] for row in rows], temperature=temperature, random=sources)

    alone = [written([row])[0] for row in range(len(asked))]
    rows, plain = list[int](), Backbone.hidden

    def counted(self, inputs, *args, **kwargs):
        rows.append(len(inputs))
        return plain(self, inputs, *args, **kwargs)

    monkeypatch.setattr(Backbone, "hidden", counted)
    assert written(list(range(len(asked)))) == alone
    # The first pass writes a token; halves leave after 4 and after 9.
    assert rows == [6] * 4 + [3] * 5 + [1] * 7


# ---- drafts ----


def test_a_draft_is_what_followed_the_longest_match_the_last_time() -> None:
    assert continuation([1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 2) == [9, 2]  # three tokens before two that are nearer
    assert continuation([5, 3, 9, 5, 3, 8, 5, 3], 1) == [8]  # the later of two
    assert continuation([3, 7, 6, 3], 9) == [7, 6, 3]  # no further than there is text
    assert continuation([1, 2, 3], 4) == []
    assert continuation([1, 1], 0) == []


@pytest.mark.parametrize("with_slots", [False, True])
def test_drafts_save_passes_and_change_no_token_of_the_default_model(
    default_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, with_slots: bool
) -> None:
    # In fp32 as in all comparisons of tokens: bf16 has ties, which passes of other sizes break otherwise.
    model = Backbone(copy.deepcopy(default_backbone.causal_lm).float(), default_backbone.tokenizer, "fp32")
    made = Compressor(model, CompressionSettings(ratio=4))
    text = topics["break"]
    slots = tuple(made.compress([model.encode(topics["continue"])])) if with_slots else ()
    user = f"<text>\n{text}\n</text>\n\nRepeat the first sentence of the text."
    prompt = Prompt("You copy sentences.", user, "<update>", "</update>", 40, slots)
    passes, plain = list[int](), Backbone.hidden

    def counted(self, inputs, *args, **kwargs):
        passes.append(inputs.shape[1])
        return plain(self, inputs, *args, **kwargs)

    monkeypatch.setattr(Backbone, "hidden", counted)
    drafted = Generator(model, None).reply(prompt)
    with_drafts = len(passes)
    monkeypatch.setattr(generation, "continuation", lambda *_: [])
    assert Generator(model, None).reply(prompt) == drafted
    assert len(drafted.token_ids) == len(passes) - with_drafts - (not with_slots)  # one pass for the head
    assert with_drafts < 0.6 * len(drafted.token_ids)


def test_a_draft_beyond_the_limit_or_the_context_is_not_read(monkeypatch: pytest.MonkeyPatch, tiny: Backbone) -> None:
    seen, plain = list[int](), Backbone.hidden

    def watched(self, inputs, mask, positions, *args, **kwargs):
        seen.append(int(positions.max()))
        return plain(self, inputs, mask, positions, *args, **kwargs)

    monkeypatch.setattr(Backbone, "hidden", watched)
    monkeypatch.setattr(generation, "continuation", lambda tokens, count: [tokens[-1]] * count)
    (prompt, *_) = prompts((), (), ())
    reply = Generator(tiny).reply(prompt)
    assert max(seen) < reply.tokens_read + prompt.max_tokens
    assert len(reply.token_ids) == prompt.max_tokens


def test_what_is_drafted_after_the_end_is_not_written() -> None:
    """The prompt holds the reply and more: the draft goes on after the stop string."""
    script = text_ids("ab!c")
    prompt = Prompt("Be brief.", ":ab!cdefgh", ":", "!", 20)
    assert scripted(script).reply(prompt).text == ":ab!"


def test_prompts_with_and_without_slots_are_not_mixed(tiny: Backbone) -> None:
    slots = opened(tiny, 9)
    with pytest.raises(InputError, match="cannot share a batch"):
        Generator(tiny).replies([replace(ask(), slots=slots), ask()])


def test_writing_changes_no_opened_slot(tiny: Backbone) -> None:
    slots = opened(tiny, 40, 9)
    before = [(s.keys.clone(), s.values.clone(), s.positions.clone()) for s in slots]
    first = Generator(tiny).reply(replace(ask(), slots=slots))
    for (keys, values, positions), kept in zip(before, slots, strict=True):
        assert torch.equal(keys, kept.keys)
        assert torch.equal(values, kept.values)
        assert torch.equal(positions, kept.positions)
    assert Generator(tiny).reply(replace(ask(), slots=slots)) == first


def test_the_role_of_a_generator_is_on_while_it_writes_and_off_afterwards() -> None:
    model = backbone()
    plain = Generator(model).reply(ask())
    model.add_adapter("compressor", rank=4, alpha=8)
    random = torch.Generator().manual_seed(0)
    for parameter in model.adapter_parameters("compressor"):
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    assert Generator(model, "reasoner").reply(ask()) == plain
    assert Generator(model, "compressor").reply(ask()) != plain
    assert Generator(model, "reasoner").reply(ask()) == plain


# ---- where a reply ends ----


def test_a_reply_ends_at_the_stop_string_though_no_token_is_it() -> None:
    script = [*text_ids(" Anna</answer>"), *text_ids(" never")]
    reply = scripted(script).reply(ask(stop="</answer>"))
    assert reply == Reply(": Anna</answer>", tuple(script[:-1]), True, reply.tokens_read, 0)


def test_what_a_token_says_after_the_stop_string_is_left_out() -> None:
    (sentence_end,) = text_ids('."')
    reply = scripted([*text_ids(" Anna"), sentence_end, *text_ids(" never")]).reply(ask(stop="."))
    assert (reply.text, reply.complete) == (": Anna.", True)
    assert reply.token_ids[-1] == sentence_end


def test_a_stop_string_in_the_prefill_does_not_end_the_reply() -> None:
    reply = scripted([*text_ids(" Anna."), 2]).reply(ask(stop=":"))
    assert (reply.text, reply.complete) == (": Anna.", True)
    assert reply.token_ids == (*text_ids(" Anna."), 2)


def test_an_end_token_ends_the_reply_and_is_no_text() -> None:
    reply = scripted([*text_ids(" Anna."), 2]).reply(ask())
    assert (reply.text, reply.complete, reply.token_ids[-1]) == (": Anna.", True, 2)


def test_every_end_token_of_the_generation_config_ends_the_reply() -> None:
    (extra,) = text_ids(" never")
    model = writer([*text_ids(" Anna."), extra], tokenizer().encode(":")[0])
    model.generation_config.eos_token_id = [7, extra]
    reply = Generator(Backbone(model, tokenizer(), "scripted")).reply(ask())
    assert (reply.text, reply.complete) == (": Anna.", True)


def test_the_token_limit_ends_a_reply_as_incomplete() -> None:
    script = text_ids(" Anna Holm kept it")
    reply = scripted(script).reply(ask(tokens=2))
    assert reply == Reply(": Anna Holm"[: len(reply.text)], tuple(script[:2]), False, reply.tokens_read, 0)
    assert reply.text == ":" + tokenizer().decode(script[:2])


def test_a_row_that_has_ended_writes_no_more_while_others_go_on() -> None:
    script = [*text_ids(" Anna Holm"), 2]
    short, long = scripted(script).replies([ask(tokens=1), ask(tokens=20)])
    assert (len(short.token_ids), short.complete) == (1, False)
    assert (long.text, long.complete) == (": Anna Holm", True)


# ---- seeing it grow ----


@pytest.mark.parametrize(
    ("text", "stop"), [(" Anna Holm kept it.", NEVER), (" Anna</answer>", "</answer>"), (" a 🦩 bird", NEVER)]
)
def test_the_pieces_are_the_reply_without_its_prefill(text: str, stop: str) -> None:
    pieces: list[str] = []
    reply = scripted([*text_ids(text), 2]).reply(ask(stop=stop), pieces.append)
    assert ":" + "".join(pieces) == reply.text == ":" + text
    assert len(pieces) > 1
    assert all(pieces)
    assert "\ufffd" not in "".join(pieces)


def test_the_pieces_of_a_reply_cut_inside_a_character_are_the_reply_too() -> None:
    pieces: list[str] = []
    flamingo = text_ids(" a 🦩")
    reply = scripted(flamingo).reply(ask(tokens=len(flamingo) - 1), pieces.append)
    assert not reply.complete
    assert ":" + "".join(pieces) == reply.text


def test_the_pieces_of_a_batch_are_those_of_its_first_reply(tiny: Backbone) -> None:
    pieces: list[str] = []
    asked = prompts((), (), ())[::-1]
    first, *_ = Generator(tiny).replies(asked, on_text=pieces.append)
    assert (asked[0].prefill + "".join(pieces)).rstrip("\ufffd") == first.text.rstrip("\ufffd")


def test_what_a_listener_raises_ends_the_reply(tiny: Backbone) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Generator(tiny).reply(ask(), stop)


# ---- limits ----


def test_a_prompt_that_is_too_long_is_refused_with_its_numbers(tiny: Backbone) -> None:
    fitting = tiny.context_tokens - len(tiny.encode_chat("Be brief.", "Write.", ":")) - 40
    made = replace(ask(tokens=fitting), slots=opened(tiny, 40))
    read = len(tiny.encode_chat(made.system, made.user, made.prefill))
    numbers = rf"takes 4097 positions \(41 for slots, {read} for text, {fitting} to write\), tiny llama has 4096"
    with pytest.raises(InputError, match=numbers):
        Generator(tiny).reply(replace(made, slots=opened(tiny, 41)))


def test_a_prompt_that_just_fits_is_read(tiny: Backbone) -> None:
    room = tiny.context_tokens - 3 - len(tiny.encode_chat("Be brief.", "", ":"))
    full = replace(ask(tokens=3), user="a" + " a" * (room - 1))
    reply = Generator(tiny).reply(full)
    assert reply.tokens_read + 3 == tiny.context_tokens
    with pytest.raises(InputError, match="takes 4097 positions"):
        Generator(tiny).reply(replace(full, user=full.user + " a"))


# ---- sampling ----


def test_sampling_repeats_with_its_seed_and_differs_with_another(tiny: Backbone) -> None:
    generator, asked = Generator(tiny), prompts((), (), ())

    def sampled(seed: int) -> list[Reply]:
        return generator.replies(asked, temperature=5.0, random=torch.Generator().manual_seed(seed))

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    assert sampled(1) != generator.replies(asked)


def test_a_low_temperature_samples_what_is_likeliest(tiny: Backbone) -> None:
    generator, asked = Generator(tiny), prompts((), (), ())
    cold = generator.replies(asked, temperature=1e-4, random=torch.Generator().manual_seed(0))
    assert cold == generator.replies(asked)


def test_a_favoured_beginning_is_written_from_its_nats_on_and_by_greedy_replies_alone(tiny: Backbone) -> None:
    generator, asked = Generator(tiny), replace(ask(tokens=6), user="Write one.")
    wanted = text_ids("none")[0]
    with torch.no_grad():
        ids = tiny.encode_chat(asked.system, asked.user, asked.prefill)
        logits = causal_lm()(torch.tensor([ids]), use_cache=False).logits[0, -1]
    short = float(logits.max() - logits[wanted])
    below, above = (replace(asked, favoured=("none", short + nats)) for nats in (-0.01, 0.01))
    plain = generator.reply(asked)
    assert short > 0.1
    assert generator.reply(below) == plain
    favoured = generator.reply(above)
    assert favoured.token_ids[0] == wanted
    assert favoured.token_ids[1:] == greedy_after([*ids, wanted], 5)  # and then what is likeliest

    assert generator.replies([asked, above, below, above]) == [plain, favoured, plain, favoured]

    def sampled(prompt: Prompt) -> list[Reply]:
        return generator.replies([prompt] * 8, temperature=1.0, random=torch.Generator().manual_seed(0))

    assert sampled(replace(asked, favoured=("none", 99.0))) == sampled(asked)


def greedy_after(ids: list[int], count: int) -> tuple[int, ...]:
    written = list[int]()
    for _ in range(count):
        with torch.no_grad():
            logits = causal_lm()(torch.tensor([[*ids, *written]]), use_cache=False).logits[0, -1]
        written.append(int(logits.argmax()))
    return tuple(written)


def test_samples_come_as_often_as_their_odds_say(tiny: Backbone) -> None:
    one = replace(ask(tokens=1), user="Write one.")
    ids = tiny.encode_chat(one.system, one.user, one.prefill)
    with torch.no_grad():
        logits = causal_lm()(torch.tensor([ids]), use_cache=False).logits[0, -1]
    best = int(logits.argmax())
    # A temperature at which the likeliest token has odds of about a half.
    temperature = min((0.1 * t for t in range(1, 100)), key=lambda t: abs(torch.softmax(logits / t, 0)[best] - 0.5))
    odds = float(torch.softmax(logits / temperature, 0)[best])
    replies = Generator(tiny).replies([one] * 200, temperature=temperature, random=torch.Generator().manual_seed(0))
    share = sum(reply.token_ids == (best,) for reply in replies) / 200
    assert abs(share - odds) < 0.12  # three standard deviations and more


def test_a_prompts_own_source_makes_its_samples_independent_of_the_batch(tiny: Backbone) -> None:
    generator, asked = Generator(tiny), prompts((), (), ())

    def sampled(*rows: int) -> list[Reply]:
        sources = [torch.Generator().manual_seed(row) for row in rows]
        return generator.replies([asked[row] for row in rows], temperature=1.0, random=sources)

    assert sampled(0, 1, 2) == [sampled(row)[0] for row in (0, 1, 2)]
    assert sampled(2, 0) == [sampled(2)[0], sampled(0)[0]]


def test_samples_from_own_sources_come_as_often_as_their_odds_say(tiny: Backbone) -> None:
    one = replace(ask(tokens=1), user="Write one.")
    ids = tiny.encode_chat(one.system, one.user, one.prefill)
    with torch.no_grad():
        logits = causal_lm()(torch.tensor([ids]), use_cache=False).logits[0, -1]
    best = int(logits.argmax())
    temperature = min((0.1 * t for t in range(1, 100)), key=lambda t: abs(torch.softmax(logits / t, 0)[best] - 0.5))
    odds = float(torch.softmax(logits / temperature, 0)[best])
    sources = [torch.Generator().manual_seed(seed) for seed in range(200)]
    replies = Generator(tiny).replies([one] * 200, temperature=temperature, random=sources)
    assert abs(sum(reply.token_ids == (best,) for reply in replies) / 200 - odds) < 0.12


def test_a_sampled_reply_comes_with_the_log_probs_of_its_tokens(tiny: Backbone) -> None:
    (prompt, *_) = prompts((), (), ())
    reply = Generator(tiny).replies([prompt], temperature=2.0, random=torch.Generator().manual_seed(0))[0]
    ids = tiny.encode_chat(prompt.system, prompt.user, prompt.prefill)
    with torch.no_grad():
        logits = causal_lm()(torch.tensor([[*ids, *reply.token_ids]]), use_cache=False).logits[0, len(ids) - 1 : -1]
    expected = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(reply.token_ids)[:, None]).squeeze(1)
    torch.testing.assert_close(torch.tensor(reply.log_probs), expected, atol=1e-3, rtol=0)
    assert Generator(tiny).reply(prompt).log_probs == ()


def test_without_a_role_the_base_writes() -> None:
    model = backbone()
    plain = Generator(model, None).reply(ask())
    model.add_adapter("reasoner", rank=4, alpha=8)
    random = torch.Generator().manual_seed(0)
    for parameter in model.adapter_parameters("reasoner"):
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    assert Generator(model, None).reply(ask()) == plain != Generator(model).reply(ask())
