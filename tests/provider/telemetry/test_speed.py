"""How fast a backend is, as people see it."""

from __future__ import annotations

from typing import Any

import pytest

from inferline_provider.telemetry.attempts import AttemptRecord
from inferline_provider.telemetry.speed import Speed
from tests.provider.fakes import FakeClock
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.script import Script


def record(**told: Any) -> AttemptRecord:
    given: dict[str, Any] = {"model": "m", "tier": "default", "path": "/p", "queue_ms": 0}
    return AttemptRecord(**given | told)


def test_who_has_done_nothing_is_not_fast() -> None:
    assert 0 == Speed(FakeClock()).tokens_per_second()


def test_tokens_count_for_a_minute() -> None:
    clock = FakeClock()
    speed = Speed(clock)

    speed.record(record(backend_seconds=2.0, tokens={"output": 120, "input": 999}))

    assert 2.0 == speed.tokens_per_second()
    clock.advance(59)
    assert 1.0 == pytest.approx(speed.tokens_per_second())
    clock.advance(2)
    assert 0 == speed.tokens_per_second()


def test_of_a_long_answer_only_what_was_made_in_the_last_minute_counts() -> None:
    speed = Speed(FakeClock())

    speed.record(record(backend_seconds=600.0, tokens={"output": 6000}))

    assert 10.0 == pytest.approx(speed.tokens_per_second())


def test_a_stream_under_way_counts_by_its_events_and_then_by_its_tokens() -> None:
    clock = FakeClock()
    speed = Speed(clock)
    running = record(events=1)

    speed.begun(running)
    clock.advance(10)
    running.events = 60
    assert 1.0 == speed.tokens_per_second()

    running.backend_seconds, running.tokens = 10.0, {"output": 120}
    speed.record(running)
    assert 2.0 == speed.tokens_per_second()


def test_what_no_backend_tells_is_counted_by_events() -> None:
    speed = Speed(FakeClock())

    speed.record(record(backend_seconds=1.0, events=60))
    speed.record(record(backend_seconds=1.0))

    assert 1.0 == speed.tokens_per_second()


def test_what_is_over_is_forgotten() -> None:
    clock = FakeClock()
    speed = Speed(clock)

    for _ in range(500):
        speed.record(record(backend_seconds=1.0, tokens={"output": 1}))
        clock.advance(1)

    assert 61 >= len(speed._ended)


async def test_a_provider_tells_how_fast_it_is() -> None:
    script = Script(first=0.01, interval=0.005, tokens=60)
    async with world(Backend(script=script), terms={"enrol_seconds": 0.2}) as around:
        await around.ended(await around.submit({"stream": True}))

        await until(lambda: around.gateway.enrolments[-1]["tokens_per_second"] == 1.0)
