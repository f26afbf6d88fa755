"""How fast a model's providers are stands in as few figures for thousands of them as for ten."""

from __future__ import annotations

import random

import pytest

from inferline.fleet.registry import ProviderRecord, Serving, TaskSpeed
from inferline.fleet.speeds import GROUPS_MAX, speed_groups
from inferline.gateway.enrol import peers


def provider(name: str, speed: TaskSpeed, slots: int = 1) -> ProviderRecord:
    return ProviderRecord(
        id=name, models=("m",), slots=slots, running=0, healthy=True, version="1",
        speeds={"m": speed},
    )  # fmt: skip


def test_few_are_told_each_by_itself_and_the_fastest_comes_first() -> None:
    groups = speed_groups(
        "m", [provider(f"p{n}", TaskSpeed(8.0, 10.0 + n)) for n in range(GROUPS_MAX)]
    )

    assert [f"p{n}" for n in reversed(range(GROUPS_MAX))] == [group.provider_id for group in groups]


def test_of_many_nobody_is_left_out_and_the_fastest_is_told_by_itself() -> None:
    chance = random.Random(1)
    speeds = [TaskSpeed(1.0, chance.uniform(5.0, 200.0)) for _ in range(1000)]

    groups = speed_groups("m", [provider(f"p{n}", speed) for n, speed in enumerate(speeds)])

    assert len(groups) <= GROUPS_MAX
    assert 1000 == sum(group.providers for group in groups)
    assert max(speed.tokens_per_second for speed in speeds) == groups[0].speed.tokens_per_second
    assert 1 == groups[0].providers


def test_many_alike_providers_are_few_groups() -> None:
    alike = [provider(f"p{n}", TaskSpeed(1.0, 50.0)) for n in range(100)]

    assert [1, 99] == [group.providers for group in speed_groups("m", alike)]


def test_those_that_tell_no_tokens_are_told_by_their_time() -> None:
    groups = speed_groups("m", [provider(f"p{n}", TaskSpeed(1.0 + n)) for n in range(50)])

    assert TaskSpeed(1.0) == groups[0].speed
    assert 50 == sum(group.providers for group in groups)
    assert len(groups) <= GROUPS_MAX


def test_who_has_no_slot_or_knows_no_speed_is_not_told() -> None:
    none = provider("none", TaskSpeed(1.0), slots=0)
    new = ProviderRecord(id="new", models=("m",), slots=1, running=0, healthy=True, version="1")

    assert () == speed_groups("m", [none, new])


@pytest.mark.parametrize("tokens", [25.0, 50.0, 99.0])
def test_of_three_kinds_each_hears_about_what_it_would_of_all(tokens: float) -> None:
    kinds = [(100.0, 20), (50.0, 100), (25.0, 300)]
    chance = random.Random(2)
    fleet = [
        provider(f"p{speed}-{n}", TaskSpeed(1.0, speed * chance.uniform(0.98, 1.0)))
        for speed, count in kinds
        for n in range(count)
    ]
    served = {"m": Serving(providers=len(fleet), speed_groups=speed_groups("m", fleet))}

    groups = peers.faster(served, provider("own", TaskSpeed(1.0, tokens))).get("m")

    if tokens == 99.0:
        assert groups is None
    else:
        assert groups is not None
        assert 100 / tokens == pytest.approx(groups.times, rel=0.05)
        assert sum(n for speed, n in kinds if tokens <= speed < 100) == pytest.approx(
            groups.fellows, rel=0.1
        )
