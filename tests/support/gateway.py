"""A gateway on the seams in memory, served over real HTTP, with a test for a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from inferline.accounts.keyring import Keyring
from inferline.clock import SystemClock
from inferline.fleet.enrolment import Lender
from inferline.fleet.registry import Model, Provider
from inferline.gateway.app import create_app
from inferline.gateway.catalogue import Catalogue
from inferline.gateway.edge.protocol import Http1Protocol
from inferline.gateway.polling import SharedPoller
from inferline.gateway.routes import metrics, page
from inferline.gateway.routes.access import Access, KeyAccess, OpenAccess
from inferline.gateway.routes.control import Office
from inferline.gateway.submit.submission import Line
from inferline.memory.bodies import MemoryBodies
from inferline.memory.keys import MemoryKeys
from inferline.memory.minutes import MemoryMinutes
from inferline.memory.queue import MemoryQueue
from inferline.memory.rate_counters import MemoryMeters
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tasks import MemoryStore
from inferline.memory.tenants import MemoryTenants
from inferline.memory.usage import MemoryUsage
from inferline.settings import Settings
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import AnswerHead, Chunk, Task
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline.usage.ledger import Entry, Ledgers
from inferline.usage.minutes import MinuteLedger

MODEL = "test-model"


@dataclass(slots=True)
class Gateway:
    """A running gateway, and what it works on."""

    url: str
    office: Office
    store: MemoryStore
    queue: MemoryQueue
    bodies: MemoryBodies
    registry: MemoryRegistry
    keys: MemoryKeys
    tenants: MemoryTenants
    meters: MemoryMeters
    #: What the ledger was told.
    entries: list[Entry]

    async def know(self, model: str = MODEL, *, provider: bool = True, **told: Any) -> None:
        """Make a model known, with a provider for it."""
        await self.registry.put_models([Model(id=model, queues=await self.queue.make(model))])
        if provider:
            given = {"slots": 1, "running": 0, "healthy": True, "version": "1"} | told
            await self.registry.put_provider(Provider(id="p1", models=(model,), **given))
        await self.counted()

    async def counted(self) -> None:
        """Have the gateway know what the registry has been told."""
        await self.office.census.changed()
        self.office.line.catalogue.changed()

    async def take(self, *, tier: str = "default", model: str = MODEL) -> Taken:
        """Receive and claim the next task, as a provider would."""
        url = (await self.queue.make(model))[tier]  # type: ignore[index]
        (delivery,) = await self.queue.receive(
            url, limit=1, wait_seconds=10, visibility_timeout_seconds=30
        )
        claim = await self.store.claim(Message.loads(delivery.text).ref, "p1", 30)
        assert isinstance(claim, Claimed), claim
        return Taken(self, claim.task, delivery)


@dataclass(slots=True)
class Taken:
    """A task that the test serves."""

    gateway: Gateway
    task: Task
    delivery: Delivery
    written: int = 0

    @property
    def body(self) -> bytes | None:
        """What the client sent."""
        return Message.loads(self.delivery.text).body

    async def write(self, data: bytes) -> None:
        """Write the next chunk of a stream."""
        head = (
            AnswerHead(200, "text/event-stream", "p1", self.task.queue_ms)
            if not self.written
            else None
        )
        chunk = Chunk(self.task.ref, self.task.attempt, self.written, data, self.task.ttl, head)
        await self.gateway.store.write_chunks([chunk])
        self.written += 1

    async def finish(self, **outcome: Any) -> None:
        """End the task and delete its message."""
        given = {"status": 200, "content_type": "application/json", "chunks": self.written}
        if self.written:
            given["content_type"] = "text/event-stream"
        await self.gateway.store.finish(self.task, AttemptOutcome(**given | outcome))
        await self.gateway.queue.delete([self.delivery])


class Noted:
    """A ledger for a test to read."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        """Take note."""
        self.entries.append(entry)


@asynccontextmanager
async def running_gateway(
    *,
    tracer: Tracer = NO_TRACER,
    lender: Lender | None = None,
    store: Any = None,
    registry: Any = None,
    meters: Any = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """A gateway on a free port until the block ends, on stores in memory or not."""
    given = {"no_provider_seconds": 0.4, "registry_seconds": 0.05, "poll_seconds_max": 0.05}
    chosen, clock = Settings(**given | settings), SystemClock()
    store, queue, bodies = store or MemoryStore(), MemoryQueue(), MemoryBodies()
    registry = registry or MemoryRegistry()
    ledger, counted = Noted(), metrics.GatewayMetrics()
    minutes = MinuteLedger(MemoryMinutes())
    line = Line(
        settings=chosen,
        clock=clock,
        store=store,
        queue=queue,
        bodies=bodies,
        catalogue=Catalogue(registry, queue, clock, chosen.registry_seconds),
        watch=SharedPoller(store),
        ledger=Ledgers([minutes, ledger, counted]),
        tracer=tracer,
    )
    keys, tenants, meters = MemoryKeys(), MemoryTenants(), meters or MemoryMeters()
    access: Access = OpenAccess(chosen.provider_token)
    if chosen.access == "keys":
        access = KeyAccess(Keyring(keys, tenants, store.now_ms), clock)
    office = Office(
        line=line,
        registry=registry,
        queue_maker=queue,
        lender=lender,
        minutes=minutes,
        access=access,
        keys=keys,
        tenants=tenants,
        usage=MemoryUsage(store),
        meters=meters,
    )
    app = create_app(office)
    page.add(app)
    metrics.add(app, counted)
    config = uvicorn.Config(app, port=0, log_level="warning", ws="none", http=Http1Protocol)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn sets a flag and tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        made = store, queue, bodies, registry, keys, tenants, meters
        yield Gateway(f"http://127.0.0.1:{port}", office, *made, ledger.entries)
    finally:
        server.should_exit = True
        await serving
