"""Yielding: a slow provider leaves new messages to faster ones while these are idle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inferline.fleet.enrolment import Faster
from inferline.memory.queue import MemoryQueue
from inferline.names import dedicated_name
from inferline.tasks.queue import Delivery
from inferline_provider.pull.yielding import (
    EAGER_YIELDS,
    REST_SECONDS_MAX,
    YIELD_SECONDS_MAX,
    YieldPolicies,
    YieldPolicy,
)
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.script import Script

NOW = 1_000_000
#: A fifth of a second, the unit of all times here.
SECONDS = 0.2


def policy(rest_seconds_max: float = SECONDS) -> YieldPolicy:
    return YieldPolicy(seconds=SECONDS, rest_seconds_max=rest_seconds_max)


def young(slow: YieldPolicy, now_ms: int) -> float:
    """Return the yield for a message that a long poll brings 20 ms after it was sent."""
    return slow.yield_seconds([now_ms - 20], now_ms - 5000, now_ms)


def known(times: float, fellows: int = 1, task_seconds: float = 60.0) -> YieldPolicy:
    yield_policies = YieldPolicies()
    yield_policies.update({"m": Faster(times=times, fellows=fellows)}, lambda model: task_seconds)
    return yield_policies["m"]


def test_a_young_message_goes_back_and_the_queue_is_left_alone_until_it_is_old() -> None:
    assert pytest.approx(SECONDS - 0.02) == young(policy(), NOW)


def test_a_message_that_lay_there_when_it_was_asked_for_is_taken() -> None:
    assert 0 == policy().yield_seconds([NOW - 220], NOW - 20, NOW)


def test_one_old_message_among_young_ones_tells_that_the_faster_are_busy() -> None:
    assert 0 == policy().yield_seconds([NOW - 20, NOW - 300, NOW - 10], NOW - 20, NOW)


def test_who_found_the_faster_ones_busy_takes_all_for_a_while() -> None:
    slow = policy()
    slow.yield_seconds([NOW - 300], NOW, NOW)
    over = NOW + round(EAGER_YIELDS * SECONDS * 1000)

    assert 0 == young(slow, over - 1)
    assert young(slow, over)


def test_no_message_goes_back_twice_even_by_a_clock_that_is_behind() -> None:
    slow = policy()
    sent = NOW + 900  # By this clock it will be sent.

    assert slow.yield_seconds([sent], NOW - 5000, NOW)
    assert 0 == slow.yield_seconds([sent], NOW + 190, NOW + 200)


def test_a_message_that_went_through_many_hands_is_taken() -> None:
    sent = NOW - round(REST_SECONDS_MAX * 1000)

    assert 0 == policy().yield_seconds([sent], NOW - 5000, NOW)


def test_the_queue_is_left_alone_longer_each_time_that_the_faster_prove_idle() -> None:
    slow = policy(rest_seconds_max=0.5)

    rests = [young(slow, NOW + 1000 * turn) for turn in range(5)]

    assert [pytest.approx(rest) for rest in (0.18, 0.2, 0.4, 0.5, 0.5)] == rests


def test_when_they_prove_busy_it_is_left_alone_no_longer_than_in_the_beginning() -> None:
    slow = policy(rest_seconds_max=0.5)
    for turn in range(4):
        young(slow, NOW + 1000 * turn)

    slow.yield_seconds([NOW + 4000], NOW + 4500, NOW + 4520)

    assert pytest.approx(0.18) == young(slow, NOW + 60_000)


def test_nothing_that_was_brought_leaves_no_queue_alone() -> None:
    assert 0 == policy().yield_seconds([], NOW - 5000, NOW)


def test_who_has_no_handicap_takes_everything() -> None:
    assert 0 == young(YieldPolicies()["m"], NOW)


def test_the_handicap_grows_with_how_much_faster_others_are_and_is_bounded() -> None:
    seconds = [known(times).seconds for times in (1.25, 2, 4, 100)]

    assert sorted(seconds) == seconds
    assert 0 < seconds[0]
    assert pytest.approx(2 * seconds[1]) == seconds[2]
    assert YIELD_SECONDS_MAX == seconds[3]


def test_the_handicap_is_a_small_part_of_what_a_task_gains() -> None:
    assert known(2, task_seconds=1.0).seconds <= 1.0 * (1 - 1 / 2) / 10


@pytest.mark.parametrize("task_seconds", [0.0, 0.05])
def test_where_there_is_next_to_nothing_to_gain_there_is_no_handicap(task_seconds: float) -> None:
    assert 0 == known(4, task_seconds=task_seconds).seconds


def test_the_more_stand_back_the_longer_each_may_leave_the_queue_alone() -> None:
    few, many, crowd = (known(4, fellows) for fellows in (1, 12, 1000))

    assert few.seconds == few.rest_seconds_max < many.rest_seconds_max
    assert REST_SECONDS_MAX == crowd.rest_seconds_max


def test_who_is_not_slower_any_more_has_no_handicap() -> None:
    yield_policies = YieldPolicies()
    yield_policies.update({"m": Faster(times=4)}, lambda model: 60.0)
    yield_policies.update({}, lambda model: 60.0)

    assert 0 == yield_policies["m"].seconds


def test_what_was_found_out_outlives_a_heartbeat() -> None:
    yield_policies = YieldPolicies()
    yield_policies.update({"m": Faster(times=4)}, lambda model: 60.0)
    yield_policies["m"].yield_seconds([NOW - 1000], NOW, NOW)
    yield_policies.update({"m": Faster(times=4)}, lambda model: 60.0)

    assert 0 == young(yield_policies["m"], NOW + 100)


class Watched(MemoryQueue):
    """A queue that knows how many messages went back at once."""

    handed_back = 0

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        self.handed_back += len(deliveries) if not seconds else 0
        await super().change_visibility(deliveries, seconds)


async def test_a_provider_that_hears_of_a_faster_one_leaves_it_the_next_task() -> None:
    queue, script = Watched(), Script(first=1.0, interval=0, tokens=1)
    async with world(
        Backend(script=script), queue=queue, terms={"enrol_seconds": 0.2}, poll_seconds=20
    ) as around:
        around.gateway.faster = {"test-model": Faster(times=4)}
        await around.ended(await around.submit())
        assert 0 == queue.handed_back
        enrolments = around.gateway.enrolments
        await until(lambda: sum(bool(enrolment["speeds"]) for enrolment in enrolments) > 1)

        await around.ended(await around.submit())

        assert 1 == queue.handed_back


def test_a_reserved_queue_has_a_handicap_of_its_own_and_its_models_speed() -> None:
    name, yield_policies, models = dedicated_name("m", "acme"), YieldPolicies(), list[str]()

    def task_seconds(model: str) -> float:
        models.append(model)
        return 60.0

    yield_policies.update({name: Faster(times=4)}, task_seconds)

    assert ["m"] == models
    assert yield_policies[name].seconds > 0
    assert 0 == yield_policies["m"].seconds
