"""Passes over things in orders of their own."""

from core.training.shuffled import Shuffled


def test_each_thing_comes_once_in_a_pass_in_the_same_place_whenever_it_is_asked_for() -> None:
    sequence = Shuffled("abcdefgh", 3)
    passes = [[sequence.at(8 * epoch + number) for number in range(8)] for epoch in range(3)]
    for epoch, places in enumerate(passes):
        assert sorted(place.item for place in places) == list("abcdefgh")
        assert [(place.epoch, place.number) for place in places] == [(epoch, number) for number in range(8)]
        assert sequence.order(epoch) == [place.item for place in places]
    assert passes[0] != passes[1] != passes[2]
    backwards = [Shuffled("abcdefgh", 3).at(index) for index in reversed(range(24))]
    assert backwards[::-1] == [place for places in passes for place in places]
    assert len(sequence) == 8


def test_seeds_and_names_make_orders_of_their_own() -> None:
    orders = [Shuffled(range(20), *given).order(0) for given in ((0,), (1,), (0, "answers"), (0, "pool"))]
    assert all(orders.count(order) == 1 for order in orders)
