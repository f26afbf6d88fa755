"""In which tier's queue a request waits: its own's, unless its tenant has more than its share."""

from __future__ import annotations

import pytest

from inferline.fairness import lane, share
from inferline.task import TIERS, Tier


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("tenant_open", [0, 1, 2, 3, 4])
def test_up_to_its_share_a_tenant_waits_where_it_asked_for(tier: Tier, tenant_open: int) -> None:
    assert tier == lane(tier, tenant_open, 4)


@pytest.mark.parametrize(
    ("tier", "tenant_open", "expected"),
    [
        ("priority", 5, "default"),
        ("priority", 8, "default"),
        ("priority", 9, "flex"),
        ("priority", 100, "flex"),
        ("default", 5, "flex"),
        ("default", 100, "flex"),
        ("flex", 100, "flex"),
    ],
)
def test_each_share_beyond_it_gives_way_by_one_tier(
    tier: Tier, tenant_open: int, expected: Tier
) -> None:
    assert expected == lane(tier, tenant_open, 4)


@pytest.mark.parametrize("tier", TIERS)
def test_with_more_open_no_tenant_ever_waits_in_a_better_queue(tier: Tier) -> None:
    places = [TIERS.index(lane(tier, count, 3)) for count in range(50)]

    assert sorted(places) == places


def test_a_share_is_what_there_is_in_any_case_or_what_everybody_has_on_average() -> None:
    assert 32 == share(32)
    assert 32 == share(32, in_line=320, tenants=10)
    assert 40 == share(32, in_line=400, tenants=10)


@pytest.mark.parametrize("tenants", [0, 1, 4])
def test_tenants_that_are_not_seen_are_reckoned_with(tenants: int) -> None:
    assert 25 == share(2, in_line=100, tenants=tenants)


@pytest.mark.parametrize("most", [0.0, 0.3, 1.0])
def test_a_tenant_may_always_have_one_request_open(most: float) -> None:
    assert 1 == share(most)


@pytest.mark.parametrize("heavy", [1, 2, 5, 50])
def test_however_many_are_heavy_they_give_way_and_the_light_one_does_not(heavy: int) -> None:
    found = share(4, in_line=heavy * 256 + 10, tenants=heavy + 1)

    assert ("flex", "default") == (lane("default", 256, found), lane("default", 10, found))
