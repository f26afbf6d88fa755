"""A provider in this process: memory for AWS, a scripted LLM server, a gateway of two routes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from inferline.clock import Clock
from inferline.fleet.enrolment import Credentials, Faster, Grant, Terms
from inferline.memory.objects import MemoryObjects
from inferline.memory.queue import MemoryQueue
from inferline.memory.tasks import MemoryStore
from inferline.names import dedicated_name, slug
from inferline.settings import Settings as GatewaySettings
from inferline.tasks.bodies import body_key
from inferline.tasks.queue import Message
from inferline.tasks.task import AnswerHead, Chunk, Task, TaskRef, Tier
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline_provider import provider
from inferline_provider.pauses import Pauses
from inferline_provider.settings import ProviderSettings
from inferline_provider.stopping import Stopping
from inferline_provider.telemetry.status import OpenSink, no_sink
from tests.support.backend import Backend, serving

#: Quick enough for a test to see several of each.
TERMS = Terms.model_validate(GatewaySettings()).model_copy(
    update={"enrol_seconds": 1.0, "flush_seconds": 0.02}
)


#: Pauses that no test has to wait for.
BRIEF = Pauses(
    retry_seconds=(0, 0),
    rest_seconds=(0.001, 0.05),
    recover_seconds=(0.001, 0.05),
    line_seconds=(0.001, 0.05),
)


@dataclass
class FakeGateway:
    """A gateway with the two routes that a provider calls."""

    queue: MemoryQueue
    terms: Terms = field(default_factory=lambda: TERMS)
    status: int = 200
    code: str = "c"
    enrolments: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    #: Makes the credentials for each provider that asks for some.
    lends: Callable[[], Credentials | None] = lambda: None
    #: The tenants that have a dedicated model beside each of its models, if it takes their tasks.
    reserved: list[str] = field(default_factory=list)
    #: Who is faster than the provider, by model.
    faster: dict[str, Faster] = field(default_factory=dict)
    #: How many others serve each model.
    peers: dict[str, int] = field(default_factory=dict)

    async def enrol(self, request: web.Request) -> web.Response:
        enrolment = await request.json()
        self.enrolments.append(enrolment)
        self.tokens.append(request.headers.get("authorization"))
        if self.status != 200:
            error = {"message": "scripted refusal", "type": "t", "param": None, "code": self.code}
            return web.json_response({"error": error}, status=self.status)
        names = [model["id"] for model in enrolment["models"]]
        if enrolment["takes_reserved"]:
            names += [dedicated_name(name, tenant) for name in names for tenant in self.reserved]
        queues = {name: dict(await self.queue.make(name)) for name in names}
        grant = Grant(
            queues=queues,
            faster=self.faster,
            peers=self.peers,
            tasks_table="t",
            bodies_bucket="b",
            region="r",
            credentials=self.lends() if enrolment["credentials"] else None,
            terms=self.terms,
        )
        return web.json_response(grant.model_dump())

    async def leave(self, request: web.Request) -> web.Response:
        self.left.append(request.match_info["id"])
        return web.Response(status=204)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/providers", self.enrol)
        app.router.add_delete("/v1/providers/{id}", self.leave)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@dataclass
class World:
    """Everything around one provider, and the moves of its gateway and clients."""

    backend: Backend
    store: Any = field(default_factory=MemoryStore)
    queue: Any = field(default_factory=MemoryQueue)
    bodies: MemoryObjects = field(default_factory=MemoryObjects)
    objects: Any = field(default_factory=MemoryObjects)
    terms: Terms = field(default_factory=lambda: TERMS)
    stopping: Stopping = field(default_factory=Stopping)
    gateway: FakeGateway = field(init=False)
    running: asyncio.Task[None] = field(init=False)
    #: What the provider's stores would sign with.
    credentials: Any = None

    def __post_init__(self) -> None:
        self.gateway = FakeGateway(self.queue, self.terms)

    @asynccontextmanager
    async def open_stores(self, grant: Grant, credentials: object) -> AsyncIterator[World]:
        self.credentials = credentials
        yield self

    async def submit(
        self,
        body: dict[str, Any] | None = None,
        *,
        model: str = "test-model",
        tier: Tier = "default",
        path: str = "/v1/chat/completions",
        seconds: float = 600.0,
        attempts: int = 3,
        keyed: bool = False,
        sha256: str | None = None,
        traceparent: str = "",
        begun: bytes = b"",
        is_reserved: bool = False,
        form: bytes | None = None,
        headers: dict[str, str] | None = None,
        query: str = "",
    ) -> Task:
        """Do what a gateway does with a request; a lost provider has answered ``begun`` of it."""
        name = dedicated_name(model, "t") if is_reserved else model
        request = {"model": model, "messages": [{"role": "user", "content": uuid.uuid4().hex}]}
        raw = json.dumps({**request, **(body or {})}).encode() if form is None else form
        now_ms = self.store.now_ms()
        task = Task(
            ref=TaskRef(slug(name), uuid.uuid4().hex),
            model=model,
            tier=tier,
            tenant="t",
            path=path,
            query=query,
            request_headers=headers or {},
            body_sha256=sha256 or hashlib.sha256(raw).hexdigest(),
            created_ms=now_ms,
            deadline_ms=now_ms + round(seconds * 1000),
            attempt_limit=attempts,
            ttl=now_ms // 1000 + 3600,
            traceparent=traceparent,
        )
        await self.store.submit(task)
        if begun:
            claimed = await self.store.claim(task.ref, "lost", 30)
            head = AnswerHead(200, "text/event-stream", "lost", 0)
            await self.store.write_chunks([Chunk(task.ref, 1, 0, begun, task.ttl, head)])
            await self.store.hand_back(claimed.task, counts=True)
        message = Message(ref=task.ref, body=raw, is_json=form is None)
        if keyed:
            await self.bodies.put(body_key(task.ref), raw)
            message = Message(ref=task.ref, body_key=body_key(task.ref))
        await self.queue.send((await self.queue.make(name))[tier], message, "t")
        return task

    def row(self, task: Task) -> Task:
        """Return the task's row now."""
        row: Task = self.store.task(task.ref)
        return row

    async def ended(self, task: Task, seconds: float = 60.0) -> Task:
        """Return the task's row once it has ended and its message is gone."""
        await until(lambda: self.row(task).state.terminal, seconds)
        url = (await self.queue.make(task.registry_name))[task.tier]
        await until(lambda: not any(task.ref.id in text for text in self.queue.messages(url)))
        return self.row(task)

    def answer(self, task: Task) -> bytes:
        """Return the answer as a reader puts it together."""
        row = self.row(task)
        chunks = self.store.chunks(task.ref, row.attempt)
        assert [chunk.seq for chunk in chunks] == list(range(row.chunks))
        return b"".join(chunk.data for chunk in chunks) + row.tail


@asynccontextmanager
async def world(
    backend: Backend | None = None,
    *,
    terms: dict[str, Any] | None = None,
    store: Any = None,
    queue: Any = None,
    objects: Any = None,
    clock: Clock | None = None,
    lends: Callable[[], Credentials | None] = lambda: None,
    tracer: Tracer = NO_TRACER,
    open_sink: OpenSink = no_sink,
    pauses: Pauses = BRIEF,
    peers: dict[str, int] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """Run a provider that has enrolled, in its world; stop it at once at the end."""
    backend = backend or Backend()
    around = World(backend, terms=TERMS.model_copy(update=terms or {}))
    around.gateway.lends = lends
    around.gateway.peers = peers or {}
    around.store = store or around.store
    around.objects = objects or around.objects
    around.queue = around.gateway.queue = queue or around.queue
    async with serving(backend) as port, around.gateway.serving() as base_url:
        chosen = ProviderSettings(
            base_url=base_url,
            backend=f"http://127.0.0.1:{port}",
            id="p1",
            **{"poll_seconds": 1, **settings},
        )
        around.running = asyncio.create_task(
            provider.run(
                chosen, around.open_stores, around.stopping, clock, tracer, open_sink, pauses
            )
        )
        try:
            await until(lambda: bool(around.gateway.enrolments) or around.running.done())
            yield around
        finally:
            around.stopping.ask()
            around.stopping.ask()
            async with asyncio.timeout(60):
                await asyncio.gather(around.running, return_exceptions=True)


async def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    """Return once something holds; fails when that takes too long."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
