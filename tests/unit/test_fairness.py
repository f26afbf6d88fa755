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


def test_a_share_is_what_could_run_at_once_or_a_tenth_of_the_line() -> None:
    assert 32 == share(32, 0, 1.0)
    assert 16 == share(32, 100, 0.5)
    assert 40 == share(32, 400, 1.0)


@pytest.mark.parametrize("slots", [0, 1, 3])
def test_with_few_slots_or_none_a_tenant_may_have_one_request_open(slots: int) -> None:
    assert 1 == share(slots, 0, 0.3)
