"""InferLine's own provider in virtual time: beside a scripted engine, with work that waits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from bench.autoslots.engine import DONE, LAST, TOKEN, Engine, Shape
from bench.overload.line import Distance, FarQueue, FarStore
from bench.sim import virtual_time
from bench.sim.virtual_time import VirtualClock
from inferline.fleet.enrolment import Enrolment, Faster, Grant, OfferedModel, Terms
from inferline.memory.objects import MemoryObjects
from inferline.memory.queue import MemoryQueue
from inferline.names import slug
from inferline.settings import Settings as GatewaySettings
from inferline.tasks.queue import Message
from inferline.tasks.task import Task, TaskRef
from inferline_provider import provider
from inferline_provider.backend.capacity import UNKNOWN, Room
from inferline_provider.backend.client import BackendClient
from inferline_provider.backend.health import BackendHealth
from inferline_provider.enrolment import GrantedCredentials
from inferline_provider.settings import ProviderSettings
from inferline_provider.stopping import Stopping

MODEL = "bench-model"
PATH = "/v1/chat/completions"
#: So many tasks wait at any time while there is load.
BACKLOG = 100
#: Between two looks whether so many wait, and at the number of slots.
LOOK_SECONDS = 0.1
DAY_MS = 86_400_000
TERMS = Terms.model_validate(GatewaySettings())


class Server(BackendClient):
    """The engine as the provider's code sees it."""

    def __init__(self, engine: Engine, *, tells: bool) -> None:
        super().__init__("")
        self._engine = engine
        #: Whether it has metrics.
        self._tells = tells

    async def check(self) -> None:
        """Report the backend well, always."""

    async def models(self) -> list[OfferedModel]:
        return [OfferedModel(id=MODEL)]

    async def room(self) -> Room:
        return UNKNOWN

    async def waiting(self) -> int | None:
        return self._engine.waiting if self._tells else None

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *_: object, **__: object) -> AsyncIterator[Any]:
        asked = json.loads(body)
        yield _Response(self._engine, asked["number"], streamed=asked["stream"])


class _Response:
    status = 200

    def __init__(self, engine: Engine, number: int, *, streamed: bool) -> None:
        self._tokens = engine.answer(number)
        self._streamed = streamed
        self.headers = {"content-type": "text/event-stream" if streamed else "application/json"}

    async def pieces(self) -> AsyncGenerator[bytes]:
        count = 0
        async for left in self._tokens:
            count += 1
            if self._streamed:
                yield TOKEN if left else LAST
        if self._streamed:
            yield DONE
        else:
            choices = [{"index": 0, "finish_reason": "stop", "message": {"content": ""}}]
            usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
            yield json.dumps({"choices": choices, "usage": usage}).encode()


@dataclass
class _Door:
    """A gateway that takes everybody in."""

    queue: FarQueue
    #: Who else has the model and is faster, as it tells.
    faster: Mapping[str, Faster]
    #: When each enrolment came, and what it told.
    enrolments: list[tuple[float, Enrolment]] = field(default_factory=list)

    async def enrol(self, enrolment: Enrolment) -> Grant:
        self.enrolments.append((asyncio.get_running_loop().time(), enrolment))
        queues = {model.id: dict(await self.queue.make(model.id)) for model in enrolment.models}
        grant = Grant(
            queues=queues,
            tasks_table="",
            bodies_bucket="",
            region="",
            terms=TERMS,
            faster=dict(self.faster),
        )
        return grant.without_batches()

    async def leave(self, provider_id: str) -> None:
        pass


@dataclass(kw_only=True)
class Line:
    """A provider, its engine and a queue."""

    shape: Shape
    seed: int
    #: None: they are to be found.
    slots: int | None
    first_token_seconds: float
    streamed: bool = True
    tells: bool = False
    #: Faster providers of the model that the gateway tells of; they take nothing.
    faster: Mapping[str, Faster] = field(default_factory=dict)
    #: What happens when, by seconds: it is given this line.
    script: Mapping[float, Callable[[Line], None]] = field(default_factory=dict)
    is_loaded: bool = True
    #: Slots over time: when, and how many from then on.
    limits: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        distance = Distance(self.seed)
        self.engine = Engine(self.shape, self.seed)
        self.store, self.queue = FarStore(distance), FarQueue(distance)
        self.bodies = self.objects = MemoryObjects()
        self.door = _Door(self.queue, self.faster)

    async def run(self, seconds: float) -> None:
        """Let everything happen for so long."""
        stopping = Stopping()
        one = self._provider()
        work = [
            asyncio.create_task(coroutine)
            for coroutine in (self._feed(), self._follow(one), self._play())
        ]
        serving = asyncio.create_task(self._serve(one, stopping))
        await asyncio.wait([serving, *work], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in work:
            each.cancel()
        stopping.ask()
        stopping.ask()
        await serving

    def _provider(self) -> provider.ProviderProcess:
        chosen = ProviderSettings(
            base_url="",
            backend="",
            id="p",
            slots=self.slots,
            first_token_seconds=self.first_token_seconds,
        )
        clock = VirtualClock()
        self.server = Server(self.engine, tells=self.tells)
        health, gateway = BackendHealth(self.server, chosen, clock), cast(Any, self.door)
        credentials = GrantedCredentials(clock, own=True)
        return provider.ProviderProcess(chosen, health, gateway, credentials, clock)

    async def _serve(self, one: provider.ProviderProcess, stopping: Stopping) -> None:
        grant = await one.join()
        one.equip(self.server, self, grant)
        await one.serve(stopping)

    async def _feed(self) -> None:
        """Keep tasks waiting, whenever there is load."""
        number = 0
        url = (await self.queue.make(MODEL))["default"]
        while True:
            depth = await MemoryQueue.depth(self.queue, url)
            for _ in range(BACKLOG - depth.waiting if self.is_loaded else 0):
                number += 1
                await self._submit(number, url)
            await asyncio.sleep(LOOK_SECONDS)

    async def _submit(self, number: int, url: str) -> None:
        body = json.dumps({"model": MODEL, "number": number, "stream": self.streamed}).encode()
        now_ms = self.store.now_ms()
        task = Task(
            ref=TaskRef(slug(MODEL), f"{number}"),
            model=MODEL,
            tier="default",
            tenant="t",
            path=PATH,
            body_sha256=hashlib.sha256(body).hexdigest(),
            created_ms=now_ms,
            deadline_ms=now_ms + DAY_MS,
            attempt_limit=3,
            ttl=(now_ms + 2 * DAY_MS) // 1000,
        )
        await super(FarStore, self.store).submit(task)
        await super(FarQueue, self.queue).send(url, Message(ref=task.ref, body=body), "t")

    async def _follow(self, one: provider.ProviderProcess) -> None:
        while True:
            limit = one.status().slots
            if not self.limits or self.limits[-1][1] != limit:
                self.limits.append((asyncio.get_running_loop().time(), limit))
            await asyncio.sleep(LOOK_SECONDS)

    async def _play(self) -> None:
        for at, happen in sorted(self.script.items()):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            happen(self)
        await asyncio.Event().wait()


def simulate(line: Callable[[], Line], seconds: float, seed: int) -> Line:
    """Run a line, the same each time; returns what has happened."""
    with virtual_time.seeded(seed):
        return virtual_time.run(_simulate(line, seconds))


async def _simulate(line: Callable[[], Line], seconds: float) -> Line:
    made = line()
    await made.run(seconds)
    return made
