"""How fast a model's providers are stands in as few figures for thousands of them as for ten."""

from __future__ import annotations

import random

import pytest

from inferline.fleet.registry import Provider, Serving, TaskSpeed
from inferline.fleet.speeds import PACES_MAX, paces
from inferline.gateway.enrol import peers


def provider(name: str, speed: TaskSpeed, slots: int = 1) -> Provider:
    return Provider(
        id=name, models=("m",), slots=slots, running=0, healthy=True, version="1",
        speeds={"m": speed},
    )  # fmt: skip


def test_few_are_told_each_by_itself_and_the_fastest_comes_first() -> None:
    found = paces("m", [provider(f"p{n}", TaskSpeed(8.0, 10.0 + n)) for n in range(PACES_MAX)])

    assert [f"p{n}" for n in reversed(range(PACES_MAX))] == [pace.only for pace in found]


def test_of_many_nobody_is_left_out_and_the_fastest_is_told_by_itself() -> None:
    chance = random.Random(1)
    speeds = [TaskSpeed(1.0, chance.uniform(5.0, 200.0)) for _ in range(1000)]

    found = paces("m", [provider(f"p{n}", speed) for n, speed in enumerate(speeds)])

    assert len(found) <= PACES_MAX
    assert 1000 == sum(pace.providers for pace in found)
    assert max(speed.tokens_per_second for speed in speeds) == found[0].speed.tokens_per_second
    assert 1 == found[0].providers


def test_many_that_are_alike_are_few_paces() -> None:
    alike = [provider(f"p{n}", TaskSpeed(1.0, 50.0)) for n in range(100)]

    assert [1, 99] == [pace.providers for pace in paces("m", alike)]


def test_those_that_tell_no_tokens_are_told_by_their_time() -> None:
    found = paces("m", [provider(f"p{n}", TaskSpeed(1.0 + n)) for n in range(50)])

    assert TaskSpeed(1.0) == found[0].speed
    assert 50 == sum(pace.providers for pace in found)
    assert len(found) <= PACES_MAX


def test_who_has_no_slot_or_knows_no_speed_is_not_told() -> None:
    none = provider("none", TaskSpeed(1.0), slots=0)
    new = Provider(id="new", models=("m",), slots=1, running=0, healthy=True, version="1")

    assert () == paces("m", [none, new])


@pytest.mark.parametrize("tokens", [25.0, 50.0, 99.0])
def test_of_three_kinds_each_hears_about_what_it_would_of_all(tokens: float) -> None:
    kinds = [(100.0, 20), (50.0, 100), (25.0, 300)]
    chance = random.Random(2)
    fleet = [
        provider(f"p{speed}-{n}", TaskSpeed(1.0, speed * chance.uniform(0.98, 1.0)))
        for speed, count in kinds
        for n in range(count)
    ]
    served = {"m": Serving(providers=len(fleet), paces=paces("m", fleet))}

    found = peers.faster(served, provider("own", TaskSpeed(1.0, tokens))).get("m")

    if tokens == 99.0:
        assert found is None
    else:
        assert found is not None
        assert 100 / tokens == pytest.approx(found.times, rel=0.05)
        assert sum(n for speed, n in kinds if tokens <= speed < 100) == pytest.approx(
            found.fellows, rel=0.1
        )
