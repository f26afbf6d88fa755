from __future__ import annotations

from inferline.task import TaskRef, slug
from inferline_provider.passes import PASS_SECONDS, TASKS_MAX, Passes
from tests.provider.fakes import FakeClock

REF = TaskRef(slug("m"), "t")


def passes(clock: FakeClock, peers: int) -> Passes:
    found = Passes(clock)
    found.know({"m": peers})
    return found


def test_a_task_that_was_failed_here_is_left_to_another_for_a_while() -> None:
    clock = FakeClock()
    found = passes(clock, peers=1)
    found.add(REF)

    assert REF in found
    assert TaskRef(REF.slug, "another") not in found
    clock.advance(PASS_SECONDS)
    assert REF not in found


def test_who_is_alone_leaves_nothing_to_others() -> None:
    found = passes(FakeClock(), peers=0)
    found.add(REF)

    assert REF not in found


def test_no_more_are_remembered_than_the_limit() -> None:
    found = passes(FakeClock(), peers=1)
    for number in range(TASKS_MAX + 1):
        found.add(TaskRef(REF.slug, str(number)))

    assert TaskRef(REF.slug, "0") not in found
    assert TaskRef(REF.slug, str(TASKS_MAX)) in found
