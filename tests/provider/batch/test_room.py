"""Room for lines: what requests leave free."""

from __future__ import annotations

from math import inf

import pytest

from inferline_provider.backend.slots import Slots
from inferline_provider.batch.room import QUIET_SECONDS, SHARE_SECONDS, LineRoom
from tests.provider.fakes import FakeClock


class Scene:
    """Slots that have been free for long, and the room in them."""

    def __init__(self, limit: int = 4, share: float = 1.0) -> None:
        self.clock = FakeClock()
        self.slots = Slots(limit, self.clock, lambda: None)
        self.room = LineRoom(self.slots, self.clock, share)
        self.slots.on_requests = self.room.look
        self.room.look()
        self.clock.advance(1)

    def fill(self) -> int:
        """Begin as many lines as may."""
        count = 0
        while self.room.take():
            count += 1
        return count


def test_lines_take_what_is_free_and_requests_do_not_see_them() -> None:
    scene = Scene()
    scene.slots.take(1)

    assert scene.fill() == 3
    assert scene.slots.free == 3
    assert not scene.slots.needs_more


def test_a_request_makes_lines_too_many() -> None:
    scene = Scene()
    scene.fill()

    scene.slots.take(2)

    assert scene.room.excess == 2


def test_slots_kept_for_a_receive_suspend_nothing_and_let_nothing_begin() -> None:
    scene = Scene()
    scene.slots.reserve(3)

    assert scene.fill() == 1
    assert scene.room.excess == 0

    scene.slots.release_unneeded(1, reserved=3)

    assert scene.slots.requests == 2
    assert scene.room.excess == 0


def test_a_slot_that_a_request_left_is_for_lines_after_a_while() -> None:
    scene = Scene()
    scene.slots.take(1)
    scene.fill()

    scene.slots.release()

    assert (scene.fill(), scene.room.wait_seconds) == (0, pytest.approx(QUIET_SECONDS))
    scene.clock.advance(scene.room.wait_seconds)
    assert (scene.fill(), scene.room.wait_seconds) == (1, inf)


def test_under_steady_requests_lines_have_what_is_free_all_the_time() -> None:
    scene = Scene()
    for _ in range(10):
        scene.slots.take(2)
        scene.clock.advance(QUIET_SECONDS / 4)
        scene.slots.release(2)
        scene.clock.advance(QUIET_SECONDS / 4)

    assert scene.fill() == 2


def test_a_slot_that_a_line_left_is_for_the_next_at_once() -> None:
    scene = Scene()
    scene.fill()

    scene.room.give()

    assert scene.fill() == 1


def test_beside_requests_lines_have_a_share_of_the_slots() -> None:
    scene = Scene(limit=8, share=0.5)
    assert scene.fill() == 8

    scene.slots.take(1)

    assert scene.room.excess == 4


def test_after_a_request_lines_keep_to_their_share_for_a_while() -> None:
    scene = Scene(limit=8, share=0.5)
    scene.slots.take(1)
    scene.slots.release()
    scene.clock.advance(1)
    assert scene.fill() == 4

    scene.clock.advance(SHARE_SECONDS)
    scene.room.look()
    scene.clock.advance(QUIET_SECONDS)

    assert scene.fill() == 4


def test_no_line_begins_while_the_backend_rests() -> None:
    scene = Scene()

    scene.slots.note_unreachable()

    assert scene.fill() == 0


def test_fewer_slots_are_fewer_for_lines() -> None:
    scene = Scene()
    scene.fill()

    scene.slots.cut(2)

    assert scene.room.excess == 2
