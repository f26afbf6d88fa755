"""Speeds of a provider: tokens of the last minute, for people, and of its tasks, for others."""

from __future__ import annotations

from typing import Any

import pytest

from inferline_provider.telemetry.attempts import AttemptRecord
from inferline_provider.telemetry.speeds import TASK_SECONDS_MIN, Speeds
from tests.provider.fakes import FakeClock
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.script import Script


def record(**fields: Any) -> AttemptRecord:
    given: dict[str, Any] = {"model": "m", "tier": "default", "path": "/p", "queue_ms": 0}
    return AttemptRecord(**given | fields)


def test_who_has_done_nothing_is_not_fast() -> None:
    assert 0 == Speeds(FakeClock()).tokens_per_second()


def test_tokens_count_for_a_minute() -> None:
    clock = FakeClock()
    speeds = Speeds(clock)

    speeds.record(record(backend_seconds=2.0, tokens={"output": 120, "input": 999}))

    assert 2.0 == speeds.tokens_per_second()
    clock.advance(59)
    assert 1.0 == pytest.approx(speeds.tokens_per_second())
    clock.advance(2)
    assert 0 == speeds.tokens_per_second()


def test_of_a_long_answer_only_what_was_made_in_the_last_minute_counts() -> None:
    speeds = Speeds(FakeClock())

    speeds.record(record(backend_seconds=600.0, tokens={"output": 6000}))

    assert 10.0 == pytest.approx(speeds.tokens_per_second())


def test_a_stream_under_way_counts_by_its_events_and_then_by_its_tokens() -> None:
    clock = FakeClock()
    speeds = Speeds(clock)
    running = record(events=1)

    speeds.begun(running)
    clock.advance(10)
    running.events = 60
    assert 1.0 == speeds.tokens_per_second()

    running.backend_seconds, running.tokens = 10.0, {"output": 120}
    speeds.record(running)
    assert 2.0 == speeds.tokens_per_second()


def test_what_no_backend_tells_is_counted_by_events() -> None:
    speeds = Speeds(FakeClock())

    speeds.record(record(backend_seconds=1.0, events=60))
    speeds.record(record(backend_seconds=1.0))

    assert 1.0 == speeds.tokens_per_second()


def test_what_is_over_is_forgotten() -> None:
    clock = FakeClock()
    speeds = Speeds(clock)

    for _ in range(500):
        speeds.record(record(backend_seconds=1.0, tokens={"output": 1}))
        clock.advance(1)

    assert 61 >= len(speeds._ended)


async def test_a_provider_tells_how_fast_it_is() -> None:
    script = Script(first=0.01, interval=0.005, tokens=60)
    async with world(Backend(script=script), terms={"enrol_seconds": 0.2}) as around:
        await around.ended(await around.submit({"stream": True}))

        await until(lambda: around.gateway.enrolments[-1]["tokens_per_second"] == 1.0)


def ran(speeds: Speeds, seconds: float | None, tokens: int | None = None, **fields: Any) -> None:
    given: dict[str, Any] = {"model": "m", "tier": "default", "path": "/p", "queue_ms": 0}
    usage = {} if tokens is None else {"output": tokens}
    answered = {"ending": "answered", "backend_seconds": seconds, "tokens": usage}
    speeds.record(AttemptRecord(**given | answered | fields))


def test_who_has_run_nothing_tells_nothing() -> None:
    speeds = Speeds(FakeClock())

    assert ({}, 0.0) == (speeds.tasks(), speeds.task_seconds("m"))


def test_a_task_s_speed_is_its_time_and_its_tokens_a_second() -> None:
    speeds = Speeds(FakeClock())
    ran(speeds, 4.0, 200)

    speed = speeds.tasks()["m"]

    assert (4.0, 50.0) == (speed.task_seconds, speed.tokens_per_second)
    assert 4.0 == speeds.task_seconds("m")


def test_long_answers_do_not_make_a_provider_look_slow() -> None:
    speeds = Speeds(FakeClock())
    for tokens in (10, 4000, 30, 900):
        ran(speeds, tokens / 50, tokens)

    assert pytest.approx(50) == speeds.tasks()["m"].tokens_per_second


def test_what_is_newer_counts_more() -> None:
    speeds = Speeds(FakeClock())
    for seconds in [1.0] * 20 + [4.0] * 20:
        ran(speeds, seconds, 100)

    assert 3.5 < speeds.task_seconds("m") < 4.0


def test_events_stand_for_tokens_that_a_backend_does_not_tell() -> None:
    speeds = Speeds(FakeClock())
    ran(speeds, 2.0, events=100)

    assert 50.0 == speeds.tasks()["m"].tokens_per_second


def test_a_task_without_tokens_has_its_time() -> None:
    speeds = Speeds(FakeClock())
    ran(speeds, 0.25)

    speed = speeds.tasks()["m"]

    assert (0.25, 0.0) == (speed.task_seconds, speed.tokens_per_second)


@pytest.mark.parametrize(
    "fields", [{"ending": "failed"}, {"ending": "lost"}, {"error": "backend_400"}]
)
def test_what_was_not_answered_tells_nothing_of_speed(fields: dict[str, str]) -> None:
    speeds = Speeds(FakeClock())
    ran(speeds, 0.001, 1, **fields)
    ran(speeds, None)

    assert {} == speeds.tasks()


def test_no_task_is_told_to_take_no_time() -> None:
    speeds = Speeds(FakeClock())
    ran(speeds, 0.0, 1)

    assert TASK_SECONDS_MIN == speeds.tasks()["m"].task_seconds


def test_models_are_measured_each_by_itself_and_forgotten_with_their_backend() -> None:
    speeds = Speeds(FakeClock())
    ran(speeds, 1.0, 100)
    ran(speeds, 9.0, 90, model="large")

    assert {"m": 100, "large": 10} == {
        model: speed.tokens_per_second for model, speed in speeds.tasks().items()
    }
    speeds.keep({"large"})
    assert ["large"] == list(speeds.tasks())


async def test_a_provider_tells_how_fast_its_tasks_run() -> None:
    script = Script(first=0.05, interval=0.005, tokens=30)
    async with world(Backend(script=script), terms={"enrol_seconds": 0.2}) as around:
        await around.ended(await around.submit())

        await until(lambda: around.gateway.enrolments[-1]["speeds"])

        speed = around.gateway.enrolments[-1]["speeds"]["test-model"]
        assert 0.19 < speed["task_seconds"] < 1.0
        assert pytest.approx(30 / speed["task_seconds"]) == speed["tokens_per_second"]


def test_the_time_at_the_backend_is_the_mean_over_all_models() -> None:
    speeds = Speeds(FakeClock())
    assert 0 == speeds.backend_seconds

    ran(speeds, 1.0)
    ran(speeds, 11.0, model="large")

    assert pytest.approx(2.0) == speeds.backend_seconds
    speeds.keep({"large"})
    assert pytest.approx(2.0) == speeds.backend_seconds


def test_the_service_time_is_the_mean_time_for_which_a_slot_was_held() -> None:
    speeds = Speeds(FakeClock())
    assert 0 == speeds.service_seconds

    speeds.served(1.0)
    speeds.served(11.0)

    assert pytest.approx(2.0) == speeds.service_seconds
