"""When a model rests, and which faults are only about their own request."""

from __future__ import annotations

import pytest

from inferline.tasks.task import TaskRef
from inferline_provider.backend.breaker import (
    REST_SECONDS,
    STRIKES_MAX,
    UNLIMITED,
    VOUCH_SECONDS,
    Breakers,
)
from inferline_provider.backend.slots import Slots
from tests.provider.fakes import FakeClock


def ref(name: object) -> TaskRef:
    return TaskRef("m", str(name))


class Server:
    """The breakers of a server with eight slots."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.slots = Slots(8, self.clock, lambda: None)
        self.closed = 0
        self.breakers = Breakers(self.slots, self.clock, self._on_change)

    def _on_change(self) -> None:
        self.closed += 1

    def fail(self, *names: object, model: str = "m") -> None:
        """Have these fail, one after the other."""
        for name in names:
            self.breakers.begin(model, ref(name))
            self.breakers[model].strike(ref(name))
            self.breakers.end(model, ref(name))

    def answer(self, name: object, model: str = "m") -> None:
        """Have one answered."""
        self.breakers.begin(model, ref(name))
        self.breakers.alive(model, ref(name))
        self.breakers.end(model, ref(name))


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_model_whose_tasks_all_fail_rests(server: Server) -> None:
    server.fail(*range(STRIKES_MAX - 1))
    assert UNLIMITED == server.breakers["m"].room

    server.fail("last")

    assert 0 == server.breakers["m"].room
    assert UNLIMITED == server.breakers["other"].room


def test_one_task_that_fails_again_and_again_stops_nobody(server: Server) -> None:
    server.fail(*["same"] * 20)

    assert UNLIMITED == server.breakers["m"].room


def test_who_fails_between_others_that_are_answered_stops_nobody(server: Server) -> None:
    for number in range(50):
        server.fail(number, number + 1000)
        server.answer(number)

    assert UNLIMITED == server.breakers["m"].room


def test_failures_beside_those_that_are_being_answered_stop_nobody(server: Server) -> None:
    server.answer("first")
    server.breakers.begin("m", ref("long"))
    server.clock.advance(1)

    server.fail(*range(20))

    assert UNLIMITED == server.breakers["m"].room


def test_failures_between_short_answers_stop_nobody(server: Server) -> None:
    server.answer("short")
    server.clock.advance(0.03)

    server.fail(*range(20))

    assert UNLIMITED == server.breakers["m"].room


def test_what_was_begun_long_ago_and_shows_no_life_vouches_for_nobody(server: Server) -> None:
    server.answer("first")
    server.breakers.begin("m", ref("stuck"))
    server.clock.advance(VOUCH_SECONDS)

    server.fail(*range(STRIKES_MAX))

    assert 0 == server.breakers["m"].room


def test_after_its_rest_one_at_a_time_may_try_and_rests_grow(server: Server) -> None:
    first, longest = REST_SECONDS
    server.fail(*range(STRIKES_MAX))
    rests = []
    for number in range(8):
        began = server.clock.now
        while not server.breakers["m"].room:
            server.clock.advance(0.25)
        rests.append(server.clock.now - began)
        assert 1 == server.breakers["m"].room
        server.breakers.begin("m", ref(f"try {number}"))
        assert 0 == server.breakers["m"].room
        server.fail(f"try {number}")

    assert [min(longest, first * 2**n) for n in range(8)] == rests


def test_the_first_event_of_a_long_stream_ends_a_rest(server: Server) -> None:
    server.fail(*range(STRIKES_MAX))
    server.clock.advance(REST_SECONDS[0])
    server.breakers.begin("m", ref("stream"))
    assert server.breakers.is_open("m")

    server.breakers.alive("m", ref("stream"))

    assert (UNLIMITED, 1) == (server.breakers["m"].room, server.closed)


def test_a_try_that_shows_no_life_does_not_keep_others_from_trying(server: Server) -> None:
    server.fail(*range(STRIKES_MAX))
    server.clock.advance(REST_SECONDS[0])
    server.breakers.begin("m", ref("silent"))
    assert server.breakers.is_open("m")

    server.clock.advance(REST_SECONDS[1] + 0.1)

    assert 1 == server.breakers["m"].room


def test_a_reserved_models_tasks_are_its_models(server: Server) -> None:
    server.fail(*range(STRIKES_MAX))

    assert server.breakers.is_open("m#tenant")


def begin(server: Server, *names: object) -> None:
    for name in names:
        server.breakers.begin("m", ref(name))


def test_a_server_that_is_full_gets_no_more_than_it_runs(server: Server) -> None:
    begin(server, *range(6))

    is_cut = server.breakers.refused("m", ref(5))

    assert (True, 5) == (is_cut, server.slots.limit)


def test_who_is_refused_beside_fewer_than_others_were_accepted_takes_no_slots(
    server: Server,
) -> None:
    begin(server, *range(6))
    server.breakers.alive("m", ref(5))
    server.breakers.end("m", ref(5))
    begin(server, "bad")

    assert not server.breakers.refused("m", ref("bad"))
    assert 8 == server.slots.limit


def test_who_is_refused_alone_takes_no_slots(server: Server) -> None:
    begin(server, "alone")

    assert not server.breakers.refused("m", ref("alone"))
    assert 8 == server.slots.limit
