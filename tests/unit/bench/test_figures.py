"""Figures are made of samples as they say."""

from __future__ import annotations

import pytest

from bench.harness.counting import Tally
from bench.harness.loader import Block
from bench.harness.rounds import Runs
from bench.harness.stats import cumulative, percentile, percentile_of, spread, tells
from bench.speed.refill import empty, full_at, running

#: Two slots; a third answer takes the room of the first, 20 ms after it ended.
SPANS = [(0.0, 1000.0), (500.0, 2500.0), (1020.0, 3000.0)]


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    samples = list(range(1, 101))

    assert [50, 90, 99, 100] == [percentile(samples, share) for share in (0.5, 0.9, 0.99, 1.0)]


def test_counted_samples_have_the_same_percentiles() -> None:
    samples = [1.0] * 97 + [5.0, 7.0, 9.0]
    counts = {1.0: 97, 5.0: 1, 7.0: 1, 9.0: 1}

    for share in (0.5, 0.97, 0.98, 0.99, 1.0):
        assert percentile(samples, share) == percentile_of(counts, share)


def test_a_percentile_wants_samples_beyond_it() -> None:
    assert [False, True] == [tells([0.0] * count, 0.99) for count in (99, 100)]


def test_a_spread_tells_the_middle_and_the_ends() -> None:
    assert "2.0 (1.0 to 9.0)" == spread([9.0, 1.0, 2.0], 1)
    assert "+4" == spread([4.0], sign=True)


def test_a_cumulative_line_ends_with_the_greatest_sample() -> None:
    assert [(1.0, 50.0), (2.0, 100.0)] == cumulative([2.0, 1.0])


def test_a_slot_is_empty_from_an_end_to_the_start_that_takes_its_room() -> None:
    assert [20.0] == empty(SPANS, slots=2, window=(0.0, 9000.0))
    assert [] == empty(SPANS, slots=2, window=(1500.0, 9000.0))


def test_what_runs_is_counted_by_the_second() -> None:
    assert [1.5, pytest.approx(1.98), 1.5] == running(SPANS, window=(0.0, 3000.0))


def test_slots_are_full_when_all_are_at_work_for_the_first_time() -> None:
    assert 500.0 == full_at(SPANS, slots=2, latest=9000.0)
    assert 700.0 == full_at(SPANS, slots=3, latest=700.0)


def test_gaps_of_a_round_and_cost_of_an_answer() -> None:
    block = Block(
        first=[1.0, 1.0],
        total=[9.0, 9.0],
        answers=2,
        seconds=2.0,
        failed=0,
        gaps={"0": 8, "100": 2},
        bursts={"5": 2},
    )
    runs = Runs([block], {"gateway": [10.0], "machine": [3000.0]})

    assert ([0.0], [100.0]) == (runs.gap(0.5), runs.gap(0.99))
    assert [5.0] == runs.cpu_each("gateway")
    assert {"gateway": 0.005, "machine": 1.5} == runs.shares()


def test_a_tally_comes_back_from_its_file() -> None:
    tally = Tally(sqs=3.0, writes=2.0)
    tally.calls["sqs SendMessage"] = 3

    assert tally == Tally.of(tally.raw())
