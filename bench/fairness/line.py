"""InferLine's own line in virtual time, before few slots and tenants of unequal load."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bench.fairness.trace import Fate, Request, Tenant, Trace, make
from bench.overload.line import DEPTH_LAG_SECONDS, LOOK_SECONDS
from bench.sim import virtual_time
from bench.sim.far import FarQueue, FarStore
from bench.sim.virtual_line import Gateway, HealthyServer, ProviderRoutes, Response, provide
from bench.sim.virtual_time import VirtualClock
from inferline.accounts.caller import Caller
from inferline.errors import QueueFull
from inferline.fleet.enrolment import OfferedModel
from inferline.memory.objects import MemoryObjects
from inferline.memory.registry import MemoryRegistry
from inferline.settings import Settings
from inferline.tasks.queue import Depth
from inferline.validation import payload
from inferline_provider import settings
from inferline_provider.stopping import Stopping

PATH = "/v1/chat/completions"
MODEL = "model"
#: Before what counts, so much comes for so long, seconds: providers have told their speed then.
WARM = Tenant("warm", 0.5)
WARM_SECONDS = 40.0
#: How many requests a tenant may have open at once; what it asks beyond that is refused.
OPEN_MAX = 256
#: For so long the heavy tenants' requests pile up before anything is counted, seconds.
SETTLE_SECONDS = 60.0


class LateQueue(FarQueue):
    """A queue that tells its depth as late as SQS may."""

    async def watch(self) -> None:
        """See how deep the queues are, for ever."""
        self._seen: deque[dict[str, Depth]] = deque(maxlen=int(DEPTH_LAG_SECONDS / LOOK_SECONDS))
        while True:
            self._seen.append(
                {url: Depth(len(one.visible), len(one.out)) for url, one in self._places.items()}
            )
            await asyncio.sleep(LOOK_SECONDS)

    async def depth(self, queue: str) -> Depth:
        async with self._call("GetQueueAttributes"):
            return self._seen[0].get(queue, Depth(0, 0))


class Server(HealthyServer):
    """The LLM server of one provider: it works on each request for as long as the trace says."""

    def __init__(self, world: World) -> None:
        super().__init__(OfferedModel(id=MODEL))
        self._world = world

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *_: object, **__: object) -> AsyncIterator[Any]:
        asked = self._world.asked[json.loads(body)["number"]]
        asked.begun_at = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(asked.request.service)
        finally:
            self._world.worked(asked)
        asked.ended.set()
        yield Response(b'{"choices": []}')


@dataclass(slots=True)
class Asked:
    """One request that was sent."""

    request: Request
    sent_at: float
    begun_at: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Found:
    """Results of a trace."""

    #: Of those that were answered, by their number.
    fates: dict[int, Fate] = field(default_factory=dict)
    #: Seconds that slots worked for each tenant while it was counted, and for how long that was.
    work: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    #: Of SQS, from the first request of the trace on.
    calls: Counter[str] = field(default_factory=Counter)


class World:
    """A line, its fleet and its tenants."""

    def __init__(self, trace: Trace, *, seed: int, tenant_share: float) -> None:
        self.trace = trace
        chance = random.Random(seed)
        self.store = FarStore(chance)
        self.bodies = self.objects = MemoryObjects()
        self.queue = LateQueue(chance, self.store.now_ms)
        self.registry = MemoryRegistry(VirtualClock())
        # Nobody here renews what a gateway renews that waits for an answer.
        chosen = Settings(tenant_share=tenant_share, reader_seconds=7200)
        self.gateway = Gateway(chosen, self, self.registry, self.queue)
        self._routes = ProviderRoutes(self.gateway.enrolments)
        self._warm = make(seed=-seed, hosts=trace.hosts, tenants=[WARM], seconds=WARM_SECONDS)
        self.asked: dict[int, Asked] = {}
        self.result = Found()
        self._window = (0.0, 0.0)
        #: How many requests each tenant has open, at all gateways.
        self._open: Counter[str] = Counter()
        self._faults: list[BaseException] = []

    async def run(self, waited_for: frozenset[str]) -> Found:
        """Let everything happen until the last of these tenants' requests is over."""
        stopping = [Stopping() for _ in self.trace.hosts]
        watching = asyncio.create_task(self.queue.watch())
        providers = [asyncio.create_task(self._provide(*each)) for each in enumerate(stopping)]
        await asyncio.sleep(1)
        await self._play(self._warm, len(self.trace.requests), frozenset({WARM.name}))
        now, calls = asyncio.get_running_loop().time(), self.queue.calls.copy()
        self._window = (now + SETTLE_SECONDS, now + self.trace.seconds)
        self.result = Found(seconds=self.trace.seconds - SETTLE_SECONDS)
        await self._play(self.trace, 0, waited_for)
        self.result.calls = self.queue.calls - calls
        for one in stopping:
            one.ask()
            one.ask()
        watching.cancel()
        await asyncio.gather(*providers)
        if self._faults:
            raise self._faults[0]
        return self.result

    def worked(self, asked: Asked) -> None:
        """Note that a slot has worked on a request until now."""
        first, last = self._window
        begun, now = asked.begun_at, asyncio.get_running_loop().time()
        seconds = max(0.0, min(now, last) - max(begun, first))
        self.result.work[asked.request.tenant.name] += seconds

    async def _provide(self, number: int, stopping: Stopping) -> None:
        slots = self.trace.hosts[number]
        chosen = settings.ProviderSettings(base_url="", backend="", id=f"p{number}", slots=slots)
        await provide(chosen, Server(self), self, self._routes, stopping)

    async def _play(self, trace: Trace, first: int, waited_for: frozenset[str]) -> None:
        """Send the requests when it is time, numbered from ``first`` on."""
        clock, clients = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        begun = clock.time()

        def left(client: asyncio.Task[None]) -> None:
            clients.discard(client)
            if not client.cancelled() and (error := client.exception()) is not None:
                self._faults.append(error)

        for number, request in enumerate(trace.requests, first):
            await asyncio.sleep(max(0.0, begun + request.at - clock.time()))
            client = asyncio.create_task(self._ask(number, request), name=request.tenant.name)
            clients.add(client)
            client.add_done_callback(left)
        if awaited := [client for client in clients if client.get_name() in waited_for]:
            await asyncio.wait(awaited)
        for client in clients:
            client.cancel()

    async def _ask(self, number: int, request: Request) -> None:
        name = request.tenant.name
        self._open[name] += 1
        try:
            if self._open[name] <= OPEN_MAX:
                await self._served(number, request)
        except QueueFull:
            del self.asked[number]
        finally:
            self._open[name] -= 1

    async def _served(self, number: int, request: Request) -> None:
        """Wait as one client, and do at its deadline what the gateway does. Raises QueueFull."""
        clock, caller = asyncio.get_running_loop(), Caller(tenant=request.tenant.name)
        asked = self.asked[number] = Asked(request, clock.time())
        fields = {"model": MODEL, "number": number, "service_tier": request.tenant.tier}
        body = json.dumps(fields).encode()
        read = payload.read(body)
        submitter = self.gateway.submitter
        submission = await submitter.prepare(f"req_{number}", PATH, read, body, caller=caller)
        task = submission.task
        await submitter.submit(replace(submission, tenant_open=self._open[caller.tenant]))
        try:
            async with asyncio.timeout((task.deadline_ms - self.store.now_ms()) / 1000):
                await asked.ended.wait()
        except TimeoutError:
            await self.store.expire(task.ref)
            return
        sent, begun = asked.sent_at, asked.begun_at
        self.result.fates[number] = Fate(begun - sent, clock.time() - sent)


def simulate(trace: Trace, *, seed: int, tenant_share: float, waited_for: frozenset[str]) -> Found:
    """Return how a trace fares on the line, the same each time."""
    with virtual_time.seeded(seed):
        return virtual_time.run(_simulate(trace, seed, tenant_share, waited_for))


async def _simulate(
    trace: Trace, seed: int, tenant_share: float, waited_for: frozenset[str]
) -> Found:
    return await World(trace, seed=seed, tenant_share=tenant_share).run(waited_for)
