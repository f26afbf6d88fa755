"""How fast a task runs here, told so that providers with other tasks can be compared."""

from __future__ import annotations

from typing import Any

import pytest

from inferline_provider.telemetry.attempts import AttemptRecord
from inferline_provider.telemetry.task_speed import TASK_SECONDS_MIN, TaskSpeeds
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.pace import within
from tests.support.script import Script


def ran(speeds: TaskSpeeds, seconds: float | None, tokens: int | None = None, **told: Any) -> None:
    given: dict[str, Any] = {"model": "m", "tier": "default", "path": "/p", "queue_ms": 0}
    usage = {} if tokens is None else {"output": tokens}
    found = {"ending": "answered", "backend_seconds": seconds, "tokens": usage}
    speeds.record(AttemptRecord(**given | found | told))


def test_who_has_run_nothing_tells_nothing() -> None:
    speeds = TaskSpeeds()

    assert ({}, 0.0) == (speeds.told(), speeds.seconds("m"))


def test_a_task_s_speed_is_its_time_and_its_tokens_a_second() -> None:
    speeds = TaskSpeeds()
    ran(speeds, 4.0, 200)

    told = speeds.told()["m"]

    assert (4.0, 50.0) == (told.task_seconds, told.tokens_per_second)
    assert 4.0 == speeds.seconds("m")


def test_long_answers_do_not_make_a_provider_look_slow() -> None:
    speeds = TaskSpeeds()
    for tokens in (10, 4000, 30, 900):
        ran(speeds, tokens / 50, tokens)

    assert pytest.approx(50) == speeds.told()["m"].tokens_per_second


def test_what_is_newer_counts_more() -> None:
    speeds = TaskSpeeds()
    for seconds in [1.0] * 20 + [4.0] * 20:
        ran(speeds, seconds, 100)

    assert 3.5 < speeds.seconds("m") < 4.0


def test_events_stand_for_tokens_that_a_backend_does_not_tell() -> None:
    speeds = TaskSpeeds()
    ran(speeds, 2.0, events=100)

    assert 50.0 == speeds.told()["m"].tokens_per_second


def test_a_task_without_tokens_has_its_time() -> None:
    speeds = TaskSpeeds()
    ran(speeds, 0.25)

    told = speeds.told()["m"]

    assert (0.25, 0.0) == (told.task_seconds, told.tokens_per_second)


@pytest.mark.parametrize(
    "told", [{"ending": "failed"}, {"ending": "lost"}, {"error": "backend_400"}]
)
def test_what_was_not_answered_tells_nothing_of_speed(told: dict[str, str]) -> None:
    speeds = TaskSpeeds()
    ran(speeds, 0.001, 1, **told)
    ran(speeds, None)

    assert {} == speeds.told()


def test_no_task_is_told_to_take_no_time() -> None:
    speeds = TaskSpeeds()
    ran(speeds, 0.0, 1)

    assert TASK_SECONDS_MIN == speeds.told()["m"].task_seconds


def test_models_are_measured_each_by_itself_and_forgotten_with_their_backend() -> None:
    speeds = TaskSpeeds()
    ran(speeds, 1.0, 100)
    ran(speeds, 9.0, 90, model="large")

    assert {"m": 100, "large": 10} == {
        model: told.tokens_per_second for model, told in speeds.told().items()
    }
    speeds.keep({"large"})
    assert ["large"] == list(speeds.told())


async def test_a_provider_tells_how_fast_its_tasks_run() -> None:
    script = Script(first=0.05, interval=0.005, tokens=30)
    async with world(Backend(script=script), terms={"enrol_seconds": 0.2}) as around:
        await around.ended(await around.submit())

        await until(lambda: around.gateway.enrolments[-1]["speeds"])

        told = around.gateway.enrolments[-1]["speeds"]["test-model"]
        assert 0.19 < told["task_seconds"] < within(1.0)
        assert pytest.approx(30 / told["task_seconds"]) == told["tokens_per_second"]
