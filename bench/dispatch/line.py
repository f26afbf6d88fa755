"""InferLine's own line in virtual time, before a fleet of unequal hosts and as far from AWS."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.dispatch.trace import Fate, Host, Request, Trace, make
from bench.sim import virtual_time
from bench.sim.far import FarQueue, FarStore
from bench.sim.virtual_line import Gateway, HealthyServer, ProviderRoutes, Response, provide
from bench.sim.virtual_time import VirtualClock
from inferline.fleet.enrolment import Enrolment, Grant, OfferedModel
from inferline.memory.objects import MemoryObjects
from inferline.memory.registry import MemoryRegistry
from inferline.settings import Settings
from inferline.validation import payload
from inferline_provider import settings
from inferline_provider.stopping import Stopping

PATH = "/v1/chat/completions"
MODEL = "model"
#: Before what counts, so much comes for so long, seconds: providers have told their speed then.
WARM_SECONDS = 40.0
WARM_LOAD = 0.5
#: Nobody gives up, is taken to be gone or is refused.
SETTINGS = Settings(request_seconds_max=3600, reader_seconds=3600, queue_depth_max=100_000)


class Server(HealthyServer):
    """The LLM server of one provider."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(OfferedModel(id=MODEL))
        self._world = world
        self._number = number

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *_: object, **__: object) -> AsyncIterator[Any]:
        asked = json.loads(body)
        self._world.begun(asked["number"], self._number)
        speed = self._world.fleet[self._number].tokens_per_second
        await asyncio.sleep(asked["tokens"] / speed)
        self._world.ended(asked["number"])
        usage = {"prompt_tokens": 1, "completion_tokens": asked["tokens"]}
        yield Response(json.dumps({"choices": [], "usage": usage}).encode())


class Indifferent(ProviderRoutes):
    """A gateway that tells nobody that others are faster."""

    async def enrol(self, enrolment: Enrolment) -> Grant:
        return (await super().enrol(enrolment)).model_copy(update={"faster": {}})


class World:
    """A line, its fleet and its clients."""

    def __init__(self, trace: Trace, *, seed: int, is_aware: bool) -> None:
        self.trace, self.fleet = trace, trace.fleet
        chance = random.Random(seed)
        self.store = FarStore(chance)
        self.bodies = self.objects = MemoryObjects()
        self.queue = FarQueue(chance, self.store.now_ms)
        self.registry = MemoryRegistry(VirtualClock())
        self.gateway = Gateway(SETTINGS, self, self.registry, self.queue)
        routes = ProviderRoutes if is_aware else Indifferent
        self._routes = routes(self.gateway.enrolments)
        self._warm = make(seed=-seed, fleet=trace.fleet, load=WARM_LOAD, seconds=WARM_SECONDS)
        #: How the requests of the trace fared, by their number.
        self.fates: dict[int, Fate] = {}
        self._begun: dict[int, tuple[float, int]] = {}
        self._ended: dict[int, asyncio.Event] = {}
        #: Calls of SQS for the trace alone.
        self.calls: Counter[str] = Counter()

    def begun(self, number: int, host: int) -> None:
        """Note that a slot begins with a request."""
        self._begun.setdefault(number, (asyncio.get_running_loop().time(), host))

    def ended(self, number: int) -> None:
        """Note that a request is answered."""
        self._ended[number].set()

    async def run(self) -> None:
        """Let everything happen, and return when everything is answered."""
        stopping = [Stopping() for _ in self.fleet]
        providers = [
            asyncio.create_task(self._provide(number, host, one))
            for number, (host, one) in enumerate(zip(self.fleet, stopping, strict=True))
        ]
        await asyncio.sleep(1)
        await self._play(self._warm, first=len(self.trace.requests))
        calls = self.queue.calls.copy()
        await self._play(self.trace, first=0)
        self.calls = self.queue.calls - calls
        for one in stopping:
            one.ask()
        await asyncio.gather(*providers)

    async def _provide(self, number: int, host: Host, stopping: Stopping) -> None:
        chosen = settings.ProviderSettings(
            base_url="", backend="", id=f"p{number}", slots=host.slots
        )
        await provide(chosen, Server(self, number), self, self._routes, stopping)

    async def _play(self, trace: Trace, first: int) -> None:
        """Send the requests when it is time, numbered from ``first`` on; wait until all ended."""
        async with asyncio.TaskGroup() as clients:
            for number, request in enumerate(trace.requests, first):
                clients.create_task(self._ask(number, request))

    async def _ask(self, number: int, request: Request) -> None:
        await asyncio.sleep(request.at)
        time, ended = asyncio.get_running_loop().time, asyncio.Event()
        sent, self._ended[number] = time(), ended
        asked = {"model": MODEL, "number": number, "tokens": request.tokens}
        body = json.dumps(asked).encode()
        submitter = self.gateway.submitter
        await submitter.submit(
            await submitter.prepare(f"req_{number}", PATH, payload.read(body), body)
        )
        await ended.wait()
        begun, host = self._begun[number]
        self.fates[number] = Fate(begun - sent, time() - sent, host)


def simulate(trace: Trace, *, seed: int, is_aware: bool) -> tuple[list[Fate], Counter[str]]:
    """Return how a trace fares on the line, the same each time, and the calls of SQS for it."""
    with virtual_time.seeded(seed):
        return virtual_time.run(_simulate(trace, seed, is_aware))


async def _simulate(trace: Trace, seed: int, is_aware: bool) -> tuple[list[Fate], Counter[str]]:
    world = World(trace, seed=seed, is_aware=is_aware)
    await world.run()
    return [world.fates[number] for number in range(len(trace.requests))], world.calls
