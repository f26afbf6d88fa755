"""Diagnosis of the backend from the faults of different tasks."""

from __future__ import annotations

from typing import cast

import pytest

from inferline_provider.backend.breaker import STRIKES_MAX, Breakers
from inferline_provider.backend.health import BackendHealth
from inferline_provider.backend.slots import Slots
from inferline_provider.faults import BackendAnswer, BadAnswer, Busy, Fault, KeyRefused
from inferline_provider.serve.diagnosis import Diagnosis
from tests.provider.fakes import FakeClock
from tests.support.seams import new_task

TOLD = BackendAnswer(403, "application/json", b"{}")


class LookedAt:
    """The health of a server that is well whenever it is looked at."""

    is_healthy = True
    keys_refused = 0

    def doubt(self) -> None:
        """Do nothing."""

    def refuse_key(self) -> None:
        """Count it."""
        self.keys_refused += 1


class Bay:
    """A server, and tasks with faults."""

    def __init__(self) -> None:
        clock, self.health = FakeClock(), LookedAt()
        slots = Slots(8, clock, lambda: None)
        self.clock, self.breakers = clock, Breakers(slots, clock, lambda: None)
        self.diagnosis = Diagnosis(slots, self.breakers, cast(BackendHealth, self.health), None)

    def fail(self, fault: Fault, *, again: bool = False) -> None:
        """Have as many different tasks fail as a model rests after, none is answered beside."""
        for _ in range(STRIKES_MAX):
            self.diagnosis.conclude(new_task(self), fault, again=again)

    def answer(self) -> None:
        task = new_task(self)
        self.breakers.alive(task.model, task.ref)

    def now_ms(self) -> int:
        return int(self.clock.now * 1000)

    @property
    def rests(self) -> bool:
        return self.breakers.is_open("m")


def repeated() -> BadAnswer:
    """Return a fault that a healthy server repeats."""
    fault = BadAnswer("The backend answered 500.")
    fault.is_repeated = True
    return fault


@pytest.fixture
def bay() -> Bay:
    return Bay()


def test_requests_that_fail_twice_at_a_server_that_is_well_close_nothing(bay: Bay) -> None:
    bay.fail(repeated())

    assert not bay.rests


def test_a_model_rests_that_fails_all_in_other_ways(bay: Bay) -> None:
    bay.fail(BadAnswer("The backend's answer broke off."))

    assert bay.rests


@pytest.mark.parametrize("again", [False, True])
def test_a_task_that_is_refused_again_says_nothing_new(bay: Bay, again: bool) -> None:
    bay.fail(Busy(None), again=again)

    assert bay.rests is not again


def test_a_key_that_was_good_long_ago_is_not_refused_with_one_request(bay: Bay) -> None:
    bay.answer()
    bay.clock.advance(3600)

    bay.diagnosis.conclude(new_task(bay), KeyRefused("401"), again=False)

    assert 0 == bay.health.keys_refused


def test_a_403_that_may_be_about_its_request_closes_nothing_at_first(bay: Bay) -> None:
    fault = KeyRefused("403", TOLD)
    bay.diagnosis.conclude(new_task(bay), fault, again=False)
    assert 0 == bay.health.keys_refused

    bay.fail(fault)

    assert 1 == bay.health.keys_refused


def test_after_a_key_was_refused_an_answer_shows_that_it_is_good(bay: Bay) -> None:
    bay.answer()
    bay.clock.advance(3600)
    bay.fail(KeyRefused("401"))
    assert not bay.diagnosis.has_good_key

    bay.clock.advance(60)
    bay.answer()

    assert bay.diagnosis.has_good_key
