"""The pools of a model are about as fast as its providers, however many there are."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pytest

from inferline.fleet.aggregation import POOLS_MAX, RIVALS_MAX, aggregate
from inferline.fleet.registry import ProviderRecord
from inferline.names import model_hash, slug


def provider(name: str, *models: str, **changes: Any) -> ProviderRecord:
    given = {"slots": 4, "running": 0, "healthy": True, "version": "1", "service_seconds": 2.0}
    return ProviderRecord(id=name, models=models or ("m",), **(given | changes))


def test_providers_of_the_same_models_are_one_pool() -> None:
    servings = aggregate([provider("a", "m"), provider("b", "m", "n"), provider("c", "n", "m")])

    hash_of_n = model_hash(slug("n"))
    assert [(4.0, {hash_of_n: 1.0}), (2.0, {})] == [(p.rate, p.rivals) for p in servings["m"].pools]
    assert [(4.0, {model_hash(slug("m")): 1.0})] == [
        (p.rate, p.rivals) for p in servings["n"].pools
    ]


def test_a_model_with_too_many_pools_has_a_mixed_one() -> None:
    many = [provider(f"p{n}", "m", f"n{n}", "all", slots=100 - n) for n in range(90)]

    servings = aggregate(many)["m"]

    assert POOLS_MAX == len(servings.pools)
    mixed = servings.pools[-1]
    assert sum(p.slots / 2 for p in many) == pytest.approx(sum(p.rate for p in servings.pools))
    assert RIVALS_MAX == len(mixed.rivals)
    assert mixed.rivals[model_hash(slug("all"))] == pytest.approx(1.0)
    assert all(0 < share <= 1.0 for share in mixed.rivals.values())


def rates(
    fleet: Sequence[ProviderRecord], waiting: Mapping[str, int], own: int
) -> tuple[float, float]:
    """Return what a model's pools end a second, and what its providers do one by one."""
    by_mark = {model_hash(slug(name)): count for name, count in waiting.items()}
    pooled = sum(
        pool.rate_for(own, lambda rival: by_mark.get(rival, 0))
        for pool in aggregate(fleet)["m"].pools
    )
    exact = sum(
        one.slots / one.service_seconds * own
        / (own + sum(waiting.get(other, 0) for other in one.models))
        for one in fleet
    )  # fmt: skip
    return pooled, exact


def test_few_pools_are_as_fast_as_their_providers() -> None:
    kinds = [("m",), ("m", "a"), ("m", "a", "b"), ("b", "m")]
    fleet = [provider(f"p{n}", *kinds[n % 4], service_seconds=1.0 + n % 5) for n in range(40)]

    pooled, exact = rates(fleet, {"a": 30, "b": 7}, own=10)

    assert exact == pytest.approx(pooled)


def test_many_pools_are_about_as_fast_as_their_providers() -> None:
    chance = random.Random(1)
    names = [f"model-{n}" for n in range(30)]
    shares = []
    for _ in range(100):
        fleet = [
            provider(f"p{n}", "m", *chance.sample(names, 2), service_seconds=chance.uniform(1, 9))
            for n in range(30)
        ]
        pooled, exact = rates(fleet, {name: chance.choice((0, 0, 0, 5, 40)) for name in names}, 10)
        shares.append(pooled / exact)

    assert 0.9 < min(shares) < max(shares) < 1.25
    assert 0.98 < median(shares) < 1.05
