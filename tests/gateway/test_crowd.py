"""Who is there, as far as a gateway sees."""

from __future__ import annotations

from inferline.gateway.crowd import AWAY_SECONDS, TENANTS_MAX, Crowd


class Clock:
    """Stands still until told."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def test_a_tenant_is_there_once_however_often_it_asks() -> None:
    crowd = Crowd(Clock())
    for tenant in ("a", "b", "a"):
        crowd.note(tenant)

    assert 2 == len(crowd)


def test_who_has_not_asked_for_long_has_left() -> None:
    clock = Clock()
    crowd = Crowd(clock)
    crowd.note("a")
    crowd.note("b")
    clock.now += AWAY_SECONDS - 1
    crowd.note("a")
    clock.now += 2

    assert 1 == len(crowd)


def test_only_so_many_are_remembered() -> None:
    crowd = Crowd(Clock())
    for number in range(2 * TENANTS_MAX):
        crowd.note(str(number))

    assert TENANTS_MAX == len(crowd)
