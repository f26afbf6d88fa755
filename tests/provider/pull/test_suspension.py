"""A flex task makes room for a better one, and its client sees one answer without a break."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from inferline.memory.queue import MemoryQueue
from inferline.tasks.queue import Delivery
from inferline.tasks.task import State, Task, Tier
from tests.provider.relay.test_continuation import CHATS, TEXTS, expected, read, said
from tests.provider.world import World, until, world
from tests.support.backend import Backend
from tests.support.script import Script

#: Long enough for others to come and go meanwhile.
LONG = Script(first=0.02, interval=0.05, tokens=40)
SHORT = {"x_script": {"interval": 0.005, "tokens": 4}}
CHAT = {"stream": True, "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"stream": True, "prompt": "Once upon a time\n"}


async def begun(around: World, body: dict[str, Any], path: str = CHATS, **more: Any) -> Task:
    """Submit a flex task and return it once a part of its answer is out."""
    task = await around.submit(body, path=path, tier="flex", **more)
    await until(lambda: around.store.chunks(task.ref, 1))
    return task


@pytest.mark.parametrize("tier", ["default", "priority"])
@pytest.mark.parametrize(("path", "body"), [(CHATS, CHAT), (TEXTS, TEXT)])
async def test_a_better_task_begins_at_once_and_the_stream_goes_on_afterwards(
    path: str, body: dict[str, Any], tier: Tier
) -> None:
    async with world(Backend(slots=1, script=LONG), slots=1) as around:
        flex = await begun(around, body, path)
        better = await around.submit({**SHORT, "stream": True}, tier=tier)
        await around.ended(better)

        assert not around.row(flex).state.terminal
        row = await around.ended(flex)
        assert (State.DONE, 2, 3) == (row.state, row.attempt, row.attempts_left + 1)
        text, documents = said(await read(around, flex))
        request = json.loads(around.backend.bodies[0])
        assert expected(path, request, 40) == text
        assert 1 == len({(part["id"], part["created"]) for part in documents})
        assert 3 == around.backend.calls[CHATS] + around.backend.calls[TEXTS]
        assert around.backend.running_max <= 2


async def test_all_slots_of_flex_tasks_are_there_for_better_ones() -> None:
    async with world(Backend(slots=3, script=LONG), slots=3) as around:
        flex = [await begun(around, CHAT) for _ in range(3)]
        better = [await around.submit(SHORT) for _ in range(3)]
        for task in better:
            await around.ended(task)

        assert not any(around.row(task).state.terminal for task in flex)
        for task in flex:
            assert State.DONE is (await around.ended(task)).state


async def test_the_task_with_the_least_text_is_suspended_and_the_newest_goes_on_first() -> None:
    async with world(Backend(slots=2, script=LONG), slots=2) as around:
        older = await begun(around, CHAT)
        await until(lambda: len(around.store.chunks(older.ref, 1)) > 2)
        newer = await begun(around, CHAT)
        first = await around.submit({"x_script": {"tokens": 20}})
        await until(lambda: around.row(newer).lease_ms == 0)
        assert around.row(older).lease_ms
        second = await around.submit({"x_script": {"tokens": 20}})
        await until(lambda: around.row(older).lease_ms == 0)
        for task in (first, second):
            await around.ended(task)

        await until(lambda: around.row(older).attempt == 2)
        assert (2, 2) == (around.row(older).attempt, around.row(newer).attempt)
        assert around.row(older).claimed_ms <= around.row(newer).claimed_ms


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stream": True, "tools": [{"type": "function", "function": {"name": "one"}}]},
        {"stream": True, "stop": ["not there"]},
        {"stream": True, "max_tokens": 4},
    ],
)
async def test_an_answer_that_could_not_go_on_for_sure_is_left_alone(body: dict[str, Any]) -> None:
    async with world(Backend(slots=1, script=LONG), slots=1) as around:
        script = {"interval": 0.3} if "max_tokens" in body else {}
        flex = await around.submit({**body, "x_script": script}, tier="flex")
        await until(lambda: around.backend.running)
        if "max_tokens" in body:
            await until(lambda: len(around.store.chunks(flex.ref, 1)) > 3)
        better = await around.submit(SHORT)
        row = await around.ended(flex)

        assert (State.DONE, 1) == (row.state, row.attempt)
        await around.ended(better)


async def test_a_server_that_can_not_continue_keeps_its_flex_tasks() -> None:
    backend = Backend(slots=1, script=LONG)
    backend.continues = False
    async with world(backend, slots=1) as around:
        flex = await begun(around, CHAT)
        better = await around.submit(SHORT)
        row = await around.ended(flex)

        assert (State.DONE, 1) == (row.state, row.attempt)
        await around.ended(better)


async def test_tasks_of_other_tiers_are_left_alone() -> None:
    async with world(Backend(slots=1, script=LONG), slots=1) as around:
        task = await around.submit(CHAT)
        await until(lambda: around.store.chunks(task.ref, 1))
        better = await around.submit(SHORT, tier="priority")
        row = await around.ended(task)

        assert (State.DONE, 1) == (row.state, row.attempt)
        await around.ended(better)


async def test_flex_tasks_come_to_an_end_though_better_ones_never_stop() -> None:
    async with world(Backend(slots=1, script=Script(first=0.01, interval=0.01)), slots=1) as around:
        flex = [await around.submit({**CHAT, "n": None}, tier="flex") for _ in range(3)]
        load = [await around.submit() for _ in range(20)]
        while not all(around.row(task).state.terminal for task in flex):
            load.append(await around.submit())
            await around.ended(load.pop(0))

        assert {State.DONE} == {around.row(task).state for task in flex}


class WatchedQueue(MemoryQueue):
    """A queue that keeps what messages were told to be invisible for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[int] = []

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        self.seconds.append(seconds)
        await super().change_visibility(deliveries, seconds)


async def test_a_provider_that_stops_leaves_suspended_tasks_to_others() -> None:
    queue = WatchedQueue()
    async with world(Backend(slots=1, script=LONG), slots=1, queue=queue) as around:
        flex = await begun(around, CHAT)
        await around.submit({"x_script": {"tokens": 200}})
        await until(lambda: any(seconds > 1 for seconds in queue.seconds))
        assert 0 not in queue.seconds

        around.stopping.ask()
        await until(lambda: 0 in queue.seconds)

        assert (1, State.RUNNING) == (around.row(flex).attempt, around.row(flex).state)


async def test_a_task_that_was_suspended_for_long_is_for_any_provider() -> None:
    terms = {"lease_seconds": 1.0}
    async with world(Backend(slots=1, script=LONG), slots=1, terms=terms) as around:
        flex = await begun(around, CHAT)
        load = await around.submit({"x_script": {"tokens": 100}})
        url = (await around.queue.make("test-model"))["flex"]
        await until(lambda: around.row(flex).lease_ms == 0)

        deliveries: list[Delivery] = []
        while not deliveries:
            deliveries = await around.queue.receive(
                url, limit=1, wait_seconds=1, visibility_timeout_seconds=1
            )

        assert not around.row(load).state.terminal
        assert flex.ref.id in deliveries[0].text
