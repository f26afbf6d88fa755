"""A map that stays small."""

from __future__ import annotations

from inferline.expiring import ExpiringMap


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_value_is_gone_after_its_seconds() -> None:
    now = Time()
    values = ExpiringMap[str, int](9, now, 10.0)
    values.put("a", 1)
    values.put("b", 2, 3.0)

    now.seconds = 3.0
    assert (1, None, [1]) == (values.get("a"), values.get("b"), values.values())
    now.seconds = 10.0
    assert (None, []) == (values.get("a"), values.values())


def test_putting_it_again_begins_its_time_anew() -> None:
    now = Time()
    values = ExpiringMap[str, int](9, now, 10.0)
    values.put("a", 1)
    now.seconds = 9.0
    values.put("a", 2)

    now.seconds = 18.0
    assert 2 == values.get("a")


def test_the_one_put_longest_ago_makes_room() -> None:
    values = ExpiringMap[str, int](2)
    for key in ("a", "b", "a", "c"):
        values.put(key, 1)

    assert (1, None, 1, 2) == (values.get("a"), values.get("b"), values.get("c"), len(values))


def test_what_is_taken_out_is_gone_and_may_be_missing() -> None:
    values = ExpiringMap[str, int](2)
    values.put("a", 1)
    values.pop("a")
    values.pop("a")

    assert None is values.get("a")
