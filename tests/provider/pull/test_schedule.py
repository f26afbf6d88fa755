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


def rota_of(*models: str) -> tuple[PollSchedule, dict[tuple[str, str], QueueState]]:
    rota = PollSchedule()
    rota.arrange({model: {tier: f"{model}/{tier}" for tier in TIERS} for model in models})
    return rota, {(place.model, place.tier): place for place in rota.cold(0)}


def ask(rota: PollSchedule, place: QueueState, *sent_ms: int, limit: int = 10) -> None:
    """Ask a queue that has these messages, without waiting."""
    rota.came(rota.begin(place, limit, 0, waits=False), sent_ms, 0)


def heat(rota: PollSchedule, *places: QueueState, sent_ms: int = 1) -> None:
    for place in places:
        ask(rota, place, sent_ms)


def next_place(rota: PollSchedule, now: float = 0) -> QueueState:
    turn = rota.hottest(now, free=1)
    assert turn is not None
    return turn[0]


def test_every_queue_is_waited_at_in_the_beginning() -> None:
    _, places = rota_of("a", "b")

    assert len(places) == 6


def test_nobody_waits_at_a_queue_twice() -> None:
    rota, places = rota_of("a")
    receive = rota.begin(places["a", "flex"], 4, 0, waits=True)

    assert places["a", "flex"] not in rota.cold(0)
    rota.came(receive, [], 0)
    assert places["a", "flex"] in rota.cold(0)


def test_queues_that_brought_something_are_asked_and_not_waited_at() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"], places["a", "flex"])

    assert next_place(rota) is places["a", "default"]
    assert rota.cold(0) == [places["a", "priority"]]


def test_a_queue_that_alone_brought_something_is_waited_at() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"])

    assert places["a", "default"] in rota.cold(0)
    assert rota.hottest(0, free=10) is None


def test_a_queue_that_brought_nothing_is_waited_at_again() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"], places["a", "flex"])
    ask(rota, places["a", "default"])

    assert places["a", "default"] in rota.cold(0)


def test_a_queue_that_brings_all_that_it_is_asked_for_is_asked_by_more_receives_each_time() -> None:
    rota, places = rota_of("a")
    place = places["a", "default"]
    receives = [rota.begin(place, 10, 0, waits=True)]

    counts = []
    for _ in range(5):
        for receive in receives:
            rota.came(receive, range(10), 0)
        receives = [rota.begin(place, 10, 0, waits=True)]
        while (turn := rota.hottest(0, free=500)) is not None:
            receives.append(rota.begin(*turn, 0, waits=False))
        counts.append(len(receives))

    assert counts == [2, 4, 8, 1 + RECEIVES_MAX, 1 + RECEIVES_MAX]


def test_no_receive_asks_for_slots_that_another_asks_for() -> None:
    rota, places = rota_of("a")
    ask(rota, places["a", "default"], *range(10))
    rota.begin(places["a", "default"], 10, 0, waits=True)

    assert rota.hottest(0, free=10) is None
    assert rota.hottest(0, free=13) == (places["a", "default"], 3)


def test_a_queue_at_which_a_receive_has_waited_for_long_is_empty_and_not_asked() -> None:
    rota, places = rota_of("a")
    ask(rota, places["a", "default"], *range(10))
    rota.begin(places["a", "default"], 1, 5.0, waits=True)

    assert rota.hottest(5.0, free=10) is not None
    assert rota.hottest(5.0 + PROMPT_SECONDS, free=10) is None


def test_a_queue_that_brought_less_than_it_was_asked_for_is_not_asked_by_more_receives() -> None:
    rota, places = rota_of("a")
    ask(rota, places["a", "default"], *range(9))
    rota.begin(places["a", "default"], 10, 0, waits=True)

    assert rota.hottest(0, free=500) is None


def test_a_loaded_model_is_loaded_for_those_too_whom_it_is_reserved_for() -> None:
    name = dedicated_name("b", "acme")
    rota, places = rota_of("a", name)
    rota.ran("b")
    heat(rota, places["a", "default"], sent_ms=1)
    heat(rota, places[name, "default"], sent_ms=5)

    assert name == next_place(rota).model


def test_the_tier_goes_before_the_loaded_model_and_that_before_age() -> None:
    rota, places = rota_of("a", "b")
    rota.ran("b")
    heat(rota, places["a", "priority"], sent_ms=9)
    heat(rota, places["a", "default"], sent_ms=1)
    heat(rota, places["b", "default"], sent_ms=5)
    heat(rota, places["b", "flex"], sent_ms=0)

    order = []
    for _ in range(3):
        place = next_place(rota)
        order.append(place.url)
        ask(rota, place)

    assert order == ["a/priority", "b/default", "a/default"]


def test_a_queue_that_nobody_has_looked_at_lately_goes_before_the_work_of_lower_tiers() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "flex"])
    rota.begin(places["a", "priority"], 1, 0, waits=True)
    rota.came(rota.begin(places["a", "default"], 1, 0, waits=True), [], 20.0)

    assert places["a", "default"] in rota.cold(20.0)
    assert [] == rota.cold(30.0)
    assert next_place(rota, 30.0) is places["a", "default"]


def test_once_it_brought_nothing_it_is_waited_at_and_the_lower_tier_has_its_turn() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "flex"])
    rota.begin(places["a", "priority"], 1, 0, waits=True)

    rota.came(rota.begin(places["a", "default"], 1, 30.0, waits=False), [], 30.0)

    assert {places["a", "default"], places["a", "flex"]} == set(rota.cold(30.0))


def test_a_queue_that_nobody_has_looked_at_lately_goes_before_nothing_of_its_own_tier() -> None:
    rota, places = rota_of("a", "b")
    heat(rota, places["a", "default"])
    for tier in ("priority", "flex"):
        for model in "ab":
            rota.begin(places[model, tier], 1, 0, waits=True)
    rota.came(rota.begin(places["b", "default"], 1, 0, waits=True), [], 20.0)

    assert places["b", "default"] in rota.cold(30.0)


def test_the_older_message_goes_first() -> None:
    rota, places = rota_of("a", "b")
    heat(rota, places["a", "default"], sent_ms=7)
    heat(rota, places["b", "default"], sent_ms=3)

    assert next_place(rota) is places["b", "default"]


def test_flex_does_not_starve() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "priority"], places["a", "flex"])

    turns = Counter(next_place(rota).tier for _ in range(100))

    assert turns == {"priority": 100 - 100 // FAIR_TURNS, "flex": 100 // FAIR_TURNS}


def test_a_queue_that_fails_is_left_alone_longer_each_time() -> None:
    rota, places = rota_of("a")
    place = places["a", "default"]
    rota.failed(rota.begin(place, 1, 0, waits=True), now=0)

    assert place not in rota.cold(0.9)
    assert place in rota.cold(1)

    rota.failed(rota.begin(place, 1, 1, waits=True), now=1)
    assert place not in rota.cold(2.9)


def test_several_receives_that_fail_at_once_are_one_failure() -> None:
    rota, places = rota_of("a")
    place = places["a", "default"]
    receives = [rota.begin(place, 1, 0, waits=False) for _ in range(3)]
    for receive in receives:
        rota.failed(receive, now=0)

    assert place in rota.cold(1)


def test_a_queue_can_be_left_alone_and_is_waited_at_afterwards() -> None:
    rota, places = rota_of("a")
    place = places["a", "default"]
    heat(rota, place, places["a", "flex"])
    rota.leave(place, until=0.25)

    assert place not in rota.cold(0.2)
    assert pytest.approx(0.05) == rota.due(0.2)
    assert place in rota.cold(0.25)
    assert rota.due(0.25) == float("inf")


def test_what_is_known_of_a_queue_outlives_a_new_grant() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"], places["a", "flex"])

    rota.arrange({"a": {"default": "a/default", "flex": "a/flex"}, "b": {"default": "b/default"}})

    assert next_place(rota) is places["a", "default"]
    assert [place.url for place in rota.cold(0)] == ["b/default"]
