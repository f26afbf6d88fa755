from __future__ import annotations

from itertools import pairwise

from inferline_provider.slots import (
    CUT_SECONDS,
    FAIL_SECONDS,
    RECOVER_SECONDS,
    REST_SECONDS_MAX,
    Slots,
)
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


def tries(slots: Slots, clock: FakeClock, seconds: float) -> list[float]:
    """When a backend is asked that fails everything at once, in steps of a tenth of a second."""
    found, start = [], clock.now
    while clock.now - start < seconds:
        for _ in range(slots.take(1)):
            found.append(round(clock.now - start, 1))
            slots.fail()
            slots.give()
        clock.advance(0.1)
    return found


def test_a_backend_that_fails_is_asked_less_and_less_but_never_given_up() -> None:
    clock = FakeClock()
    asked = tries(Slots(8, clock, lambda: None), clock, 120)

    assert 4 > len([at for at in asked if at <= 3])
    assert REST_SECONDS_MAX + 0.2 > max(later - at for at, later in pairwise(asked))


def test_what_fails_again_and_again_gets_one_task_at_a_time() -> None:
    clock = FakeClock()
    slots = Slots(8, clock, lambda: None)
    for _ in range(2):
        slots.fail()
        clock.advance(REST_SECONDS_MAX)

    assert 1 == slots.take(8)
    slots.answered()
    assert 7 == slots.free


def test_an_answer_ends_the_rests() -> None:
    clock = FakeClock()
    slots = Slots(8, clock, lambda: None)
    tries(slots, clock, 60)
    clock.advance(REST_SECONDS_MAX)
    slots.answered()

    slots.fail()
    clock.advance(FAIL_SECONDS)
    assert 8 == slots.free


def test_a_backend_that_says_for_how_long_it_is_busy_is_left_alone_so_long() -> None:
    clock = FakeClock()
    slots = Slots(8, clock, lambda: None)
    slots.cut(5)

    clock.advance(4.9)
    assert 0 == slots.free
    clock.advance(0.1)
    assert 4 == slots.free


def fill(slots: Slots, wanted: int, came: int) -> None:
    """Ask a queue that has only so much."""
    slots.spare(slots.take(wanted) - came)


def test_a_full_house_is_pressed_until_something_is_left_over() -> None:
    slots = Slots(4, FakeClock(), lambda: None)
    fill(slots, 3, 3)
    assert not slots.pressed

    fill(slots, 1, 1)
    assert slots.pressed

    slots.give()
    fill(slots, 1, 0)
    assert not slots.pressed


def test_who_only_asks_for_work_has_none_yet() -> None:
    slots = Slots(4, FakeClock(), lambda: None)

    slots.take(4)

    assert not slots.pressed


def test_a_slot_on_its_way_to_the_next_task_does_not_relieve() -> None:
    slots = Slots(4, FakeClock(), lambda: None)
    fill(slots, 4, 4)

    slots.give()
    assert slots.pressed

    slots.take(1)
    assert slots.pressed


def test_more_room_is_pressed_once_it_is_full() -> None:
    slots = Slots(4, FakeClock(), lambda: None)
    fill(slots, 4, 4)

    slots.resize(8)
    assert not slots.pressed

    fill(slots, 3, 3)
    assert slots.pressed


def test_only_the_first_refusal_of_an_overload_counts() -> None:
    clock = FakeClock()
    slots = Slots(16, clock, lambda: None)

    assert [True, False] == [slots.cut(), slots.cut()]
    clock.advance(CUT_SECONDS)
    assert slots.cut()
