"""A backend that says nothing for too long is looked at before it is given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from inferline.tasks.task import State, Task
from tests.provider.world import World, until, world
from tests.support.backend import Backend
from tests.support.script import Script

SILENT_SECONDS = 0.15
#: Silent for some times that long, but not for ever.
HELD_BACK = {"stall_after_tokens": 2, "stall_seconds": SILENT_SECONDS * 4}


@asynccontextmanager
async def waiting(backend: Backend | None = None, *, peers: int = 0) -> AsyncIterator[World]:
    """Run a provider that waits a short time for a silent backend, beside so many peers."""
    backend = backend or Backend(script=Script(first=0.01, interval=0.005, tokens=4))
    terms = {"gap_seconds_max": SILENT_SECONDS, "first_event_seconds_max": SILENT_SECONDS}
    async with world(backend, terms={**terms, "enrol_seconds": 0.1}) as around:
        around.gateway.peers = {"test-model": peers}
        count = len(around.gateway.enrolments)
        await until(lambda: len(around.gateway.enrolments) > count + 1)
        yield around


async def stream(around: World, **script: Any) -> Task:
    return await around.submit({"stream": True, "x_script": script})


async def test_a_stream_is_waited_for_while_the_backend_says_that_it_works() -> None:
    async with waiting() as around:
        row = await around.ended(await stream(around, **HELD_BACK, works=True))

        assert (row.state, row.attempt) == (State.DONE, 1)


async def test_it_is_waited_for_until_the_deadline_and_no_longer() -> None:
    async with waiting() as around:
        body = {"stream": True, "x_script": {"stall_after_tokens": 2, "works": True}}
        row = await around.ended(await around.submit(body, seconds=SILENT_SECONDS * 5))

        assert (row.state, row.attempt) == (State.EXPIRED, 1)


async def test_a_stream_that_the_backend_has_lost_is_given_up() -> None:
    async with waiting() as around:
        task = await stream(around, **HELD_BACK)

        await until(lambda: around.row(task).attempt > 1)


class Slots(Backend):
    """Like a llama.cpp without `--metrics`."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/slots", self._slots)
        return app

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no"}}, status=501)

    async def _slots(self, request: web.Request) -> web.Response:
        is_busy = self.running - self.lost > 0
        return web.json_response([{"id": 0, "is_processing": is_busy}, {"id": 1}])


@pytest.mark.parametrize(("works", "attempts"), [(True, 1), (False, 2)])
async def test_llama_cpps_slots_tell_as_well(works: bool, attempts: int) -> None:
    async with waiting(Slots()) as around:
        task = await stream(around, **HELD_BACK, works=works)
        await until(lambda: around.row(task).attempt == attempts)

        if works:
            assert State.DONE is (await around.ended(task)).state


async def test_a_stream_that_does_not_begin_goes_to_another_provider() -> None:
    async with waiting(peers=1) as around:
        task = await stream(around, hang=True)

        await until(lambda: around.row(task).lease_ms == 0 and around.row(task).attempt == 1)
        assert around.row(task).attempts_left == 2


async def test_a_long_prefill_that_the_backend_tells_of_is_not_thrown_away() -> None:
    async with waiting(peers=1) as around:
        row = await around.ended(await stream(around, first=SILENT_SECONDS * 4))

        assert (row.state, row.attempt) == (State.DONE, 1)


@pytest.mark.parametrize(("peers", "before"), [(0, 0), (1, 1)])
async def test_who_is_alone_or_has_it_from_another_waits_for_the_first_event(
    peers: int, before: int
) -> None:
    async with waiting(peers=peers) as around:
        begun = {"begun": b": \n\n"} if before else {}
        script = {"hang": True, "stall_seconds": SILENT_SECONDS * 4}
        task = await around.submit({"stream": True, "x_script": script}, **begun)
        row = await around.ended(task)

        assert (row.state, row.attempt) == (State.DONE, before + 1)


async def test_an_answer_that_is_no_stream_has_its_own_limit() -> None:
    async with waiting(peers=1) as around:
        script = {"hang": True, "stall_seconds": SILENT_SECONDS * 4}
        row = await around.ended(await around.submit({"x_script": script}))

        assert (row.state, row.attempt) == (State.DONE, 1)
