"""InferLine's gateway and providers in one loop, with nothing between them: no HTTP, no AWS."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, cast

from bench.sim.virtual_time import VirtualClock
from inferline.accounts.caller import ANYONE
from inferline.fleet.enrolment import Enrolment, Grant, OfferedModel
from inferline.fleet.registry import QueueMaker, Registry
from inferline.gateway.catalogue import Catalogue
from inferline.gateway.polling import SharedPoller
from inferline.gateway.routes.access import OpenAccess
from inferline.gateway.routes.control import Office
from inferline.gateway.submit.submission import Line
from inferline.memory.keys import MemoryKeys
from inferline.memory.minutes import MemoryMinutes
from inferline.memory.rate_counters import MemoryMeters
from inferline.memory.tasks import MemoryStore
from inferline.memory.tenants import MemoryTenants
from inferline.memory.usage import MemoryUsage
from inferline.settings import Settings
from inferline.usage.minutes import MinuteLedger
from inferline_provider import provider, settings
from inferline_provider.backend.client import BackendClient
from inferline_provider.backend.health import BackendHealth
from inferline_provider.enrolment import GrantedCredentials
from inferline_provider.stopping import Stopping


@dataclass
class Response:
    """What a backend answers, as much of it as a provider looks at."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    async def pieces(self) -> AsyncGenerator[bytes]:
        yield self.body


class HealthyServer(BackendClient):
    """An LLM server that is always well; what it does with a request is its ``post``."""

    def __init__(self, *models: OfferedModel) -> None:
        super().__init__("")
        self._models = models

    async def check(self) -> None:
        """Report the backend well, always."""

    async def models(self) -> list[OfferedModel]:
        return list(self._models)

    async def prefill(self, model: str, text: str, shape: object) -> None:
        return None


@dataclass
class Door:
    """The gateway's two routes for providers, without the HTTP around them."""

    office: Office

    async def enrol(self, told: Enrolment) -> Grant:
        return await self.office.enrol(told, ANYONE)

    async def leave(self, provider_id: str) -> None:
        await self.office.leave(provider_id, ANYONE)


def line(
    chosen: Settings,
    stores: provider.Stores,
    registry: Registry,
    ledger: MinuteLedger | None = None,
) -> Line:
    """What one gateway works on."""
    clock = VirtualClock()
    return Line(
        settings=chosen,
        clock=clock,
        store=stores.store,
        queue=stores.queue,
        bodies=stores.bodies,
        catalogue=Catalogue(registry, stores.queue, clock, chosen.registry_seconds),
        watch=SharedPoller(stores.store),
        ledger=ledger,
    )


def office(
    line: Line, registry: Registry, queue_maker: QueueMaker, ledger: MinuteLedger | None = None
) -> Office:
    """Where that gateway's providers enrol."""
    return Office(
        line=line,
        registry=registry,
        queue_maker=queue_maker,
        lender=None,
        access=OpenAccess(""),
        keys=MemoryKeys(),
        tenants=MemoryTenants(),
        minutes=ledger or MinuteLedger(MemoryMinutes()),
        usage=MemoryUsage(MemoryStore()),
        meters=MemoryMeters(),
    )


async def provide(
    chosen: settings.ProviderSettings,
    server: BackendClient,
    stores: provider.Stores,
    door: object,
    stopping: Stopping,
) -> None:
    """What `inferline_provider.provider.run` does, with nothing to connect to."""
    clock, gateway = VirtualClock(), cast(Any, door)
    credentials = GrantedCredentials(clock, own=True)
    health = BackendHealth(server, chosen, clock)
    one = provider.ProviderProcess(chosen, health, gateway, credentials, clock)
    grant = await one.join()
    one.equip(server, stores, grant)
    await one.serve(stopping)
