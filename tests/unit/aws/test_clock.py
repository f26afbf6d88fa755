"""AWS's time as its answers tell it."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.aws.api.clock import ServerClock

NOW = 1_800_000_000.0


class Host:
    """A host whose clock is wrong by some seconds and may be slow, and AWS, which is right."""

    def __init__(self, wrong_by: float = 0.0, aws_seconds: float = 1.0) -> None:
        self.uptime = 50.0
        self.aws_seconds = aws_seconds
        self.clock = ServerClock(lambda: self.uptime, lambda: self.aws_now + wrong_by)

    @property
    def aws_now(self) -> float:
        return NOW + (self.uptime - 50.0) * self.aws_seconds

    def exchange(self, request_seconds: float, response_seconds: float) -> None:
        sent = self.uptime
        self.uptime += request_seconds
        date = formatdate(int(self.aws_now), usegmt=True)
        self.uptime += response_seconds
        self.clock.observe(date, sent, self.uptime)

    def error_ms(self) -> float:
        return self.clock.now_ms() - self.aws_now * 1000


def test_before_any_answer_it_is_the_wall_clock() -> None:
    assert abs(Host(wrong_by=7.0).error_ms() - 7000) <= 1


@pytest.mark.parametrize("wrong_by", [420.0, -420.0, 3.0e8])
def test_one_answer_puts_a_wrong_clock_right_to_a_second(wrong_by: float) -> None:
    host = Host(wrong_by)

    host.exchange(0.1, 0.1)

    assert abs(host.error_ms()) <= 1200


def test_a_right_clock_keeps_its_milliseconds() -> None:
    host = Host()

    for _ in range(50):
        host.uptime += 0.37
        host.exchange(0.02, 0.02)

    assert abs(host.error_ms()) <= 1


def test_answers_at_other_parts_of_the_second_narrow_it_down() -> None:
    host = Host(wrong_by=-420.0)

    for _ in range(100):
        host.uptime += 0.37
        host.exchange(0.005, 0.005)

    assert abs(host.error_ms()) <= 60


@given(
    wrong_by=st.floats(-1e6, 1e6),
    steps=st.lists(st.tuples(*[st.floats(0, 25)] * 3), min_size=1, max_size=30),
)
def test_time_never_goes_back_once_aws_has_told_it(
    wrong_by: float, steps: list[tuple[float, float, float]]
) -> None:
    host = Host(wrong_by)
    host.exchange(*steps[0][:2])
    before, error = host.clock.now_ms(), abs(host.error_ms())

    for request_seconds, response_seconds, pause in steps:
        host.exchange(request_seconds, response_seconds)
        assert before <= host.clock.now_ms()
        assert abs(host.error_ms()) <= error + 1
        before, error = host.clock.now_ms(), abs(host.error_ms())
        host.uptime += pause


def test_a_clock_that_drifts_is_followed() -> None:
    host = Host(aws_seconds=1.02)

    for _ in range(100):
        host.exchange(0, 0)
        host.uptime += 1

    assert abs(host.error_ms()) <= 1020


def test_a_bad_date_is_forgotten_at_the_next_good_one() -> None:
    host = Host()
    host.clock.observe(formatdate(NOW + 3600, usegmt=True), host.uptime, host.uptime)
    assert host.error_ms() > 3_000_000

    host.exchange(0, 0)

    assert abs(host.error_ms()) <= 1000


@pytest.mark.parametrize("date", ["", "yesterday", "2027-01-15T08:00:00Z"])
def test_an_answer_without_a_date_teaches_nothing(date: str) -> None:
    host = Host()

    host.clock.observe(date, host.uptime, host.uptime)

    assert abs(host.error_ms()) <= 1
