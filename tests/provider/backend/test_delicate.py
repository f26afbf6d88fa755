"""A server that has no `/health` is not looked at while it works: some end the answer for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from inferline.tasks.task import State
from inferline_provider.backend import client
from inferline_provider.backend.health import CHECK_SECONDS, SELDOM_SECONDS, SILENT, BackendHealth
from inferline_provider.settings import ProviderSettings
from tests.provider.fakes import FakeClock
from tests.provider.world import until, world
from tests.support.backend import Backend, serving
from tests.support.script import Script

NOWHERE = "http://127.0.0.1:9"
BUSY = b'{"model": "test-model", "stream": true, "messages": []}'


class Delicate(Backend):
    """Like llama-cpp-python: no `/health`, and who asks for its models ends the answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: Each look at it, and those that came while it worked.
        self.looks: list[str] = []
        self.disturbed: list[str] = []

    def app(self) -> web.Application:
        app = super().app()
        app.middlewares.append(self._note)
        return app

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path not in ("/v1/chat/completions", "/v1/completions"):
            self.looks.append(f"{request.method} {request.path}")
            if self.running:
                self.disturbed.append(self.looks[-1])
            if request.path != "/v1/models":
                return web.json_response({"detail": "Not Found"}, status=404)
        response: web.StreamResponse = await handler(request)
        return response


@asynccontextmanager
async def looking(
    server: Backend, clock: FakeClock, **settings: Any
) -> AsyncIterator[tuple[BackendHealth, client.BackendClient]]:
    """Run the checks of a server by a clock, after the first check."""
    async with serving(server) as port:
        url = f"http://127.0.0.1:{port}"
        async with client.BackendClient(url) as backend:
            chosen = ProviderSettings(base_url=NOWHERE, backend=url, id="p", **settings)
            health = BackendHealth(backend, chosen, clock)
            await health.check()
            running = asyncio.create_task(health.run())
            try:
                yield health, backend
            finally:
                running.cancel()


async def passes(clock: FakeClock, seconds: float) -> None:
    """Let time pass, and what waits for it do what it does."""
    for _ in range(round(seconds * 2)):
        clock.advance(0.5)
        await asyncio.sleep(0.002)


async def test_it_is_well_when_its_models_are_listed() -> None:
    async with looking(Delicate(), FakeClock()) as (health, backend):
        assert (True, "") == (health.is_healthy, health.reason)
        assert backend.has_health is False


async def test_once_known_it_is_looked_at_seldom_and_by_what_costs_nothing() -> None:
    server, clock = Delicate(), FakeClock()
    async with looking(server, clock, refresh_seconds=1000.0):
        server.looks.clear()

        await passes(clock, 3 * SELDOM_SECONDS + 5)
        await until(lambda: len(server.looks) >= 2)

        assert {"HEAD /"} == set(server.looks)
        assert len(server.looks) <= 3


async def test_nothing_is_asked_while_it_works() -> None:
    server, clock = Delicate(script=Script(first=0.01, interval=0.01, tokens=10_000)), FakeClock()
    async with looking(server, clock, refresh_seconds=1.0) as (health, backend):
        server.looks.clear()
        async with backend.post("/v1/chat/completions", BUSY, 5) as response:
            pieces = response.pieces()
            await anext(pieces)

            await passes(clock, 4 * SELDOM_SECONDS)
            health.doubt()
            await passes(clock, CHECK_SECONDS)

            assert (await backend.waiting(), await backend.works()) == (None, False)
            assert await backend.prefill("test-model", "Once") is None
            assert await backend.count_tokens("test-model", "Once") is None
            assert (True, [], []) == (health.is_healthy, server.looks, server.disturbed)


async def test_its_models_are_looked_at_again_once_it_is_idle() -> None:
    server, clock = Delicate(), FakeClock()
    async with looking(server, clock, refresh_seconds=1.0):
        server.looks.clear()

        await passes(clock, 2 * SELDOM_SECONDS)

        await until(lambda: "GET /v1/models" in server.looks)


async def test_its_death_is_seen() -> None:
    server, clock = Delicate(), FakeClock()
    async with looking(server, clock) as (health, backend):
        backend._root = NOWHERE

        health.doubt()

        await until_passing(clock, lambda: health.reason == SILENT)
        assert not health.is_healthy


async def test_its_silence_is_looked_into_once_a_task_has_failed_by_it() -> None:
    server, clock = Delicate(script=Script(hang=True)), FakeClock()
    async with (
        looking(server, clock, refresh_seconds=1.0) as (health, backend),
        asyncio.TaskGroup() as tasks,
    ):
        asking = tasks.create_task(ask(backend))
        await until(lambda: server.running)
        server.looks.clear()
        await passes(clock, SELDOM_SECONDS + 1)
        assert [] == server.looks

        health.doubt()
        await until_passing(clock, lambda: server.looks)

        assert (["HEAD /"], True) == (server.looks, health.is_healthy)
        asking.cancel()


async def ask(backend: client.BackendClient) -> None:
    async with backend.post("/v1/chat/completions", BUSY, 60):
        pass


async def until_passing(clock: FakeClock, holds: Callable[[], Any]) -> None:
    """Let time pass until something holds."""
    async with asyncio.timeout(60):
        while not holds():
            await passes(clock, 0.5)


async def test_streams_through_a_provider_are_never_disturbed(monkeypatch: Any) -> None:
    monkeypatch.setattr("inferline_provider.backend.health.SELDOM_SECONDS", 0.05)
    server = Delicate(slots=1, script=Script(first=0.01, interval=0.02, tokens=40))
    async with world(server, refresh_seconds=0.1) as around:
        tasks = [await around.submit({"stream": True}) for _ in range(4)]
        rows = [await around.ended(task) for task in tasks]

    assert {State.DONE} == {row.state for row in rows}
    assert not server.disturbed


async def test_an_answer_that_flows_proves_a_server_well_that_has_a_health_check() -> None:
    server, clock = Backend(script=Script(first=0.01, interval=0.01, tokens=10_000)), FakeClock()
    async with looking(server, clock, refresh_seconds=1000.0) as (health, backend):
        async with backend.post("/v1/chat/completions", BUSY, 5) as response:
            pieces = response.pieces()
            await anext(pieces)
            server.healthy = False
            await health.check()
            assert health.is_healthy

        await health.check()
        assert not health.is_healthy


async def test_a_late_health_check_is_no_reason_while_answers_come(monkeypatch: Any) -> None:
    monkeypatch.setattr(client, "QUERY_SECONDS_MAX", 0.05)
    server = Backend(script=Script(first=0.01, interval=0.01, tokens=10_000))
    clock = FakeClock()
    async with (
        looking(server, clock) as (health, backend),
        backend.post("/v1/chat/completions", BUSY, 5) as response,
    ):
        pieces = response.pieces()
        await anext(pieces)
        await health.check()
        monkeypatch.setattr(Backend, "_health", late)
        health.doubt()

        await health.check()

        assert health.is_healthy


async def late(server: Backend, request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()
