"""The age of waiting tasks is known without a read of the store."""

from __future__ import annotations

from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from functools import partial

from inferline.gateway.in_flight import Waiting
from inferline.memory.tasks import MemoryStore
from inferline.tasks.task import State, Task
from tests.support.seams import new_task

STORE = MemoryStore()


def task(model: str = "m", *, age_ms: int = 0, **fields: object) -> Task:
    made = new_task(STORE, model=model)
    return replace(made, created_ms=1_000_000 - age_ms, **fields)  # type: ignore[arg-type]


def oldest(*tasks: Task) -> dict[str, int]:
    """Return the age of each model's oldest waiting task."""
    waiting = Waiting()
    with ExitStack() as stack:
        for each in tasks:
            stack.enter_context(waiting.holding(partial(copy, each)))
        return waiting.oldest_ms(1_000_000)


def test_where_nothing_is_asked_nothing_waits() -> None:
    assert {} == oldest()


def test_each_model_has_its_oldest() -> None:
    tasks = task("a", age_ms=5), task("a", age_ms=900), task("b", age_ms=7)

    assert {"a": 900, "b": 7} == oldest(*tasks)


def test_what_somebody_holds_or_has_ended_does_not_wait() -> None:
    held = task("a", age_ms=5, state=State.RUNNING, lease_ms=1_000_001)
    lapsed = task("b", age_ms=6, state=State.RUNNING, lease_ms=999_999)
    done = task("c", age_ms=7, state=State.DONE)

    assert {"b": 6} == oldest(held, lapsed, done)


def test_a_task_counts_as_it_is_now_and_until_its_request_ends() -> None:
    waiting, seen = Waiting(), [task(age_ms=5)]

    with waiting.holding(lambda: seen[0]):
        assert {"m": 5} == waiting.oldest_ms(1_000_000)
        seen[0] = replace(seen[0], state=State.RUNNING, lease_ms=2_000_000)
        assert {} == waiting.oldest_ms(1_000_000)
        seen[0] = task(age_ms=9)

    assert {} == waiting.oldest_ms(1_000_000)
