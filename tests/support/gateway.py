"""A gateway on the seams in memory, served over real HTTP, with a test for a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from inferline.clock import SystemClock
from inferline.fleet.enrolment import Lender
from inferline.fleet.registry import Model, ProviderRecord
from inferline.gateway.app import GatewayApp, create_app
from inferline.gateway.edge.protocol import Http1Protocol
from inferline.gateway.parts import GatewayParts, assemble
from inferline.gateway.routes import metrics, page
from inferline.memory.keys import MemoryKeys
from inferline.memory.objects import MemoryObjects
from inferline.memory.queue import MemoryQueue
from inferline.memory.rate_counters import MemoryRateCounters
from inferline.memory.registry import MemoryRegistry
from inferline.memory.stores import memory_stores
from inferline.memory.tasks import MemoryStore
from inferline.memory.tenants import MemoryTenants
from inferline.memory.usage import MemoryUsage
from inferline.settings import Settings
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import AnswerHead, Chunk, Task
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline.usage.ledger import Entry

MODEL = "test-model"


@dataclass(slots=True)
class Gateway:
    """A running gateway, and what it works on."""

    url: str
    app: GatewayApp
    store: MemoryStore
    queue: MemoryQueue
    bodies: MemoryObjects
    registry: MemoryRegistry
    keys: MemoryKeys
    tenants: MemoryTenants
    rate_counters: MemoryRateCounters
    #: What the ledger was told.
    entries: list[Entry]

    @property
    def parts(self) -> GatewayParts:
        """Return the parts of its app."""
        return self.app.parts

    async def know(self, model: str = MODEL, *, provider: bool = True, **fields: Any) -> None:
        """Make a model known, with a provider for it."""
        await self.registry.put_models([Model(id=model, queues=await self.queue.make(model))])
        if provider:
            given = {"slots": 1, "running": 0, "healthy": True, "version": "1"} | fields
            await self.registry.put_provider(ProviderRecord(id="p1", models=(model,), **given))
        await self.counted()

    async def counted(self) -> None:
        """Have the gateway know what the registry has been told."""
        await self.app.enrolments.fleet_changed()
        self.parts.catalogue.changed()

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
        """Return what the client sent."""
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
    rate_counters: Any = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """Yield a gateway on a free port until the block ends, on stores in memory or not."""
    given = {"no_provider_seconds": 0.4, "registry_seconds": 0.05, "poll_seconds_max": 0.05}
    chosen, clock = Settings(**given | settings), SystemClock()
    ledger, counted = Noted(), metrics.GatewayMetrics()
    own = memory_stores()
    stores: Any = replace(
        own,
        store=store or own.store,
        registry=registry or own.registry,
        rate_counters=rate_counters or own.rate_counters,
        usage=MemoryUsage(store) if store else own.usage,
        lender=lender,
    )
    app = create_app(assemble(stores, chosen, clock, ledgers=[ledger, counted], tracer=tracer))
    page.add(app)
    metrics.add(app, counted)
    async with _serving(app) as port:
        yield Gateway(
            url=f"http://127.0.0.1:{port}",
            app=app,
            store=stores.store,
            queue=stores.queue,
            bodies=stores.bodies,
            registry=stores.registry,
            keys=stores.keys,
            tenants=stores.tenants,
            rate_counters=stores.rate_counters,
            entries=ledger.entries,
        )


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[int]:
    """Serve an app by uvicorn, but without its main loop, which ticks each 0.1 s."""
    config = uvicorn.Config(app, port=0, log_level="warning", ws="none", http=Http1Protocol)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    await server.on_tick(0)  # It writes the header `Date`.
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await _end(server)


async def _end(server: uvicorn.Server) -> None:
    """Return once every connection and call has ended."""
    for listener in server.servers:
        listener.close()
    state = server.server_state
    for connection in list(state.connections):
        connection.shutdown()
    while state.connections or state.tasks:  # noqa: ASYNC110  # uvicorn keeps sets, no events
        await asyncio.sleep(0.002)
    await server.lifespan.shutdown()
