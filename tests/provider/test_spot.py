"""A provider on a spot instance drains when EC2 says that it takes the instance away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web

from inferline.clock import SystemClock
from inferline.tasks.task import State
from inferline_provider.spot import MARGIN_SECONDS, SpotWatch, watch
from tests.provider.command import read
from tests.provider.world import until, world
from tests.support.backend import Backend
from tests.support.script import Script


class Metadata:
    """A stand-in for EC2's instance metadata service, version 2."""

    def __init__(self) -> None:
        self.notice: dict[str, str] | None = None
        self.tokens = 0
        self.looks = 0

    async def token(self, request: web.Request) -> web.Response:
        assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.tokens += 1
        return web.Response(text=f"token-{self.tokens}")

    async def action(self, request: web.Request) -> web.Response:
        if request.headers.get("X-aws-ec2-metadata-token") != f"token-{self.tokens}":
            return web.Response(status=401)
        self.looks += 1
        if self.notice is None:
            return web.Response(status=404)
        return web.json_response(self.notice)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_put("/latest/api/token", self.token)
        app.router.add_get("/latest/meta-data/spot/instance-action", self.action)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


class QuickClock(SystemClock):
    """A clock that does not wait between two polls."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.01)


AT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
NOTICE = {"action": "terminate", "time": "2026-01-01T00:01:30Z"}


async def noticed(metadata: Metadata, address: str) -> list[float]:
    """Return the notices that are passed on."""
    notices: list[float] = []
    await watch(SpotWatch(address, QuickClock(), lambda: AT), notices.append)
    return notices


async def test_a_notice_tells_how_long_there_is_to_drain() -> None:
    metadata = Metadata()
    async with metadata.serving() as address:
        telling = asyncio.create_task(noticed(metadata, address))
        await until(lambda: metadata.looks > 2)
        metadata.notice = NOTICE

        assert [90 - MARGIN_SECONDS] == await telling


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("2030-01-01T00:00:00Z", 110.0), ("2025-01-01T00:00:00Z", 0.0), ("?", 110)],
)
async def test_a_time_that_cannot_be_is_bounded(time: str, seconds: float) -> None:
    metadata = Metadata()
    metadata.notice = {"action": "stop", "time": time}
    async with metadata.serving() as address:
        assert [seconds] == await noticed(metadata, address)


async def test_a_token_that_has_expired_is_renewed() -> None:
    metadata = Metadata()
    async with metadata.serving() as address:
        telling = asyncio.create_task(noticed(metadata, address))
        await until(lambda: metadata.looks)
        metadata.tokens += 1
        before = metadata.looks
        await until(lambda: metadata.looks > before)
        metadata.notice = NOTICE

        assert 1 == len(await telling)


async def test_a_host_that_is_no_instance_is_left_alone() -> None:
    async with Metadata().serving() as address:
        pass  # Nobody is there any more.

    assert [] == await noticed(Metadata(), address)


async def test_a_provider_drains_at_a_notice_and_hands_back_what_does_not_fit() -> None:
    metadata = Metadata()
    script = Script(first=0.01, interval=0.05, tokens=400)
    async with metadata.serving() as address:
        more = {"metadata_endpoint": address, "clock": SystemClock(), "drain_seconds": 60}
        async with world(Backend(script=script), **more) as around:
            task = await around.submit({"stream": True})
            await until(lambda: len(around.store.chunks(task.ref, 1)) > 2)
            metadata.notice = {"action": "terminate", "time": "2020-01-01T00:00:00Z"}
            async with asyncio.timeout(60):
                await around.running
            row = around.row(task)

            assert (State.RUNNING, 0, 4) == (row.state, row.lease_ms, row.attempt_limit)
            assert ["p1"] == around.gateway.left


def test_notices_are_looked_for_unless_told_not_to() -> None:
    least = {"INFERLINE_BASE_URL": "http://g", "OPENAI_BASE_URL": "http://b"}

    assert "http://169.254.169.254" == read([], least).metadata_endpoint
    assert "" == read(["--no-metadata"], least).metadata_endpoint
    assert "" == read([], {**least, "AWS_EC2_METADATA_DISABLED": "true"}).metadata_endpoint
