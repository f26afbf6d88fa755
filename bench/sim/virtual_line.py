"""InferLine's gateway and providers in one loop, with nothing between them: no HTTP, no AWS."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from bench.sim.virtual_time import VirtualClock
from inferline.accounts.caller import ANYONE
from inferline.fleet.enrolment import Enrolment, Grant, OfferedModel
from inferline.fleet.registry import QueueMaker, Registry
from inferline.gateway.enrol.enrolments import Enrolments
from inferline.gateway.parts import assemble
from inferline.gateway.submit.submission import Submitter
from inferline.memory.stores import memory_stores
from inferline.settings import Settings
from inferline.usage.minutes import MinuteStore
from inferline_provider import provider, settings
from inferline_provider.backend.client import BackendClient
from inferline_provider.backend.health import BackendHealth
from inferline_provider.enrolment import GrantedCredentials
from inferline_provider.stopping import Stopping


@dataclass
class Response:
    """A backend's answer, as much of it as a provider reads."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    async def pieces(self) -> AsyncGenerator[bytes]:
        yield self.body


class HealthyServer(BackendClient):
    """An LLM server that is always healthy; its ``post`` handles a request."""

    def __init__(self, *models: OfferedModel) -> None:
        super().__init__("")
        self._models = models

    async def check(self) -> None:
        """Do nothing: it is always healthy."""

    async def models(self) -> list[OfferedModel]:
        return list(self._models)

    async def prefill(self, model: str, text: str, shape: object) -> None:
        return None


class Gateway:
    """One gateway, without the HTTP around it."""

    def __init__(
        self,
        chosen: Settings,
        stores: provider.Stores,
        registry: Registry,
        queue_maker: QueueMaker,
        minutes: MinuteStore | None = None,
    ) -> None:
        clock = VirtualClock()
        own = memory_stores(clock)
        chosen_stores = replace(
            own,
            store=stores.store,
            queue=stores.queue,
            bodies=stores.bodies,
            registry=registry,
            queue_maker=queue_maker,
            minutes=minutes or own.minutes,
        )
        self.parts = assemble(chosen_stores, chosen, clock)
        self.submitter = Submitter(self.parts)
        self.enrolments = Enrolments(self.parts)


@dataclass
class ProviderRoutes:
    """The gateway's two routes for providers, without the HTTP around them."""

    enrolments: Enrolments

    async def enrol(self, enrolment: Enrolment) -> Grant:
        return await self.enrolments.enrol(enrolment, ANYONE)

    async def leave(self, provider_id: str) -> None:
        await self.enrolments.leave(provider_id, ANYONE)


async def provide(
    chosen: settings.ProviderSettings,
    server: BackendClient,
    stores: provider.Stores,
    routes: object,
    stopping: Stopping,
) -> None:
    """Run a provider as `inferline_provider.provider.run` does, with nothing to connect to."""
    clock, gateway = VirtualClock(), cast(Any, routes)
    credentials = GrantedCredentials(clock, own=True)
    health = BackendHealth(server, chosen, clock)
    one = provider.ProviderProcess(chosen, health, gateway, credentials, clock)
    grant = await one.join()
    one.equip(server, stores, grant)
    await one.serve(stopping)
