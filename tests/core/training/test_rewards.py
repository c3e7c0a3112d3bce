"""What a rollout is rewarded for, worked by hand."""

import pytest

from core.training.rewards import (
    StepReward,
    best_recall,
    callback_reward,
    format_reward,
    memory_reward,
    outcome_reward,
)

GOLD = ("Jonas Ark", "Mr Ark")


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("Jonas Ark", 1.0),
        ("the jonas ark.", 1.0),
        ("Mr. Ark", 1.0),
        ("Jonas", 0.0),
        ("Jonas Ark of Brenfield", 0.0),
        ("", 0.0),
        ("  ", 0.0),
    ],
)
def test_the_outcome_is_the_best_exact_match_over_the_gold_answers(answer: str, reward: float) -> None:
    assert outcome_reward(answer, GOLD) == reward


def test_a_gold_answer_without_words_is_not_matched_by_nothing() -> None:
    assert outcome_reward("", ("",)) == 0.0


def test_memory_earns_what_it_gained_not_what_it_holds() -> None:
    # "Mr Ark": from none of two words to one; "Jonas Ark": from none to two of two.
    assert memory_reward(GOLD, "", "The mill is owned by Jonas Ark.") == 1.0
    assert memory_reward(GOLD, "Jonas has a mill.", "Jonas has a mill. His name is Ark.") == 0.5
    assert memory_reward(GOLD, "Jonas Ark", "Jonas Ark owns the mill.") == 0.0
    assert memory_reward(GOLD, "Jonas Ark", "It rains.") == -1.0


def test_recall_compares_words_in_any_case_and_never_substrings() -> None:
    assert best_recall(("no",), "Note that nothing is known.") == 0.0
    assert best_recall(("no",), "NO!") == 1.0
    assert best_recall(("Jonas Ark",), "jonas parked") == 0.5
    assert best_recall(("a b c d", "a b"), "b a") == 1.0


def test_a_callback_earns_what_was_not_at_hand() -> None:
    memory, chunk = "The mill stands in Brenfield.", "Mr Hill is old."
    # At hand: "Mr" of "Mr Ark" is 0.5. The callback brings "Ark", which makes both answers' best 1.
    assert callback_reward(GOLD, "Ark owns it.", memory, chunk) == 0.5
    assert callback_reward(GOLD, "", memory, chunk) == 0.0
    assert callback_reward(GOLD, "Ark owns it.", "Jonas Ark", chunk) == 0.0
    assert callback_reward(GOLD, "Ark owns it.", memory, "Ark, Mr") == 0.0


def test_words_that_meet_where_texts_are_joined_stay_apart() -> None:
    assert callback_reward(("note",), "no", "te", "") == 0.0


def test_where_nothing_answers_it_is_right_to_say_so() -> None:
    assert [outcome_reward(answer, ()) for answer in ("", "unknown", "Jonas Ark")] == [1.0, 1.0, 0.0]
    assert memory_reward((), "", "Jonas Ark") == callback_reward((), "Jonas Ark", "", "") == 0.0


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        ("<update>none</update>", 1.0),
        ("<update></update>", 1.0),
        ("<update>one\ntwo</update>", 1.0),
        ("<update>one</update><recall>Who owns it?</recall>", 1.0),
        ("<answer>Jonas Ark</answer>", 1.0),
        ("<answer><working>Jonas: 1858</working>Jonas</answer>", 1.0),
        ("<answer><working>Jonas: 1858</working></answer>", 0.0),
        ("<answer><working>Jonas: 1858</answer>", 0.0),
        ("<update>one", 0.0),
        ("<update>one<recall>Who?</recall>", 0.0),
        ("<update>one</update><recall> </recall>", 0.0),
        ("<update>one</update><recall></recall>", 0.0),
        ("<update>one</update> and so on", 0.0),
        ("<update>one <update>two</update>", 0.0),
        ("<answer></answer>", 0.0),
        ("<answer>  </answer>", 0.0),
        ("<answer>Jonas", 0.0),
        ("<answer>Jonas</answer><answer>Ark</answer>", 0.0),
        ("Jonas Ark", 0.0),
        ("", 0.0),
    ],
)
def test_a_reply_is_well_formed_with_its_tags_closed_and_nothing_around_them(reply: str, reward: float) -> None:
    assert format_reward(reply) == reward


def test_the_state_reward_is_the_sum() -> None:
    assert StepReward(0.5, 0.25, 1.0).total == 1.75


def test_an_error_in_a_reward_is_raised() -> None:
    with pytest.raises(TypeError):
        memory_reward(GOLD, "", None)
