"""Health of a backend, and the sentences that say why a provider takes no work."""

from __future__ import annotations

import pytest
from aiohttp import web

from inferline.clock import SystemClock
from inferline.fleet.enrolment import REASON_CHARS_MAX
from inferline.tasks.task import State
from inferline_provider.backend import client, health
from inferline_provider.backend.health import BackendHealth
from inferline_provider.settings import ProviderSettings
from tests.provider.world import until, world
from tests.support.backend import Backend, serving
from tests.support.script import Script

NOWHERE = "http://127.0.0.1:9"


async def check(scripted: Backend, *, models: tuple[str, ...] = (), key: str = "") -> BackendHealth:
    """Return the health of a backend after one check."""
    async with serving(scripted) as port:
        url = f"http://127.0.0.1:{port}"
        settings = ProviderSettings(base_url=NOWHERE, backend=url, id="p", models=models)
        async with client.BackendClient(url, key) as backend:
            checked = BackendHealth(backend, settings, SystemClock())
            await checked.check()
            return checked


async def test_a_backend_that_can_work_is_no_reason() -> None:
    checked = await check(Backend())

    assert (True, "") == (checked.is_healthy, checked.reason)


async def test_a_backend_that_is_not_there_is_the_reason() -> None:
    settings = ProviderSettings(base_url=NOWHERE, backend=NOWHERE, id="p")
    async with client.BackendClient(NOWHERE) as backend:
        checked = BackendHealth(backend, settings, SystemClock())
        await checked.check()

    assert (False, health.SILENT) == (checked.is_healthy, checked.reason)


async def test_the_status_of_its_health_check_is_told() -> None:
    scripted = Backend()
    scripted.healthy = False

    checked = await check(scripted)

    assert "Its LLM server answers the health check with status 503." == checked.reason


async def test_a_refused_key_is_told() -> None:
    checked = await check(Backend(api_key="right"), key="wrong")

    assert (False, health.REFUSED) == (checked.is_healthy, checked.reason)


async def test_none_of_the_wanted_models_is_told() -> None:
    assert health.UNWANTED == (await check(Backend(), models=("other",))).reason
    assert health.EMPTY == (await check(Backend(models=[]))).reason


class Nameless(Backend):
    """A backend without a list of its models."""

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"detail": "Not Found"}, status=404)


async def test_a_server_without_a_list_serves_the_models_that_are_given_by_hand() -> None:
    checked = await check(Nameless(), models=("a", "org/b"))

    assert (True, "") == (checked.is_healthy, checked.reason)
    assert ["a", "org/b"] == [model.id for model in checked.models]


async def test_a_server_without_a_list_and_without_models_by_hand_says_so() -> None:
    checked = await check(Nameless())

    assert (False, health.UNLISTED, ()) == (checked.is_healthy, checked.reason, checked.models)


async def test_models_given_by_hand_are_offered_while_the_server_is_down() -> None:
    settings = ProviderSettings(base_url=NOWHERE, backend=NOWHERE, id="p", models=("a",))
    async with client.BackendClient(NOWHERE) as backend:
        checked = BackendHealth(backend, settings, SystemClock())
        await checked.check()

    assert (["a"], health.SILENT) == ([model.id for model in checked.models], checked.reason)


async def test_a_task_is_answered_by_a_server_without_a_list() -> None:
    async with world(Nameless(script=Script(first=0.01)), models=("test-model",)) as around:
        row = await around.ended(await around.submit())

        assert State.DONE is row.state


async def test_a_key_that_a_task_finds_refused_is_told_to_the_gateway() -> None:
    async with world(Backend(script=Script(first=0.01))) as around:
        around.backend.api_key = "another"
        await around.submit(attempts=1)

        await until(lambda: around.gateway.enrolments[-1]["reason"])

        enrolment = around.gateway.enrolments[-1]
        assert (False, health.REFUSED) == (enrolment["healthy"], enrolment["reason"])


class Overloaded(Backend):
    """A backend that answers only its clients and its health check once it is busy."""

    is_busy = False

    async def _props(self, request: web.Request) -> web.Response:
        return web.Response(status=503) if self.is_busy else await super()._props(request)


async def test_the_room_that_a_backend_told_holds_while_it_is_too_busy_to_tell() -> None:
    scripted = Overloaded(slots=6)
    async with serving(scripted) as port:
        url = f"http://127.0.0.1:{port}"
        settings = ProviderSettings(base_url=NOWHERE, backend=url, id="p", refresh_seconds=0.0)
        async with client.BackendClient(url) as backend:
            checked = BackendHealth(backend, settings, SystemClock())
            await checked.check()
            scripted.is_busy = True

            await checked.check()

            assert (6, 6) == (checked.room.slots, checked.room.most)


async def test_the_room_that_is_set_is_not_asked_for() -> None:
    scripted = Backend(slots=6)
    async with serving(scripted) as port:
        url = f"http://127.0.0.1:{port}"
        async with client.BackendClient(url) as backend:
            checked = BackendHealth(
                backend,
                ProviderSettings(base_url=NOWHERE, backend=url, id="p", slots=9),
                SystemClock(),
            )
            await checked.check()

            assert 9 == checked.room.slots


async def test_a_provider_whose_models_go_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferline_provider.backend.health.CHECK_SECONDS", 0.1)
    async with world(refresh_seconds=0.1) as around:
        around.backend.models.clear()

        await until(lambda: around.gateway.enrolments[-1]["reason"] == health.EMPTY)

        assert not around.gateway.enrolments[-1]["healthy"]


def test_every_reason_fits() -> None:
    sentences = [health.SILENT, health.UNWELL, health.REFUSED, health.UNLISTED, health.EMPTY]

    assert REASON_CHARS_MAX > max(map(len, [*sentences, health.UNWANTED]))
