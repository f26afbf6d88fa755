"""What a provider hears of the others."""

from __future__ import annotations

from typing import Any

import pytest

from inferline.fleet.aggregation import aggregate
from inferline.fleet.enrolment import Faster
from inferline.fleet.registry import ProviderRecord, TaskSpeed
from inferline.gateway.enrol import peers


def provider(name: str, *speed: float, **told: Any) -> ProviderRecord:
    """One that serves the model "m", at so many seconds a task and tokens a second."""
    given: dict[str, Any] = {"models": ("m",), "slots": 4, "running": 0, "healthy": True}
    speeds = {"m": TaskSpeed(*speed)} if speed else {}
    return ProviderRecord(**{"id": name, "version": "1", "speeds": speeds, **given, **told})


def faster(own: ProviderRecord, *others: ProviderRecord) -> Faster | None:
    return peers.faster(aggregate((own, *others)), own).get("m")


SLOW = provider("slow", 8.0, 25.0)
QUICK = provider("quick", 2.0, 100.0)


def test_the_slower_hears_how_many_times_as_fast_the_best_is() -> None:
    found = faster(SLOW, QUICK, provider("medium", 4.0, 50.0))

    assert found is not None
    assert 4.0 == found.times


def test_who_has_become_slower_does_not_hear_of_itself() -> None:
    served = aggregate([provider("own", 2.0, 100.0), provider("other", 8.0, 24.0)])

    assert {} == peers.faster(served, provider("own", 8.0, 25.0))


def test_the_best_hears_of_nobody() -> None:
    assert None is faster(QUICK, SLOW)


def test_who_is_hardly_faster_is_not_faster() -> None:
    assert None is faster(SLOW, provider("other", 7.0, 25 * peers.FASTER_TIMES - 1))
    assert None is not faster(SLOW, provider("other", 7.0, 25 * peers.FASTER_TIMES))


def test_of_those_that_stand_back_only_such_count_as_are_no_slower() -> None:
    fleet = [QUICK, *(provider(f"medium{n}", 4.0, 50.0) for n in range(3)), SLOW]

    medium, slow = faster(fleet[1], *fleet), faster(SLOW, *fleet)

    assert medium is not None
    assert slow is not None
    assert (3, 4) == (medium.fellows, slow.fellows)


def test_long_tasks_do_not_make_a_provider_slow_where_both_tell_tokens() -> None:
    assert None is faster(provider("own", 60.0, 100.0), QUICK)


def test_where_one_tells_no_tokens_the_time_of_a_task_decides() -> None:
    found = faster(provider("own", 8.0), QUICK)

    assert found is not None
    assert 4.0 == found.times


@pytest.mark.parametrize(
    "other",
    [
        provider("quick"),
        provider("quick", 2.0, 100.0, healthy=False),
        provider("quick", 2.0, 100.0, slots=0),
        provider("quick", 2.0, 100.0, models=("another",)),
    ],
    ids=["of unknown speed", "unhealthy", "without a slot", "of another model"],
)
def test_who_is_not_known_to_be_faster_and_there_does_not_count(other: ProviderRecord) -> None:
    assert None is faster(SLOW, other)


def test_who_has_told_no_speed_hears_of_nobody() -> None:
    assert None is faster(provider("own"), QUICK)
