from __future__ import annotations

from collections import Counter

import pytest

from inferline.names import dedicated_name
from inferline.tasks.task import TIERS
from inferline_provider.pull.schedule import (
    FAIR_TURNS,
    PROMPT_SECONDS,
    RECEIVES_MAX,
    PollSchedule,
    QueueState,
)


def schedule_of(*models: str) -> tuple[PollSchedule, dict[tuple[str, str], QueueState]]:
    schedule = PollSchedule()
    schedule.arrange({model: {tier: f"{model}/{tier}" for tier in TIERS} for model in models})
    return schedule, {(state.model, state.tier): state for state in schedule.cold(0)}


def ask(schedule: PollSchedule, state: QueueState, *sent_ms: int, limit: int = 10) -> None:
    """Ask a queue that has these messages, without waiting."""
    schedule.received(schedule.begin(state, limit, 0, waits=False), sent_ms, 0)


def heat(schedule: PollSchedule, *states: QueueState, sent_ms: int = 1) -> None:
    for state in states:
        ask(schedule, state, sent_ms)


def next_state(schedule: PollSchedule, now: float = 0) -> QueueState:
    turn = schedule.next_hot(now, free=1)
    assert turn is not None
    return turn[0]


def test_every_queue_is_waited_at_in_the_beginning() -> None:
    _, states = schedule_of("a", "b")

    assert len(states) == 6


def test_nobody_waits_at_a_queue_twice() -> None:
    schedule, states = schedule_of("a")
    receive = schedule.begin(states["a", "flex"], 4, 0, waits=True)

    assert states["a", "flex"] not in schedule.cold(0)
    schedule.received(receive, [], 0)
    assert states["a", "flex"] in schedule.cold(0)


def test_queues_that_brought_something_are_asked_and_not_waited_at() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "default"], states["a", "flex"])

    assert next_state(schedule) is states["a", "default"]
    assert schedule.cold(0) == [states["a", "priority"]]


def test_a_queue_that_alone_brought_something_is_waited_at() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "default"])

    assert states["a", "default"] in schedule.cold(0)
    assert schedule.next_hot(0, free=10) is None


def test_a_queue_that_brought_nothing_is_waited_at_again() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "default"], states["a", "flex"])
    ask(schedule, states["a", "default"])

    assert states["a", "default"] in schedule.cold(0)


def test_a_queue_that_brings_all_that_it_is_asked_for_is_asked_by_more_receives_each_time() -> None:
    schedule, states = schedule_of("a")
    state = states["a", "default"]
    receives = [schedule.begin(state, 10, 0, waits=True)]

    counts = []
    for _ in range(5):
        for receive in receives:
            schedule.received(receive, range(10), 0)
        receives = [schedule.begin(state, 10, 0, waits=True)]
        while (turn := schedule.next_hot(0, free=500)) is not None:
            receives.append(schedule.begin(*turn, 0, waits=False))
        counts.append(len(receives))

    assert counts == [2, 4, 8, 1 + RECEIVES_MAX, 1 + RECEIVES_MAX]


def test_no_receive_asks_for_slots_that_another_asks_for() -> None:
    schedule, states = schedule_of("a")
    ask(schedule, states["a", "default"], *range(10))
    schedule.begin(states["a", "default"], 10, 0, waits=True)

    assert schedule.next_hot(0, free=10) is None
    assert schedule.next_hot(0, free=13) == (states["a", "default"], 3)


def test_a_queue_at_which_a_receive_has_waited_for_long_is_empty_and_not_asked() -> None:
    schedule, states = schedule_of("a")
    ask(schedule, states["a", "default"], *range(10))
    schedule.begin(states["a", "default"], 1, 5.0, waits=True)

    assert schedule.next_hot(5.0, free=10) is not None
    assert schedule.next_hot(5.0 + PROMPT_SECONDS, free=10) is None


def test_a_queue_that_brought_less_than_it_was_asked_for_is_not_asked_by_more_receives() -> None:
    schedule, states = schedule_of("a")
    ask(schedule, states["a", "default"], *range(9))
    schedule.begin(states["a", "default"], 10, 0, waits=True)

    assert schedule.next_hot(0, free=500) is None


def test_a_loaded_model_is_loaded_for_those_too_whom_it_is_reserved_for() -> None:
    name = dedicated_name("b", "acme")
    schedule, states = schedule_of("a", name)
    schedule.note_model("b")
    heat(schedule, states["a", "default"], sent_ms=1)
    heat(schedule, states[name, "default"], sent_ms=5)

    assert name == next_state(schedule).model


def test_the_tier_goes_before_the_loaded_model_and_that_before_age() -> None:
    schedule, states = schedule_of("a", "b")
    schedule.note_model("b")
    heat(schedule, states["a", "priority"], sent_ms=9)
    heat(schedule, states["a", "default"], sent_ms=1)
    heat(schedule, states["b", "default"], sent_ms=5)
    heat(schedule, states["b", "flex"], sent_ms=0)

    order = []
    for _ in range(3):
        state = next_state(schedule)
        order.append(state.url)
        ask(schedule, state)

    assert order == ["a/priority", "b/default", "a/default"]


def test_a_queue_that_nobody_has_looked_at_lately_goes_before_the_work_of_lower_tiers() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "flex"])
    schedule.begin(states["a", "priority"], 1, 0, waits=True)
    schedule.received(schedule.begin(states["a", "default"], 1, 0, waits=True), [], 20.0)

    assert states["a", "default"] in schedule.cold(20.0)
    assert [] == schedule.cold(30.0)
    assert next_state(schedule, 30.0) is states["a", "default"]


def test_once_it_brought_nothing_it_is_waited_at_and_the_lower_tier_has_its_turn() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "flex"])
    schedule.begin(states["a", "priority"], 1, 0, waits=True)

    schedule.received(schedule.begin(states["a", "default"], 1, 30.0, waits=False), [], 30.0)

    assert {states["a", "default"], states["a", "flex"]} == set(schedule.cold(30.0))


def test_a_queue_that_nobody_has_looked_at_lately_goes_before_nothing_of_its_own_tier() -> None:
    schedule, states = schedule_of("a", "b")
    heat(schedule, states["a", "default"])
    for tier in ("priority", "flex"):
        for model in "ab":
            schedule.begin(states[model, tier], 1, 0, waits=True)
    schedule.received(schedule.begin(states["b", "default"], 1, 0, waits=True), [], 20.0)

    assert states["b", "default"] in schedule.cold(30.0)


def test_the_older_message_goes_first() -> None:
    schedule, states = schedule_of("a", "b")
    heat(schedule, states["a", "default"], sent_ms=7)
    heat(schedule, states["b", "default"], sent_ms=3)

    assert next_state(schedule) is states["b", "default"]


def test_flex_does_not_starve() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "priority"], states["a", "flex"])

    turns = Counter(next_state(schedule).tier for _ in range(100))

    assert turns == {"priority": 100 - 100 // FAIR_TURNS, "flex": 100 // FAIR_TURNS}


def test_a_queue_that_fails_is_left_alone_longer_each_time() -> None:
    schedule, states = schedule_of("a")
    state = states["a", "default"]
    schedule.failed(schedule.begin(state, 1, 0, waits=True), now=0)

    assert state not in schedule.cold(0.9)
    assert state in schedule.cold(1)

    schedule.failed(schedule.begin(state, 1, 1, waits=True), now=1)
    assert state not in schedule.cold(2.9)


def test_several_receives_that_fail_at_once_are_one_failure() -> None:
    schedule, states = schedule_of("a")
    state = states["a", "default"]
    receives = [schedule.begin(state, 1, 0, waits=False) for _ in range(3)]
    for receive in receives:
        schedule.failed(receive, now=0)

    assert state in schedule.cold(1)


def test_a_queue_can_be_left_alone_and_is_waited_at_afterwards() -> None:
    schedule, states = schedule_of("a")
    state = states["a", "default"]
    heat(schedule, state, states["a", "flex"])
    schedule.pause(state, until=0.25)

    assert state not in schedule.cold(0.2)
    assert pytest.approx(0.05) == schedule.pause_seconds(0.2)
    assert state in schedule.cold(0.25)
    assert schedule.pause_seconds(0.25) == float("inf")


def test_what_is_known_of_a_queue_outlives_a_new_grant() -> None:
    schedule, states = schedule_of("a")
    heat(schedule, states["a", "default"], states["a", "flex"])

    schedule.arrange(
        {"a": {"default": "a/default", "flex": "a/flex"}, "b": {"default": "b/default"}}
    )

    assert next_state(schedule) is states["a", "default"]
    assert [state.url for state in schedule.cold(0)] == ["b/default"]
