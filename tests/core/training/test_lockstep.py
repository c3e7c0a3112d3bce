"""Many conversations in one batch write what each alone does."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from core.backbone import Backbone
from core.compressor import Compressor
from core.generation import Generator, Prompt, Reply
from core.settings import CompressionSettings
from core.training.lockstep import Exchange, Seat, in_lockstep

from ...tiny_models import backbone, random_ids

FIRST = Prompt("Be brief.", "Who kept the lighthouse?", "<answer>", "\0 never", 6)


def greedy(_: Prompt) -> float:
    return 0.0


def sampled(_: Prompt) -> float:
    return 1.0


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbone()


class CountedGenerator(Generator):
    """Counts the prompts of each batch."""

    batches: list[int]

    def replies(self, prompts: Sequence[Prompt], **options: object) -> list[Reply]:
        self.batches = [*getattr(self, "batches", []), len(prompts)]
        return super().replies(prompts, **options)


def talk(turns: int, first: Prompt = FIRST) -> Callable[[Generator], list[Reply]]:
    """Return a conversation whose every turn shows what was said before."""

    def conversation(generator: Generator) -> list[Reply]:
        prompt, replies = first, list[Reply]()
        for _ in range(turns):
            replies.append(generator.reply(prompt))
            prompt = replace(prompt, user=f"{prompt.user} {replies[-1].text}", slots=())
        return replies

    return conversation


def sources(*seeds: int) -> list[list[torch.Generator]]:
    return [[torch.Generator().manual_seed(seed)] for seed in seeds]


def test_greedy_conversations_go_as_they_do_alone(tiny: Backbone) -> None:
    talks = [talk(turns, replace(FIRST, user=f"{FIRST.user} {turns}")) for turns in (1, 3, 2, 0)]
    generator = CountedGenerator(tiny)
    assert in_lockstep(generator, talks, greedy, sources(0, 1, 2, 3)) == [one(Generator(tiny)) for one in talks]
    assert generator.batches == [3, 2, 1]


def test_conversations_with_and_without_slots_go_on_together(tiny: Backbone) -> None:
    (slots,) = Compressor(tiny, CompressionSettings(ratio=4)).compress([random_ids(20)])
    talks = [talk(2), talk(2, replace(FIRST, slots=(slots,)))]
    found = in_lockstep(Generator(tiny), talks, greedy, sources(0, 1))
    assert found == [one(Generator(tiny)) for one in talks]
    assert [reply.slots_read for reply in found[1]] == [len(slots), 0]


def test_samples_follow_from_a_conversations_own_source(tiny: Backbone) -> None:
    together = in_lockstep(Generator(tiny), [talk(2)] * 3, sampled, sources(5, 6, 5))
    assert together[0] == together[2] != together[1]
    assert in_lockstep(Generator(tiny), [talk(2)], sampled, sources(6)) == together[1:2]


def test_replies_are_sampled_at_what_their_prompts_say(tiny: Backbone) -> None:
    warm = replace(FIRST, prefill="<update>")

    def heat(prompt: Prompt) -> float:
        return float(prompt.prefill == "<update>")

    talks = [talk(2), talk(2, warm), talk(2, replace(FIRST, user="Why?")), talk(2, warm)]
    generator = CountedGenerator(tiny)
    found = in_lockstep(generator, talks, heat, sources(1, 2, 3, 4))
    assert generator.batches == [2, 2, 2, 2]
    assert [found[0], found[2]] == [talks[row](Generator(tiny)) for row in (0, 2)]
    assert found[1] != found[3]
    assert in_lockstep(Generator(tiny), talks[1:2], sampled, sources(2)) == found[1:2]


def test_what_is_sampled_waits_for_what_is_greedy(tiny: Backbone) -> None:
    def heat(prompt: Prompt) -> float:
        return float(prompt.prefill == "<update>")

    def conversation(turns: int) -> Callable[[Generator], list[Reply]]:
        last = replace(FIRST, user=f"What came of it in {turns}?", prefill="<update>")
        first = talk(turns, replace(FIRST, user=f"{FIRST.user} {turns}"))
        return lambda generator: [*first(generator), generator.reply(last)]

    talks = [conversation(turns) for turns in (1, 3, 2)]
    generator = CountedGenerator(tiny)
    found = in_lockstep(generator, talks, heat, sources(1, 2, 3))
    assert generator.batches == [3, 2, 1, 3]
    for row, one in enumerate(talks):
        assert in_lockstep(Generator(tiny), [one], heat, sources(row + 1)) == [found[row]]


def test_a_seat_keeps_what_was_said(tiny: Backbone) -> None:
    def conversation(seat: Seat) -> list[tuple[Prompt, Reply]]:
        pieces: list[str] = []
        seat.reply(FIRST, pieces.append)
        assert FIRST.prefill + "".join(pieces) == seat.said[0].replies[0].text
        return seat.said

    ((prompt, (reply,)),) = in_lockstep(Generator(tiny), [conversation], sampled, sources(0))[0]
    assert prompt == FIRST
    assert len(reply.log_probs) == len(reply.token_ids)


def test_a_reply_is_sampled_from_each_of_a_conversations_sources(tiny: Backbone) -> None:
    last = replace(FIRST, user="What came of it?", prefill="<update>")

    def heat(prompt: Prompt) -> float:
        return float(prompt is last)

    def conversation(seat: Seat) -> list[Exchange]:
        seat.reply(FIRST)
        assert seat.reply(last) == seat.said[1].replies[0]
        return seat.said

    apart = in_lockstep(Generator(tiny), [conversation] * 4, heat, sources(1, 2, 3, 4))
    generator = CountedGenerator(tiny)
    shared = [[source for (source,) in sources(*seeds)] for seeds in ((1, 2, 3), (4,))]
    found = in_lockstep(generator, [conversation] * 2, heat, shared)
    assert generator.batches == [2, 1, 4]  # the two that are greedy are one prompt, read once
    for number, said in enumerate(found):
        rows = apart[3:] if number else apart[:3]
        assert said[0] == rows[0][0]
        assert said[1].replies == tuple(reply for row in rows for reply in row[1].replies)
    assert len(set(found[0][1].replies)) > 1


def test_an_error_in_one_conversation_stops_all_of_them(tiny: Backbone) -> None:
    before = threading.active_count()

    def broken(generator: Generator) -> list[Reply]:
        generator.reply(FIRST)
        raise ArithmeticError("a reward of nothing")

    with pytest.raises(ArithmeticError, match="a reward of nothing"):
        in_lockstep(Generator(tiny), [talk(1), broken, talk(50)], greedy, sources(0, 1, 2))
    assert threading.active_count() == before


def test_an_error_while_writing_stops_all_of_them(tiny: Backbone) -> None:
    long = replace(FIRST, user="word " * 5000)
    before = threading.active_count()
    with pytest.raises(ValueError, match="positions"):
        in_lockstep(Generator(tiny), [talk(3), talk(1, long)], greedy, sources(0, 1))
    assert threading.active_count() == before


def test_no_conversation_is_none_to_wait_for(tiny: Backbone) -> None:
    assert in_lockstep(Generator(tiny), [], sampled, []) == []
