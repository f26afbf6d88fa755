"""
A fleet in virtual time: providers that enrol and pull, a gateway or functions, clients, viewers.

All of it is the project's own code, down to the stores' calls, which go to counted tables.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from bench.growth.host import Server, speeds
from bench.growth.queue import Queues
from bench.growth.scene import Counted, Scene
from bench.harness.counting import Tally
from bench.sim import virtual_time
from bench.sim.tables import Tables, purpose
from bench.sim.virtual_line import Gateway, provide
from inferline.accounts.caller import ANYONE
from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.enrolment import Enrolment, Grant, OfferedModel, ToldSpeed
from inferline.fleet.registry import Model, ProviderRecord
from inferline.gateway.answer.answer import Answer
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.routes import control, tasks
from inferline.gateway.routes.overview import Overview
from inferline.maintenance.sweep import Sweep
from inferline.memory.objects import MemoryObjects
from inferline.settings import Settings
from inferline.tasks.task import Task
from inferline.usage.minutes import FLUSH_SECONDS
from inferline.validation import payload
from inferline_provider import settings as provider_settings
from inferline_provider.pull import puller
from inferline_provider.serve import leases
from inferline_provider.stopping import Stopping

PATH = "/v1/chat/completions"
#: What each host serves.
MODELS_EACH = 3
SLOTS = 16
#: How long a run of `control` takes besides its calls, seconds.
RUN_SECONDS = 0.05
#: Viewers of the page, each of which asks as often as the page does, seconds.
VIEWERS = 2
VIEW_SECONDS = 3.0
#: Between two of each of the rarer questions, seconds.
ASK_SECONDS = 1.0
#: How long everything goes on before it is counted, once all providers are there.
SETTLE_SECONDS = 15.0
#: Between two looks for an answer, two of a provider at its tasks and at its own clocks: what those
#: read is not counted here, and they would take most of the simulation's time.
LOOK_SECONDS = 1.0
UNHURRIED = ((leases, "FENCE_SECONDS"), (puller, "TICK_SECONDS"))
#: In what time all providers are started anew, one after the other.
RESTART_SECONDS = 60.0


@dataclass(slots=True)
class Process:
    """One gateway, or one process of a function."""

    gateway: Gateway
    overview: Overview


class World:
    """A scene and all that happens in it."""

    def __init__(self, scene: Scene, settings: Settings) -> None:
        self.scene = scene
        self.settings = replace(
            settings, poll_share=1.0, poll_seconds_max=LOOK_SECONDS, cancel_seconds=LOOK_SECONDS
        )
        self.chance = random.Random(1)
        self.tables = Tables()
        self.queue = Queues(self.tables.tallies)
        #: What was done so far.
        self.events: Counter[str] = Counter()
        self.names = [f"organisation-{n:03}/model-of-a-name-7b" for n in range(scene.models)]
        self.served = [self.chance.sample(self.names, MODELS_EACH) for _ in range(scene.providers)]
        #: Of each function, the processes that wait for their next run; the newest is taken first.
        self._idle: dict[str, list[Process]] = {"inference": [], "control": [], "sweep": []}
        self._asked: list[Task] = []

    @property
    def client(self) -> AwsClient:
        return cast(AwsClient, self.tables)

    def registry(self) -> DynamoRegistry:
        settings = self.settings
        return DynamoRegistry(self.client, settings.registry_table, settings.silent_seconds)

    async def process(self) -> Process:
        minutes = DynamoMinutes(self.client, self.settings.registry_table)
        gateway = Gateway(self.settings, Stores(self), self.registry(), self.queue, minutes)
        await gateway.parts.catalogue.fleet()  # As `open_gateway` does.
        return Process(gateway, Overview(gateway.parts))

    @asynccontextmanager
    async def running(self, function: str, what: str) -> AsyncIterator[Process]:
        """Yield a process that does one thing; as Lambda has it, no process does two at once."""
        idle = self._idle[function if self.scene.functions else "inference"]
        purpose.set("start")
        if not idle:
            self.events["start"] += 1
            idle.append(await self.process())
        process = idle.pop() if self.scene.functions else idle[-1]
        purpose.set(what)
        self.events[what] += 1
        yield process
        if self.scene.functions:
            if function == "control":
                await asyncio.sleep(RUN_SECONDS)
            idle.append(process)

    async def prepare(self) -> None:
        """Have all models known and all providers live, as after a long time."""
        purpose.set("setup")
        registry = self.registry()
        known = [
            Model(
                id=name,
                queues=await self.queue.make(name),
                created=1_800_000_000,
                context_length=32768,
            )
            for name in self.names
        ]
        await registry.put_models(known)
        for number, served in enumerate(self.served):
            provider = ProviderRecord(
                id=_name(number),
                models=tuple(served),
                slots=SLOTS,
                running=0,
                healthy=True,
                version="1",
                service_seconds=10.0,
            )
            await registry.put_provider(provider)
        await FleetAggregator(registry, 0.0).aggregate_change()

    async def provide(self, number: int, stopping: Stopping) -> None:
        """Do what `inferline_provider.provider.run` does, with nothing to connect to."""
        purpose.set("provider")
        server = Server(self.served[number], random.Random(number))
        chosen = provider_settings.ProviderSettings(
            base_url="", backend="", id=_name(number), slots=SLOTS, drain_seconds=0.1
        )
        await provide(chosen, server, Stores(self), _Door(self, number), stopping)

    async def ask(self) -> None:
        """Send one request and wait for its answer."""
        served = self.chance.choice(self.served)
        body = json.dumps({"model": self.chance.choice(served), "messages": []}).encode()
        read = payload.read(body)
        async with self.running("inference", "request") as process:
            submitter, parts = process.gateway.submitter, process.gateway.parts
            task_id = f"req_{self.chance.randbytes(16).hex()}"
            submission = await submitter.prepare(task_id, PATH, read, body)
            await submitter.submit(submission)
            task = submission.task
            self._asked.append(task)
            answer = Answer(parts, task, RequestLog(parts, PATH, ANYONE), streamed=False)
            await answer({}, _never, self._note)
            if self.scene.functions:  # Then Lambda may freeze it.
                await process.gateway.parts.minute_ledger.flush()

    async def _note(self, message: Any) -> None:
        """Count what becomes of requests."""
        if message["type"] == "http.response.start":
            self.events[f"status {message['status']}"] += 1

    async def view(self) -> None:
        async with self.running("control", "overview") as process:
            await process.overview.get()

    async def list_models(self) -> None:
        async with self.running("control", "list of models") as process:
            await control.list_models(ANYONE, process.gateway.parts)

    async def health(self) -> None:
        async with self.running("control", "health") as process:
            await control.get_health(process.gateway.parts)

    async def find(self) -> None:
        """Ask for a task, as a client does that comes back."""
        if not self._asked:
            return
        async with self.running("inference", "task") as process:
            task = self.chance.choice(self._asked[-100:])
            await tasks.get_task(task.ref.id, ANYONE, process.gateway.parts)

    async def flush(self) -> None:
        """Write the minutes of a gateway that lives on."""
        if not self.scene.functions:
            async with self.running("inference", "minutes") as process:
                await process.gateway.parts.minute_ledger.flush()

    async def sweep(self) -> None:
        purpose.set("sweep")
        self.events["sweep"] += 1
        store = DynamoTaskStore(self.client, self.settings.tasks_table)
        sweep = Sweep(store=store, registry=self.registry(), queue_maker=self.queue)
        await sweep.run()

    def beat(self, number: int) -> Enrolment:
        """Return what a provider tells."""
        models = [OfferedModel(id=name, context_length=32768) for name in self.served[number]]
        return Enrolment(
            id=_name(number),
            version="1",
            slots=SLOTS,
            service_seconds=10.0,
            models=models,
            speeds=self.speeds(number),
            credentials=False,
        )

    def speeds(self, number: int) -> dict[str, ToldSpeed]:
        """Return what a provider knows that has run tasks of all its models."""
        return speeds(self.served[number], number, self.chance)


@dataclass
class _Door:
    """The routes for providers, without the HTTP around them."""

    world: World
    number: int
    joined: bool = False

    async def enrol(self, enrolment: Enrolment) -> Grant:
        what = "heartbeat" if self.joined else "join"
        self.joined = True
        # As after hours: most of a large fleet would run no task in a simulated minute.
        knows = enrolment.model_copy(update={"speeds": self.world.speeds(self.number)})
        return await _apart(self._enrol, what, knows)

    async def leave(self, provider_id: str) -> None:
        await _apart(self._leave, provider_id)

    async def _enrol(self, what: str, enrolment: Enrolment) -> Grant:
        async with self.world.running("control", what) as process:
            return await process.gateway.enrolments.enrol(enrolment, ANYONE)

    async def _leave(self, provider_id: str) -> None:
        async with self.world.running("control", "leave") as process:
            await process.gateway.enrolments.leave(provider_id, ANYONE)


class Stores:
    """Stores of a provider's tasks."""

    def __init__(self, world: World) -> None:
        self.store = DynamoTaskStore(world.client, world.settings.tasks_table)
        self.queue = world.queue
        self.bodies = self.objects = MemoryObjects()


def _name(number: int) -> str:
    return f"ip-10-{number // 250:03}-{number % 250:03}-17.ec2.internal"


async def _apart(work: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
    """Do something whose calls are not its caller's."""
    return await asyncio.create_task(cast(Any, work(*arguments)))


async def _never() -> Any:
    await asyncio.Event().wait()


def simulate(scene: Scene, settings: Settings) -> Counted:
    """Let a scene happen, the same each time, and count."""
    with ExitStack() as stack:
        stack.enter_context(virtual_time.seeded(1))
        for module, name in UNHURRIED:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, LOOK_SECONDS)
        return virtual_time.run(_simulate(World(scene, settings)))


async def _simulate(world: World) -> Counted:
    await world.prepare()
    fleet = _Fleet(world)
    others = [asyncio.create_task(fleet.start())]
    await others[0]
    others += _others(world)
    await asyncio.sleep(SETTLE_SECONDS)
    before = {key: tally.copy() for key, tally in world.tables.tallies.items()}
    events = world.events.copy()
    if world.scene.restarts:
        others.append(asyncio.create_task(fleet.restart()))
    await asyncio.sleep(world.scene.seconds)
    tallies = {key: tally - before.get(key, Tally()) for key, tally in world.tables.tallies.items()}
    counted = Counted(world.scene.seconds, tallies, world.events - events)
    for task in [*others, *fleet.running]:
        task.cancel()
    await asyncio.gather(*others, *fleet.running, return_exceptions=True)
    return counted


def _others(world: World) -> list[asyncio.Task[Any]]:
    """Return all that happens besides the providers, for ever."""
    kinds: list[tuple[Callable[[], Awaitable[None]], float]] = [
        (world.view, VIEW_SECONDS / VIEWERS),
        (world.list_models, ASK_SECONDS),
        (world.health, ASK_SECONDS),
        (world.find, ASK_SECONDS),
        (world.sweep, 60.0),
        (world.flush, FLUSH_SECONDS),
    ]
    if world.scene.per_second:
        kinds.append((world.ask, 1 / world.scene.per_second))
    return [asyncio.create_task(_again(*each)) for each in kinds]


async def _again(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(seconds)
            group.create_task(cast(Any, work()))


class _Fleet:
    """All providers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopping: list[Stopping] = []
        self.running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all, evenly over the time between two heartbeats."""
        count = self._world.scene.providers
        for number in range(count):
            self._stopping.append(Stopping())
            self.running.append(self._started(number))
            await asyncio.sleep(self._world.settings.enrol_seconds / count)

    async def restart(self) -> None:
        """Stop each and start it anew, one after the other."""
        count = len(self._stopping)
        for number in range(count):
            asyncio.get_running_loop().create_task(self._restart(number))
            await asyncio.sleep(RESTART_SECONDS / count)

    async def _restart(self, number: int) -> None:
        stopping = self._stopping[number]
        stopping.ask()
        stopping.ask()
        await self.running[number]
        self._stopping[number] = Stopping()
        self.running[number] = self._started(number)

    def _started(self, number: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._world.provide(number, self._stopping[number]))
