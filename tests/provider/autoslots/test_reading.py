"""When one reading of a backend is better than another."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from inferline_provider.autoslots.reading import (
    ENDED_LEAST,
    LATE_SHARE,
    PRICE,
    Firsts,
    Measurement,
    Tally,
    TaskKind,
    worth,
)

CHAT: TaskKind = ("m", "/v1/chat/completions", True)
WHOLE: TaskKind = ("m", "/v1/chat/completions", False)
SMALL: TaskKind = ("small", "/v1/chat/completions", True)


def reading(slots: int = 10, speed: float = 20.0, **fields: Any) -> Measurement:
    """Return ten seconds with ``slots`` streams, each of so many tokens a second."""
    given: dict[str, Any] = {
        "slots": slots,
        "seconds": 10.0,
        "first_seconds_max": 5.0,
        "tallies": {CHAT: Tally(10 * slots * speed, 10.0 * slots, 10.0 * slots)},
    }
    return Measurement(**given | fields)


def firsts(count: int, late: int, seconds: float = 1.0) -> Firsts:
    return Firsts(count, late, count * seconds)


def test_twice_the_tokens_in_the_same_time_are_twice_the_throughput() -> None:
    assert log(2) == pytest.approx(worth(reading(20), reading(10)).growth)
    assert 0 == pytest.approx(worth(reading(20, 10.0), reading(10, 20.0)).growth)


def test_more_slots_must_give_something() -> None:
    same = worth(reading(20, 10.0), reading(10, 20.0))

    assert -PRICE * log(2) == pytest.approx(same.total)
    assert PRICE * log(2) == pytest.approx(worth(reading(10, 20.0), reading(20, 10.0)).total)


def test_a_token_of_a_small_model_is_not_one_of_a_large_model() -> None:
    def mixed(large: int, small: int) -> Measurement:
        large_tally = Tally(20.0 * large, 10.0 * large, 10.0 * large)
        small_tally = Tally(900.0 * small, 10.0 * small, 10.0 * small)
        return reading(tallies={CHAT: large_tally, SMALL: small_tally})

    assert 0 == pytest.approx(worth(mixed(2, 8), mixed(8, 2)).total)


def test_a_model_that_was_not_asked_before_tells_nothing_of_growth() -> None:
    other = reading(tallies={SMALL: Tally(9000.0, 100.0, 100.0)})

    assert 0 == pytest.approx(worth(other, reading()).growth)


def test_first_tokens_that_are_late_cost_more_than_what_they_bring() -> None:
    many_late = reading(12, firsts=firsts(200, 40))

    assert 0 > worth(many_late, reading(10, firsts=firsts(200, 4))).total
    assert 0 < worth(reading(12, firsts=firsts(200, 4)), reading(10, firsts=firsts(200, 4))).total


def test_a_few_late_ones_are_promised_to_nobody() -> None:
    few_late = reading(firsts=firsts(1000, round(1000 * LATE_SHARE)))

    assert 0 == worth(few_late, reading(firsts=firsts(1000, 0))).lateness


def test_of_a_handful_of_first_tokens_less_is_believed() -> None:
    one_late = worth(reading(firsts=firsts(2, 1)), reading(firsts=firsts(2, 0)))
    many_late = worth(reading(firsts=firsts(200, 100)), reading(firsts=firsts(200, 0)))

    assert many_late.lateness > 5 * one_late.lateness > 0


def test_what_is_late_with_any_number_of_slots_does_not_keep_them_few() -> None:
    """Long prompts: their first token takes longer than the bound, however few they are."""
    more = reading(20, firsts=firsts(100, 20, 4.0))

    assert 0.5 < worth(more, reading(10, firsts=firsts(100, 20, 4.0))).total


def test_where_all_are_late_the_number_with_which_they_are_later_is_worse() -> None:
    later = reading(12, 20 / 1.2, firsts=firsts(100, 100, 20.0))

    assert 0.1 < worth(later, reading(firsts=firsts(100, 100, 6.0))).lateness


def test_tasks_that_wait_inside_the_backend_are_none_that_it_runs() -> None:
    waiting = worth(reading(20, 10.0, waiting=10.0), reading(10))

    assert 0.5 == pytest.approx(waiting.waiting)


def test_an_earlier_reading_counts_half_of_a_later_one() -> None:
    both = reading(speed=30.0, firsts=firsts(10, 4), waiting=3.0).after(
        reading(speed=0.0, firsts=firsts(10, 0), waiting=0.0)
    )

    assert 20.0 == pytest.approx(both.tallies[CHAT].tokens / both.tallies[CHAT].seconds)
    assert (15, 4) == (both.firsts.count, both.firsts.late)
    assert (10.0, 2.0) == pytest.approx((both.running, both.waiting))


def test_a_stream_tells_on_its_way() -> None:
    assert reading().tells(early=True)
    assert not reading(speed=0.0).tells()


def test_an_answer_in_one_piece_tells_when_enough_of_them_have_ended() -> None:
    def whole(ended: int, known: float) -> Measurement:
        tally = Tally(50.0 * ended, known, 100.0, ended)
        return reading(tallies={WHOLE: tally})

    assert whole(ENDED_LEAST, 100.0).tells()
    assert not whole(ENDED_LEAST - 1, 100.0).tells()
    assert not whole(ENDED_LEAST, 30.0).tells()
    assert not whole(ENDED_LEAST, 100.0).tells(early=True)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (reading(20, 10.0), "it does no more with more"),
        (reading(20, firsts=firsts(200, 150, 9.0)), "with more, first tokens come too late"),
        (reading(20, waiting=15.0), "more would wait inside it"),
    ],
)
def test_it_says_what_speaks_against_more(new: Measurement, words: str) -> None:
    assert words == worth(new, reading(10, firsts=firsts(200, 0))).objection
