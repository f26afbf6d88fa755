"""Who is there, as far as a gateway sees."""

from __future__ import annotations

from inferline.gateway.submit.active_tenants import AWAY_SECONDS, TENANTS_MAX, ActiveTenants
from tests.support.clocks import StandingClock


def test_the_largest_is_who_had_most_open_when_it_asked_last() -> None:
    crowd = ActiveTenants(StandingClock())
    assert 0 == crowd.largest()

    for tenant, count in (("a", 9), ("b", 5), ("a", 3)):
        crowd.note(tenant, count)

    assert 5 == crowd.largest()


def test_who_has_not_asked_for_long_has_left() -> None:
    clock = StandingClock()
    crowd = ActiveTenants(clock)
    crowd.note("a", 3)
    crowd.note("b", 5)
    clock.now += AWAY_SECONDS - 1
    crowd.note("a", 3)
    clock.now += 2

    assert 3 == crowd.largest()


def test_only_so_many_are_remembered() -> None:
    crowd = ActiveTenants(StandingClock())
    crowd.note("first", 1000)
    for number in range(TENANTS_MAX):
        crowd.note(str(number), 1)

    assert 1 == crowd.largest()
