"""Measurement of the tasks at a backend."""

from __future__ import annotations

from typing import Any

import pytest

from inferline_provider.autoslots.gauge import Gauge
from inferline_provider.autoslots.reading import ENDED_LEAST, TaskKind
from inferline_provider.telemetry.attempts import AttemptRecord
from inferline_provider.telemetry.speeds import Speeds
from tests.provider.fakes import FakeClock

PATH = "/v1/chat/completions"
STREAMS: TaskKind = ("m", PATH, True)
WHOLES: TaskKind = ("m", PATH, False)
BOUND = 5.0


class Measured:
    """A gauge and its tasks."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.speeds = Speeds(self.clock)
        self.gauge = Gauge(self.clock, BOUND, self.speeds)

    def ask(self, *, streamed: bool = True) -> AttemptRecord:
        record = AttemptRecord(model="m", tier="default", path=PATH, queue_ms=0, streamed=streamed)
        self.gauge.sent(record)
        return record

    def first(self, record: AttemptRecord, seconds: float) -> None:
        record.events, record.first_seconds = 1, seconds
        self.gauge.begun(record)

    def end(self, record: AttemptRecord, seconds: float, **fields: Any) -> None:
        record.backend_seconds = seconds
        for name, value in fields.items():
            setattr(record, name, value)
        record.ending = "answered"
        self.speeds.record(record)
        self.gauge.record(record)

    def whole(self, seconds: float, tokens: int) -> None:
        self.end(self.ask(streamed=False), seconds, tokens={"output": tokens})


def test_a_stream_counts_by_its_events_while_it_runs() -> None:
    measured = Measured()
    record = measured.ask()
    measured.clock.advance(10)
    record.events = 30

    tally = measured.gauge.read(1).tallies[STREAMS]

    assert (30, 10) == (tally.tokens, tally.seconds)


def test_what_was_done_before_the_start_does_not_count() -> None:
    measured = Measured()
    running, ending = measured.ask(), measured.ask()
    measured.clock.advance(10)
    running.events = ending.events = 30

    measured.gauge.start()
    measured.clock.advance(2)
    running.events = 35
    measured.end(ending, 11.0, events=32)

    tally = measured.gauge.read(2).tallies[STREAMS]
    assert (5 + 2, 2 + 1) == (tally.tokens, tally.seconds)


def test_the_time_in_which_only_the_end_is_written_is_not_the_backends() -> None:
    measured = Measured()
    record = measured.ask()
    record.events = 8
    measured.clock.advance(4)
    record.backend_seconds = 4.0
    measured.clock.advance(6)

    assert 4 == measured.gauge.read(1).tallies[STREAMS].seconds
    measured.end(record, 4.0)
    assert 4 == measured.gauge.read(1).tallies[STREAMS].seconds


def test_an_answer_in_one_piece_counts_when_it_has_ended() -> None:
    measured = Measured()
    record = measured.ask(streamed=False)
    measured.clock.advance(10)

    before = measured.gauge.read(1).tallies[WHOLES]
    measured.end(record, 10.0, tokens={"output": 50, "input": 999})

    after = measured.gauge.read(1).tallies[WHOLES]
    assert (0, 0, 10) == (before.tokens, before.seconds, before.all_seconds)
    assert (50, 10, 10) == (after.tokens, after.seconds, after.all_seconds)


@pytest.mark.parametrize(("reported", "tokens"), [({"input": 12}, 12), ({}, 1)])
def test_an_answer_without_tokens_counts_by_what_was_read_or_as_one(
    reported: dict[str, int], tokens: int
) -> None:
    measured = Measured()

    measured.end(measured.ask(streamed=False), 0.1, tokens=reported)

    assert tokens == measured.gauge.read(1).tallies[WHOLES].tokens


def test_what_failed_only_took_time() -> None:
    measured = Measured()
    measured.end(measured.ask(streamed=False), 10.0, error="Broken", tokens={"output": 50})

    assert 0 == measured.gauge.read(1).tallies[WHOLES].tokens
    assert 0 == measured.gauge.mean_seconds


def test_a_first_token_beyond_the_bound_is_late() -> None:
    measured = Measured()
    for seconds in (1.0, BOUND, BOUND + 0.1):
        measured.first(measured.ask(), seconds)

    firsts = measured.gauge.read(3).firsts

    assert (3, 1) == (firsts.count, firsts.late)


def test_who_has_waited_beyond_the_bound_is_late_before_its_first_token_comes() -> None:
    measured = Measured()
    measured.ask()
    measured.clock.advance(BOUND)
    assert 0 == measured.gauge.read(1).firsts.count

    measured.clock.advance(1)

    firsts = measured.gauge.read(1).firsts
    assert (1, 1, BOUND + 1) == (firsts.count, firsts.late, firsts.seconds)


def test_first_tokens_of_tasks_from_before_a_change_tell_nothing_of_what_came_after() -> None:
    measured = Measured()
    before, waiting = measured.ask(), measured.ask()
    measured.clock.advance(0.1)
    measured.gauge.clear()
    measured.clock.advance(9)

    measured.first(before, 9.1)

    assert not waiting.events
    assert 0 == measured.gauge.read(2).firsts.count


def test_short_answers_tell_how_long_those_wait_that_are_not_streamed() -> None:
    """Let each take 8 seconds, and a tenth of a second for a token."""
    measured = Measured()
    lengths = [5, 10, 20, 30, 40, 80, 160, 320] * 2
    assert ENDED_LEAST <= len(lengths)

    for tokens in lengths:
        measured.whole(8 + 0.1 * tokens, tokens)

    firsts = measured.gauge.read(4).firsts
    # Those whose tokens take no longer than the bound.
    assert (10, 10) == (firsts.count, firsts.late)
    assert 8 == pytest.approx(firsts.seconds / firsts.count)


def test_answers_that_wait_for_nothing_are_not_late_because_they_are_long() -> None:
    measured = Measured()
    for tokens in [5, 10, 20, 30, 40, 80, 160, 320] * 2:
        measured.whole(0.1 * tokens, tokens)

    assert 0 == measured.gauge.read(4).firsts.late


def test_answers_of_one_length_tell_nothing_of_how_long_they_waited() -> None:
    measured = Measured()
    for _ in range(2 * ENDED_LEAST):
        measured.whole(20.0, 50)

    assert 0 == measured.gauge.read(4).firsts.count


def test_how_many_wait_inside_is_a_mean_of_what_the_backend_told() -> None:
    measured = Measured()
    for count in (2, 4):
        measured.gauge.wait(count)
    measured.clock.advance(1)

    assert 3 == measured.gauge.read(1).waiting
    measured.gauge.start()
    measured.clock.advance(1)
    assert 0 == measured.gauge.read(1).waiting


def test_it_remembers_no_task_that_has_ended() -> None:
    measured = Measured()
    for _ in range(2000):
        measured.end(measured.ask(), 1.0)
        measured.whole(1.0, 5)

    assert not measured.gauge._under
    assert 500 == sum(map(len, measured.gauge._answers.values()))
