"""A message that nobody could handle ends its task, and tells nobody what it holds."""

from __future__ import annotations

import logging

import pytest

from inferline.maintenance.dead_letters import Fate, bury
from inferline.memory.tasks import MemoryStore
from inferline.tasks.queue import Message
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import State, Task
from tests.support.seams import new_task

CANARY = "canary-5f1d"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def letter(store: MemoryStore) -> tuple[Task, str]:
    task = new_task(store)
    await store.submit(task)
    return task, Message(ref=task.ref, body=f'{{"prompt": "{CANARY}"}}'.encode()).dumps()


async def test_the_task_of_a_dead_letter_fails_and_its_client_learns_why(
    store: MemoryStore,
) -> None:
    task, text = await letter(store)

    assert Fate.BURIED is await bury(store, text)

    row = store.task(task.ref)
    assert row is not None
    assert (State.FAILED, "backend_failed", 502) == (
        row.state,
        row.error["code"],
        row.error["status"],
    )
    assert Fate.GONE is await bury(store, text)


async def test_a_task_that_a_provider_holds_is_left_to_it(store: MemoryStore) -> None:
    task, text = await letter(store)
    claim = await store.claim(task.ref, "p1", 30)
    assert isinstance(claim, Claimed)

    assert Fate.RUNNING is await bury(store, text)

    await store.finish(claim.task, AttemptOutcome(status=200))
    assert Fate.GONE is await bury(store, text)


async def test_a_letter_whose_task_is_unknown_is_done_with(store: MemoryStore) -> None:
    _, text = await letter(MemoryStore())

    assert Fate.GONE is await bury(store, text)


@pytest.mark.parametrize("text", ["", CANARY, f'{{"v": 99, "body": "{CANARY}"}}', "[" * 50_000])
async def test_a_letter_that_is_none_of_ours_is_dropped_and_not_told(
    store: MemoryStore, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert Fate.UNREADABLE is await bury(store, text)

    assert "none of ours" in caplog.text
    assert CANARY not in caplog.text
