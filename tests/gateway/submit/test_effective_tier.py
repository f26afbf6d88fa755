"""The queue of a request: its own tier's, unless its tenant has more than its share."""

from __future__ import annotations

import pytest

from inferline.gateway.submit.fairness import effective_tier, share
from inferline.tasks.task import TIERS, Tier


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("tenant_open", [0, 1, 2, 3, 4])
def test_up_to_its_share_a_tenant_waits_where_it_asked_for(tier: Tier, tenant_open: int) -> None:
    assert tier == effective_tier(tier, tenant_open, 4)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("tenant_open", [5, 100])
def test_what_is_beyond_it_lets_everybody_by(tier: Tier, tenant_open: int) -> None:
    assert "flex" == effective_tier(tier, tenant_open, 4)


@pytest.mark.parametrize("tier", TIERS)
def test_with_more_open_no_tenant_ever_waits_in_a_better_queue(tier: Tier) -> None:
    places = [TIERS.index(effective_tier(tier, count, 3)) for count in range(50)]

    assert sorted(places) == places


def test_a_share_is_what_there_is_in_any_case_or_a_part_of_what_the_largest_has() -> None:
    assert 32 == share(32)
    assert 32 == share(32, largest=64)
    assert 40 == share(32, largest=80)


@pytest.mark.parametrize("most", [0.0, 0.3, 1.0])
def test_a_tenant_may_always_have_one_request_open(most: float) -> None:
    assert 1 == share(most)


@pytest.mark.parametrize("tier", ["priority", "default"])
def test_the_largest_gives_way_to_the_lowest_tier_and_a_small_one_never(tier: Tier) -> None:
    limit = share(4, largest=256)

    assert ("flex", tier) == (effective_tier(tier, 256, limit), effective_tier(tier, 20, limit))
