"""Which number is tried next, and which one stays."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest

from inferline_provider.autoslots.search import (
    NEAR,
    STEP_ANEW,
    STEP_FIRST,
    STEP_LEAST,
    TRIALS_MAX,
    WORTH_LEAST,
    Search,
)

#: How much a number of slots is worth, as a logarithm.
Value = Callable[[int], float]


def peak(at: int) -> Value:
    """Return best at one number, and a fifth as much worse for each tenth away from it."""
    return lambda n: -2 * abs(log(n / at))


def level(since: int) -> Value:
    """Return a worth that grows up to a number, and then falls a little."""
    return lambda n: log(min(n, since)) - 0.05 * log(n)


def walk(search: Search, value: Value, trials_max: int = 100) -> list[int]:
    """Return the numbers that are tried until none is left."""
    tried = []
    while (number := search.next()) is not None:
        tried.append(number)
        assert trials_max >= len(tried)
        search.tell(number, value(number) - value(search.held), clear=False)
    return tried


def test_it_doubles_as_long_as_that_is_worth_it() -> None:
    search = Search(1, 512, STEP_FIRST)

    tried = walk(search, level(24))

    assert [2, 4, 8, 16, 32, 64] == tried[:6]


@pytest.mark.parametrize("value", [peak, level])
@pytest.mark.parametrize("best", [1, 2, 3, 5, 24, 100, 470, 512])
@pytest.mark.parametrize("held", [1, 30, 512])
def test_it_ends_within_a_step_of_the_best_and_soon(
    value: Callable[[int], Value], best: int, held: int
) -> None:
    search = Search(held, 512, STEP_FIRST)

    tried = walk(search, value(best), 24)

    assert max(1, NEAR * best) >= abs(search.held - best)
    assert all(1 <= number <= 512 for number in tried)


def test_with_one_slot_at_the_most_there_is_nothing_to_try() -> None:
    assert Search(1, 1, STEP_FIRST).next() is None


def test_nothing_is_tried_twice_before_it_is_told_to_look_again() -> None:
    search = Search(16, 512, STEP_FIRST)

    tried = walk(search, peak(21))

    assert len(set(tried)) == len(tried)


def test_once_found_it_tries_its_neighbours_only() -> None:
    search = Search(100, 512, STEP_FIRST)
    walk(search, peak(100))

    search.again(0.0)

    assert {94, 106} == set(walk(search, peak(100)))


def test_who_moves_after_a_rest_goes_further_each_time() -> None:
    search = Search(100, 512, STEP_FIRST)
    walk(search, peak(100))

    search.again(0.0, up=True)

    assert [106, 119, 150, 239, 478] == walk(search, level(500))[:5]


def test_what_is_a_little_better_needs_more_than_one_trial() -> None:
    search = Search(100, 512, STEP_LEAST)
    worth = 0.6 * WORTH_LEAST

    held = []
    for _ in range(3):
        search.again(0.0, up=True)
        assert 106 == search.next()
        held.append(search.tell(106, worth, clear=False))

    assert [False, False, True] == held


def test_an_old_trial_counts_less_than_the_newest_ones() -> None:
    search = Search(100, 512, STEP_LEAST)
    for worth in [-1.0] + [1.0] * 3 * TRIALS_MAX:
        search.again(0.0, up=True)
        if search.tell(106, worth, clear=False):
            break

    assert 106 == search.held


def test_fewer_are_held_when_they_are_as_good() -> None:
    search = Search(100, 512, STEP_LEAST)

    assert search.tell(94, 0.001, clear=False)
    assert not search.tell(100, 0.001, clear=False)


def test_what_is_clear_decides_at_once() -> None:
    search = Search(100, 512, STEP_LEAST)
    search.tell(106, -0.5, clear=False)

    assert search.tell(106, 0.3, clear=True)


def test_after_a_change_for_the_worse_it_goes_down_first_and_far() -> None:
    search = Search(100, 512, STEP_FIRST)
    walk(search, peak(100))

    search.again(0.0)
    search.changed(better=False)

    assert round(100 / 1.4) == search.next()
    assert STEP_ANEW == pytest.approx(log(1.4))


def test_what_was_refused_is_not_tried_before_it_is_told_to_look_again() -> None:
    search = Search(64, 512, STEP_FIRST)

    search.lower(0.75)

    assert 48 == search.held
    assert all(64 > number for number in walk(search, level(500)))


def test_where_there_was_no_work_for_so_many_fewer_are_tried() -> None:
    search = Search(16, 512, STEP_FIRST)

    tried = []
    for _ in range(5):
        tried.append(search.next())
        search.shorten()

    assert [32, 23, 19, 17, 17] == tried
