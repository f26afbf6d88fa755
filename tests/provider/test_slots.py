from __future__ import annotations

from inferline_provider.slots import CUT_SECONDS, RECOVER_SECONDS, Slots
from tests.provider.fakes import FakeClock


def test_no_more_are_taken_than_there_are() -> None:
    slots = Slots(4, FakeClock(), lambda: None)

    assert slots.take(3) == 3
    assert slots.take(3) == 1
    assert slots.free == 0


def test_a_slot_given_back_is_told_of() -> None:
    told: list[bool] = []
    slots = Slots(1, FakeClock(), lambda: told.append(True))
    slots.take(1)

    slots.give()

    assert told
    assert slots.free == 1


def test_a_busy_backend_gets_half_and_nothing_for_a_moment() -> None:
    clock = FakeClock()
    slots = Slots(16, clock, lambda: None)

    slots.cut()

    assert (slots.limit, slots.free) == (8, 0)
    clock.advance(CUT_SECONDS)
    assert slots.free == 8


def test_one_overload_is_one_cut() -> None:
    slots = Slots(16, FakeClock(), lambda: None)

    for _ in range(5):
        slots.cut()

    assert slots.limit == 8


def test_one_slot_always_stays() -> None:
    clock = FakeClock()
    slots = Slots(2, clock, lambda: None)

    for _ in range(5):
        slots.cut()
        clock.advance(CUT_SECONDS)

    assert slots.limit == 1


def test_slots_come_back_slowly_and_not_beyond_all() -> None:
    clock = FakeClock()
    slots = Slots(16, clock, lambda: None)
    slots.cut()

    clock.advance(RECOVER_SECONDS * 3)
    assert slots.limit == 11

    clock.advance(RECOVER_SECONDS * 100)
    assert slots.limit == 16
