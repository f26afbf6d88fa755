from __future__ import annotations

from itertools import pairwise

from inferline_provider.backend.slots import OVERLOAD_SECONDS, Slots
from inferline_provider.pauses import PAUSES
from tests.provider.fakes import FakeClock

REST_SECONDS, REST_SECONDS_MAX = PAUSES.rest_seconds


def test_no_more_are_taken_than_there_are() -> None:
    slots = Slots(4, FakeClock(), lambda: None)

    assert slots.take(3) == 3
    assert slots.take(3) == 1
    assert slots.free == 0


def test_a_slot_given_back_is_told_of() -> None:
    calls: list[bool] = []
    slots = Slots(1, FakeClock(), lambda: calls.append(True))
    slots.take(1)

    slots.release()

    assert calls
    assert slots.free == 1


def test_a_backend_that_refuses_one_more_gets_no_more_than_it_runs() -> None:
    slots = Slots(16, FakeClock(), lambda: None)
    slots.take(16)

    slots.cut(9)
    slots.release(8)

    assert (9, 1) == (slots.limit, slots.free)


def test_one_slot_always_stays() -> None:
    slots = Slots(2, FakeClock(), lambda: None)

    slots.cut(0)

    assert 1 == slots.limit


def test_what_was_cut_comes_back_soon_and_not_beyond_all() -> None:
    clock = FakeClock()
    slots = Slots(16, clock, lambda: None)
    slots.cut(8)

    clock.advance(PAUSES.recover_seconds[0] * 3)
    assert 11 == slots.limit

    clock.advance(PAUSES.recover_seconds[0] * 100)
    assert 16 == slots.limit


def test_what_is_refused_as_often_as_it_comes_back_comes_back_ever_more_slowly() -> None:
    clock = FakeClock()
    slots, waits = Slots(16, clock, lambda: None), []
    for _ in range(8):
        slots.cut(8)
        began = clock.now
        while slots.limit == 8:
            clock.advance(0.25)
        waits.append(clock.now - began)

    assert [0.5, 1, 2, 4, 8, 10, 10, 10] == waits


def tries(slots: Slots, clock: FakeClock, seconds: float) -> list[float]:
    """Return when tasks reach a backend that always fails, in steps of a tenth of a second."""
    times, start = [], clock.now
    while clock.now - start < seconds:
        for _ in range(slots.take(1)):
            times.append(round(clock.now - start, 1))
            slots.note_unreachable()
            slots.release()
        clock.advance(0.1)
    return times


def test_a_backend_that_fails_is_asked_less_and_less_but_never_given_up() -> None:
    clock = FakeClock()
    times = tries(Slots(8, clock, lambda: None), clock, 120)

    assert 4 > len([at for at in times if at <= 3])
    assert REST_SECONDS_MAX + 0.2 > max(later - at for at, later in pairwise(times))


def test_what_fails_again_and_again_gets_one_task_at_a_time() -> None:
    clock = FakeClock()
    slots = Slots(8, clock, lambda: None)
    for _ in range(2):
        slots.note_unreachable()
        clock.advance(REST_SECONDS_MAX)

    assert 1 == slots.take(8)
    slots.note_answer()
    assert 7 == slots.free


def test_an_answer_ends_the_rests() -> None:
    clock = FakeClock()
    slots = Slots(8, clock, lambda: None)
    tries(slots, clock, 60)
    clock.advance(REST_SECONDS_MAX)
    slots.note_answer()

    slots.note_unreachable()
    clock.advance(REST_SECONDS)
    assert 8 == slots.free


def fill(slots: Slots, wanted: int, came: int) -> None:
    """Ask a queue that has only so much."""
    slots.release_unneeded(slots.take(wanted) - came)


def test_a_full_house_is_pressed_until_something_is_left_over() -> None:
    slots = Slots(4, FakeClock(), lambda: None)
    fill(slots, 3, 3)
    assert not slots.needs_more

    fill(slots, 1, 1)
    assert slots.needs_more

    slots.release()
    fill(slots, 1, 0)
    assert not slots.needs_more


def test_who_only_asks_for_work_has_none_yet() -> None:
    slots = Slots(4, FakeClock(), lambda: None)

    slots.take(4)

    assert not slots.needs_more


def test_a_slot_on_its_way_to_the_next_task_does_not_relieve() -> None:
    slots = Slots(4, FakeClock(), lambda: None)
    fill(slots, 4, 4)

    slots.release()
    assert slots.needs_more

    slots.take(1)
    assert slots.needs_more


def test_more_room_is_pressed_once_it_is_full() -> None:
    slots = Slots(4, FakeClock(), lambda: None)
    fill(slots, 4, 4)

    slots.resize(8)
    assert not slots.needs_more

    fill(slots, 3, 3)
    assert slots.needs_more


def test_one_overload_shows_in_many_refusals_and_counts_once() -> None:
    clock = FakeClock()
    slots = Slots(16, clock, lambda: None)

    assert [True, False, False] == [slots.cut(running) for running in (10, 9, 8)]
    assert 8 == slots.limit
    clock.advance(OVERLOAD_SECONDS)
    assert slots.cut(7)
