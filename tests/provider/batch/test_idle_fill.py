"""Lines beside requests, through a provider: a request never waits for a line."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from inferline.memory.tasks import MemoryStore
from inferline.tasks.store import Claimed, Refused, TaskStatus
from inferline.tasks.task import Task, TaskRef
from tests.provider.batch.shards import custom_ids, line, named, results, submit
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.script import Script

#: Half a minute long.
LONG = {"x_script": {"first": 0.05, "interval": 0.1, "tokens": 300}}
#: A second long, in small pieces.
SHORT = {"x_script": {"first": 0.05, "interval": 0.05, "tokens": 20}}


def asked(backend: Backend, content: str) -> list[dict[str, Any]]:
    """Return the requests for a line."""
    bodies = [json.loads(body) for body in backend.bodies]
    chats = [body for body in bodies if "messages" in body]
    return [body for body in chats if body["messages"][0]["content"] == content]


async def under_way(backend: Backend, content: str, times: int) -> None:
    """Return once a line has been asked for so often, and a few tokens have come since."""
    await until(lambda: len(asked(backend, content)) == times)
    begun_at, loop = backend.called_at[-1], asyncio.get_running_loop()
    await until(lambda: loop.time() > begun_at + 0.3)


async def test_a_request_begins_at_once_when_all_slots_run_lines() -> None:
    backend = Backend(slots=2, script=Script(first=0.01, interval=0, tokens=1))
    async with world(backend) as around:
        task = await submit(around, [line(number, LONG) for number in range(4)])
        await until(lambda: backend.running == 2)

        request = await around.submit()
        await around.ended(request, seconds=5)

        assert not around.row(task).state.terminal


async def test_a_suspended_line_goes_on_where_it_was() -> None:
    backend = Backend(slots=1, script=Script(first=0.01, interval=0, tokens=1))
    async with world(backend) as around:
        task = await submit(around, [line(0, SHORT)])
        for times in (1, 2):
            await under_way(backend, "line 0", times)
            await around.ended(await around.submit(), seconds=5)

        await around.ended(task)

        [result] = (await results(around, task))["output"]
        tries = asked(backend, "line 0")
        assert len(tries) == 3
        assert [len(body["messages"]) for body in tries] == [1, 2, 2]
        text = result["response"]["body"]["choices"][0]["message"]["content"]
        assert (len(text.split()), "MIXED" in text) == (20, False)


async def test_a_line_that_can_not_go_on_is_asked_anew() -> None:
    backend = Backend(slots=1, script=Script(first=0.01, interval=0, tokens=1))
    backend.continues = False
    async with world(backend) as around:
        task = await submit(around, [line(0, SHORT)])
        await under_way(backend, "line 0", 1)
        await around.ended(await around.submit(), seconds=5)

        await around.ended(task)

        assert len(asked(backend, "line 0")[-1]["messages"]) == 1
        assert custom_ids((await results(around, task))["output"]) == named(0)


class CountingStore(MemoryStore):
    """A store that counts the calls about one task."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    async def renew(self, task: Task, lease_seconds: float) -> Task:
        self.calls["renew"] += task.shard is not None
        return await super().renew(task, lease_seconds)

    async def hand_back(self, task: Task, **options: Any) -> None:
        self.calls["hand_back"] += task.shard is not None
        await super().hand_back(task, **options)

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        self.calls["claim"] += ref.id.startswith("batch_")
        return await super().claim(ref, owner, lease_seconds)

    async def statuses(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        self.calls["statuses"] += any(ref.id.startswith("batch_") for ref in refs)
        return await super().statuses(refs)


async def test_a_suspension_makes_no_call_to_aws() -> None:
    backend = Backend(slots=2, script=Script(first=0.01, interval=0, tokens=1))
    store = CountingStore()
    async with world(backend, store=store) as around:
        task = await submit(around, [line(number, SHORT) for number in range(2)])
        for times in (1, 2, 3):
            await under_way(backend, "line 0", times)
            both = [await around.submit() for _ in range(2)]
            for request in both:
                await around.ended(request, seconds=5)

        await around.ended(task)

        assert dict(+store.calls) == {"claim": 1}


async def test_lines_teach_neither_the_speed_of_requests_nor_the_number_of_slots() -> None:
    backend = Backend(slots=2, script=Script(first=0.01, interval=0, tokens=1))
    async with world(backend, terms={"enrol_seconds": 0.2}) as around:
        task = await submit(around, [line(number) for number in range(20)])
        await around.ended(task)
        count = len(around.gateway.enrolments)
        await until(lambda: len(around.gateway.enrolments) > count + 1)

        report = around.gateway.enrolments[-1]

        assert (report["service_seconds"], report["speeds"]) == (0, {})
        assert (report["slots"], report["running"]) == (2, 0)
