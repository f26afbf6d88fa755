from __future__ import annotations

from inferline.names import slug
from inferline.tasks.task import TaskRef
from inferline_provider.serve.failed_tasks import (
    AVOID_SECONDS,
    BRIEF_AVOID_SECONDS,
    LEFT_SECONDS,
    TASKS_MAX,
    FailedTasks,
)
from tests.provider.fakes import FakeClock

REF = TaskRef(slug("m"), "t")


def failed_tasks(clock: FakeClock, peers: int) -> FailedTasks:
    tasks = FailedTasks(clock)
    tasks.set_peers({"m": peers})
    return tasks


def test_a_task_that_was_failed_here_is_left_to_another_for_a_while() -> None:
    clock = FakeClock()
    tasks = failed_tasks(clock, peers=1)
    tasks.add(REF)

    assert REF in tasks
    assert TaskRef(REF.slug, "another") not in tasks
    clock.advance(AVOID_SECONDS)
    assert REF not in tasks


def test_who_is_alone_leaves_nothing_to_others() -> None:
    tasks = failed_tasks(FakeClock(), peers=0)
    tasks.add(REF)

    assert REF not in tasks


def test_no_more_are_remembered_than_the_limit() -> None:
    tasks = failed_tasks(FakeClock(), peers=1)
    for number in range(TASKS_MAX + 1):
        tasks.add(TaskRef(REF.slug, str(number)))

    assert TaskRef(REF.slug, "0") not in tasks
    assert TaskRef(REF.slug, str(TASKS_MAX)) in tasks


def test_an_answer_that_has_begun_is_left_to_others_for_less_long() -> None:
    clock = FakeClock()
    tasks = failed_tasks(clock, peers=1)
    tasks.add(REF, briefly=True)

    clock.advance(BRIEF_AVOID_SECONDS)

    assert REF not in tasks


def test_it_is_known_for_how_long_a_task_has_been_refused() -> None:
    clock = FakeClock()
    tasks = failed_tasks(clock, peers=0)

    assert tasks.refuse(REF) is None
    clock.advance(7)
    assert 7 == tasks.refuse(REF)


def test_who_else_may_go_on_with_an_answer_is_counted_without_those_that_cannot() -> None:
    tasks = failed_tasks(FakeClock(), peers=3)

    assert 2 == tasks.others(REF, {"p2"}, "")


def test_who_was_lost_with_an_answer_is_not_waited_for_while_it_still_counts_as_serving() -> None:
    clock = FakeClock()
    tasks = failed_tasks(clock, peers=1)

    assert 0 == tasks.others(REF, {"lost"}, "lost")


def test_who_was_lost_and_has_left_the_count_takes_nobody_elses_place() -> None:
    clock = FakeClock()
    tasks = failed_tasks(clock, peers=2)
    clock.advance(1)
    tasks.set_peers({"m": 1})

    assert 1 == tasks.others(REF, {"lost"}, "lost")
    clock.advance(LEFT_SECONDS + 1)
    assert 0 == tasks.others(REF, {"lost"}, "lost")
