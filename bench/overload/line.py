"""InferLine's own line in virtual time: its gateways, its providers and the clients of a trace."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

from bench.overload.trace import SECONDS, Request, Trace
from bench.sim import virtual_time
from bench.sim.virtual_line import Gateway, HealthyServer, ProviderRoutes, Response, provide
from bench.sim.virtual_time import VirtualClock
from inferline.errors import QueueFull
from inferline.fleet.enrolment import OfferedModel
from inferline.gateway.enrol.enrolments import Enrolments
from inferline.memory.objects import MemoryObjects
from inferline.memory.queue import MemoryQueue
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tasks import MemoryStore
from inferline.settings import Settings
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.store import AttemptOutcome, Claimed, Refused
from inferline.tasks.task import Task, TaskRef
from inferline.validation import payload
from inferline_provider import settings
from inferline_provider.stopping import Stopping

#: What a call to SQS or DynamoDB takes, seconds: at least, and on average beyond that.
CALL_SECONDS = (0.004, 0.006)
#: How old the depth is that SQS tells, seconds, and how wrong it may be.
DEPTH_LAG_SECONDS = 2.0
DEPTH_ERROR = 0.05
#: Between two looks of the world itself at the queues.
LOOK_SECONDS = 0.25
#: When the first requests may come: providers have enrolled by then.
BEGIN_SECONDS = 1.0
PATH = "/v1/chat/completions"


@dataclass(slots=True)
class Fate:
    """Outcome of a request."""

    answered: bool = False
    #: What a refusal said, and whether it was true: the same was let in at that time.
    retry_after: int | None = None
    kept_word: bool = False


class Distance:
    """Time that a call across the network takes."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    async def pass_by(self) -> None:
        """Take as long as a call."""
        least, mean = CALL_SECONDS
        await asyncio.sleep(least + self.chance.expovariate(1 / mean))


class FarStore(MemoryStore):
    """A store on the other side of a network, as far as providers and submits go."""

    def __init__(self, distance: Distance) -> None:
        super().__init__(VirtualClock())
        self._distance = distance
        #: When each task was answered.
        self.answered_at: dict[TaskRef, float] = {}

    async def submit(self, task: Task) -> None:
        await self._distance.pass_by()
        await super().submit(task)

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        await self._distance.pass_by()
        return await super().claim(ref, owner, lease_seconds)

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        await self._distance.pass_by()
        await super().finish(task, outcome)
        if outcome.status == 200:
            self.answered_at[task.ref] = asyncio.get_running_loop().time()


class FarQueue(MemoryQueue):
    """A queue on the other side of a network, that tells its depth late and not quite right."""

    def __init__(self, distance: Distance) -> None:
        super().__init__(VirtualClock())
        self._distance = distance
        self._seen: deque[dict[str, Depth]] = deque(maxlen=int(DEPTH_LAG_SECONDS / LOOK_SECONDS))

    async def watching(self) -> None:
        """See how deep the queues are, for ever."""
        while True:
            self._seen.append({name: await MemoryQueue.depth(self, name) for name in self._queues})
            await asyncio.sleep(LOOK_SECONDS)

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        await self._distance.pass_by()
        await super().send(queue, message, tenant)

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        await self._distance.pass_by()
        return await super().receive(
            queue,
            limit=limit,
            wait_seconds=wait_seconds,
            visibility_timeout_seconds=visibility_timeout_seconds,
        )

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._distance.pass_by()
        await super().delete(deliveries)

    async def depth(self, queue: str) -> Depth:
        await self._distance.pass_by()
        depth = self._seen[0].get(queue, Depth(0, 0)) if self._seen else Depth(0, 0)
        wrong = 1 + self._distance.chance.uniform(-DEPTH_ERROR, DEPTH_ERROR)
        return Depth(round(depth.waiting * wrong), depth.running)


class Server(HealthyServer):
    """The LLM server of one provider: it works on each request for as long as the trace says."""

    def __init__(self, trace: Trace, models: Sequence[str]) -> None:
        super().__init__(*(OfferedModel(id=name) for name in models))
        self._trace = trace
        #: Seconds of its slots that went to answers, and to what was given up.
        self.useful = self.wasted = 0.0
        #: Requests whose client had left before.
        self.begun_late = 0

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *_: object, **__: object) -> AsyncIterator[Any]:
        clock = asyncio.get_running_loop().time
        begun = clock()
        request = self._trace.requests[json.loads(body)["number"]]
        self.begun_late += begun > BEGIN_SECONDS + request.at + request.patience
        try:
            await asyncio.sleep(request.service)
        except asyncio.CancelledError:
            self.wasted += clock() - begun
            raise
        self.useful += request.service
        yield Response(b'{"choices": []}')


@dataclass(kw_only=True)
class World:
    """A line and what happens on it."""

    trace: Trace
    providers: int
    gateways: int
    seed: int
    servers: list[Server] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)

    def __post_init__(self) -> None:
        distance, clock = Distance(self.seed), VirtualClock()
        self.store, self.queue = FarStore(distance), FarQueue(distance)
        self.bodies = self.objects = MemoryObjects()
        self.registry = MemoryRegistry(clock)
        self.processes = [
            Gateway(Settings(), self, self.registry, self.queue) for _ in range(self.gateways)
        ]
        self.fates = [Fate() for _ in self.trace.requests]

    async def run(self) -> None:
        """Let everything happen, and return when the last client has an answer or has left."""
        stopping = [Stopping() for _ in range(self.providers)]
        others = [asyncio.create_task(self.queue.watching())]
        others += [asyncio.create_task(self._provide(*each)) for each in enumerate(stopping)]
        async with asyncio.TaskGroup() as clients:
            for number, request in enumerate(self.trace.requests):
                clients.create_task(self._ask(number, request))
        for one in stopping:
            one.ask()
            one.ask()
        others[0].cancel()
        await asyncio.gather(*others[1:])

    async def _provide(self, number: int, stopping: Stopping) -> None:
        server = Server(self.trace, [f"model-{n}" for n in range(1 + self._models)])
        self.servers.append(server)
        chosen = settings.ProviderSettings(
            base_url="", backend="", id=f"p{number}", slots=self.trace.slots // self.providers
        )
        routes = ProviderRoutes(Enrolments(self.processes[0].parts))
        await provide(chosen, server, self, routes, stopping)

    @property
    def _models(self) -> int:
        return max(request.model for request in self.trace.requests)

    async def _ask(self, number: int, request: Request) -> None:
        """Wait as one client, and do at its deadline what the gateway does."""
        await asyncio.sleep(BEGIN_SECONDS + request.at)
        gateway, fate = self.processes[number % self.gateways], self.fates[number]
        body = json.dumps({"model": f"model-{request.model}", "number": number}).encode()
        read = payload.read(body)
        try:
            submission = await gateway.submitter.prepare(
                f"req_{number}", PATH, read, body, seconds_max=request.patience
            )
            await gateway.submitter.submit(submission)
        except QueueFull as refusal:
            fate.retry_after = int(refusal.headers()["retry-after"])
            await asyncio.sleep(fate.retry_after)
            fate.kept_word = await self._would_enter(gateway, read, request.patience)
            return
        task = submission.task
        await asyncio.sleep((task.deadline_ms - self.store.now_ms()) / 1000)
        await self.store.expire(task.ref)
        fate.answered = self.store.answered_at.get(task.ref, inf) <= BEGIN_SECONDS + SECONDS

    async def _would_enter(self, gateway: Gateway, read: payload.Payload, patience: float) -> bool:
        model = await gateway.parts.catalogue.model(read.model)
        try:
            await gateway.submitter.admission.check(model, read.tier, patience)
        except QueueFull:
            return False
        return True


def simulate(trace: Trace, *, providers: int = 4, gateways: int = 1, seed: int = 1) -> World:
    """Run the line on a trace, the same each time; returns what has happened."""
    with virtual_time.seeded(seed):
        return virtual_time.run(_simulate(trace, providers, gateways, seed))


async def _simulate(trace: Trace, providers: int, gateways: int, seed: int) -> World:
    world = World(trace=trace, providers=providers, gateways=gateways, seed=seed)
    await world.run()
    return world
