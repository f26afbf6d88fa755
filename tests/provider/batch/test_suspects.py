"""Lines that end their backend or their provider: they harm no other line for long."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from inferline.tasks.task import State
from tests.provider.batch.shards import custom_ids, line, named, results, submit
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.script import Script

QUICK = Script(first=0.01, interval=0, tokens=2)


class Counting(Backend):
    """A backend that notes how many requests run when each begins and ends, by its content."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.beside: dict[str, set[int]] = {}

    async def _play(
        self, request: web.Request, body: dict[str, Any], script: Script
    ) -> web.StreamResponse:
        beside = self.beside.setdefault(body["messages"][0]["content"], set())
        beside.add(self.running)
        try:
            return await super()._play(request, body, script)
        finally:
            beside.add(self.running)


async def test_a_line_begun_in_three_lost_attempts_is_given_up() -> None:
    backend = Backend(script=QUICK)
    async with world(backend) as around:
        lines = [line(number) for number in range(3)]
        task = await submit(around, lines, is_lost=True, begun=0b11, losses={"0": 2})

        row = await around.ended(task)

        listed = await results(around, task)
        [error] = listed["error"]
        assert row.state is State.DONE
        assert (error["custom_id"], error["response"]) == ("c0", None)
        assert error["error"]["code"] == "provider_lost"
        assert custom_ids(listed["output"]) == named(1, 2)
        assert row.shard is not None
        assert (row.shard.failed, row.shard.losses) == (1, {"0": 3, "1": 1})
        assert not any(b"line 0" in body for body in backend.bodies)


async def test_after_a_loss_a_line_begins_only_once_the_row_says_so() -> None:
    backend = Backend(script=Script(first=60), slots=2)
    async with world(backend) as around:
        task = await submit(around, [line(number) for number in range(4)], is_lost=True)

        await until(lambda: backend.running == 2)

        shard = around.row(task).shard
        assert shard is not None
        assert shard.begun == 0b11


async def test_a_line_begun_in_two_lost_attempts_runs_alone() -> None:
    backend = Counting(script=Script(first=0.1, interval=0, tokens=1))
    async with world(backend) as around:
        lines = [line(number) for number in range(6)]
        task = await submit(around, lines, is_lost=True, begun=0b1000, losses={"3": 1})
        other = await submit(around, [line(number) for number in range(10, 20)], number=1)

        await around.ended(task)
        await around.ended(other)

        assert backend.beside["line 3"] == {1}
        assert max(backend.beside["line 12"]) > 1
        assert custom_ids((await results(around, task))["output"]) == named(*range(6))


async def test_a_line_that_breaks_its_connection_each_time_is_given_up() -> None:
    backend = Backend(script=QUICK)
    async with world(backend) as around:
        lines = [line(0), line(1, {"x_script": {"abort_after_tokens": 0}}), line(2)]
        task = await submit(around, lines)

        row = await around.ended(task)

        listed = await results(around, task)
        assert row.state is State.DONE
        assert custom_ids(listed["output"]) == named(0, 2)
        assert [error["error"]["code"] for error in listed["error"]] == ["provider_lost"]
        assert sum(b"line 1" in body for body in backend.bodies) == 3


@pytest.mark.parametrize("is_lost", [False, True])
async def test_no_line_is_blamed_for_a_shard_that_was_handed_back(is_lost: bool) -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await submit(around, [line(0)], begun=0b1, is_lost=is_lost)

        row = await around.ended(task)

        assert row.shard is not None
        assert bool(row.shard.losses) is is_lost
