from __future__ import annotations

from collections import Counter

from inferline.task import TIERS
from inferline_provider.rota import FAIR_TURNS, Place, Rota


def rota_of(*models: str) -> tuple[Rota, dict[tuple[str, str], Place]]:
    rota = Rota()
    rota.arrange({model: {tier: f"{model}/{tier}" for tier in TIERS} for model in models})
    return rota, {(place.model, place.tier): place for place in rota.cold(0)}


def heat(rota: Rota, place: Place, sent_ms: int = 1) -> None:
    rota.came(place, [sent_ms])


def test_every_queue_is_waited_at_in_the_beginning() -> None:
    _, places = rota_of("a", "b")

    assert len(places) == 6


def test_nobody_waits_at_a_queue_twice() -> None:
    rota, places = rota_of("a")
    places["a", "flex"].asked = True

    assert places["a", "flex"] not in rota.cold(0)


def test_a_queue_that_brought_something_is_asked_and_not_waited_at() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"])

    assert rota.hottest(0) is places["a", "default"]
    assert places["a", "default"] not in rota.cold(0)


def test_a_queue_that_brought_nothing_is_waited_at_again() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"])
    rota.came(places["a", "default"], [])

    assert rota.hottest(0) is None
    assert places["a", "default"] in rota.cold(0)


def test_the_tier_goes_before_the_loaded_model_and_that_before_age() -> None:
    rota, places = rota_of("a", "b")
    rota.ran("b")
    heat(rota, places["a", "priority"], sent_ms=9)
    heat(rota, places["a", "default"], sent_ms=1)
    heat(rota, places["b", "default"], sent_ms=5)

    order = []
    for _ in range(3):
        place = rota.hottest(0)
        assert place is not None
        order.append(place.url)
        rota.came(place, [])

    assert order == ["a/priority", "b/default", "a/default"]


def test_the_older_message_goes_first() -> None:
    rota, places = rota_of("a", "b")
    heat(rota, places["a", "default"], sent_ms=7)
    heat(rota, places["b", "default"], sent_ms=3)

    assert rota.hottest(0) is places["b", "default"]


def test_flex_does_not_starve() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "priority"])
    heat(rota, places["a", "flex"])

    turns = Counter(place.tier for _ in range(100) if (place := rota.hottest(0)))

    assert turns == {"priority": 100 - 100 // FAIR_TURNS, "flex": 100 // FAIR_TURNS}


def test_a_queue_that_fails_is_left_alone_longer_each_time() -> None:
    rota, places = rota_of("a")
    place = places["a", "default"]
    rota.failed(place, now=0)

    assert place not in rota.cold(0.9)
    assert place in rota.cold(1)

    rota.failed(place, now=1)
    assert place not in rota.cold(2.9)


def test_what_is_known_of_a_queue_outlives_a_new_grant() -> None:
    rota, places = rota_of("a")
    heat(rota, places["a", "default"])

    rota.arrange({"a": {"default": "a/default"}, "b": {"default": "b/default"}})

    assert rota.hottest(0) is places["a", "default"]
    assert [place.url for place in rota.cold(0)] == ["b/default"]
