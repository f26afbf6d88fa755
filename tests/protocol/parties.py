"""The processes: a gateway with its clients, and providers. Their code is the project's own."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

from inferline.accounts.caller import ANYONE
from inferline.errors import InferLineError
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.enrolment import Terms
from inferline.fleet.registry import Model, ProviderRecord
from inferline.gateway.answer.answer import Answer
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.catalogue import Catalogue
from inferline.gateway.parts import assemble
from inferline.gateway.submit import repeat
from inferline.gateway.submit.submission import Submitter
from inferline.memory.objects import MemoryObjects
from inferline.memory.registry import MemoryRegistry
from inferline.memory.stores import memory_stores
from inferline.settings import Settings
from inferline.tasks.queue import Delivery, Depth
from inferline.tasks.task import Task
from inferline.validation.payload import read
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.slots import Slots
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.suspension import Suspension
from inferline_provider.relay.chunks import ChunkWriter
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.diagnosis import Diagnosis
from inferline_provider.serve.failed_tasks import FailedTasks
from inferline_provider.serve.leases import Leases
from tests.protocol.backend import PROMPT, Backend
from tests.protocol.loop import SteppedLoop
from tests.protocol.wire import Seam, Wire
from tests.protocol.worlds import World

SETTINGS = Settings(
    lease_seconds=3.0,
    attempts_max=3,
    request_seconds_max=60.0,
    flush_seconds=0.05,
    no_provider_seconds=1e6,
    reader_seconds=4.0,
    unread_task_seconds=2.0,
)
TERMS = Terms.model_validate(SETTINGS)
PATH = "/v1/completions"
#: A provider of this many tasks at once.
SLOTS = 4


class Process:
    """A process: a wire, and tasks that end with it."""

    def __init__(self, loop: SteppedLoop, wire: Wire) -> None:
        self.wire = wire
        self._loop = loop
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Any) -> asyncio.Task[Any]:
        """Let the process do something."""
        task = self._loop.create_task(work)
        self._tasks.append(task)
        return task

    def kill(self) -> None:
        """End it at once."""
        self.wire.dead = True
        self.wire.calm()
        for task in self._tasks:
            task.cancel()
        self._loop.settle()


class Gateway(Process):
    """One gateway."""

    def __init__(self, loop: SteppedLoop, wire: Wire, world: World, store: Any, queue: Any) -> None:
        super().__init__(loop, wire)
        self.model = world.model
        registry = MemoryRegistry(wire.clock, silent_seconds=1e9)
        models = [Model(id=world.model, queues=world.urls)]
        provider = ProviderRecord(
            id="p", models=(world.model,), slots=SLOTS, running=0, healthy=True, version="0"
        )
        loop.run_until_complete(registry.put_models(models))
        loop.run_until_complete(registry.put_provider(provider))
        loop.run_until_complete(FleetAggregator(registry, 0.0).aggregate_change())
        stores = replace(
            memory_stores(wire.clock),
            store=Seam(wire, store),
            queue=Seam(wire, queue),
            registry=registry,
        )
        catalogue = Catalogue(registry, NoDepths(), wire.clock, 1e9)  # type: ignore[arg-type]
        parts = assemble(stores, SETTINGS, wire.clock)
        self.submitter = Submitter(replace(parts, catalogue=catalogue))


class NoDepths:
    """Queues that are always empty: their depth is only a reason to refuse a request."""

    async def depth(self, queue: str) -> Depth:
        return Depth(0, 0)


class Client:
    """One request over HTTP, as the ASGI server has it."""

    def __init__(
        self, gateway: Gateway, number: int, *, streamed: bool, again: bool = False, key: str = ""
    ) -> None:
        self.gateway = gateway
        self.streamed = streamed
        self.task: Task | None = None
        self.refused: InferLineError | None = None
        self.status = 0
        self.body = b""
        self.ended = False
        self.gone = False
        self._number = number
        self._again = again
        self._key = key
        self._left = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Say whether nothing more comes to this client, or nobody takes it."""
        return self.ended or self.gone or self.refused is not None or self.gateway.wire.dead

    async def ask(self, reader: Any = None) -> None:
        """Do what the route does; ``reader`` instead of the answer's own."""
        submitter, model = self.gateway.submitter, self.gateway.model
        asked = {"model": model, "prompt": PROMPT, "stream": self.streamed}
        body = json.dumps(asked).encode()
        visit = RequestLog(submitter.parts, PATH, ANYONE)
        visit.payload = read(body)
        try:
            submission = await submitter.prepare(f"t{self._number}", PATH, visit.payload, body)
            how = {"is_retry": self._again, "key": self._key, "is_gone": self._is_gone}
            seat = await repeat.submit(submitter, submission, **how)
        except InferLineError as error:
            self.refused = error
            return
        self.task = visit.task = seat.task
        answer = Answer(
            submitter.parts, seat.task, visit, streamed=self.streamed, joined=seat.joined
        )
        if reader is not None:
            answer._reads.reader = reader(self.task.ref, streamed=self.streamed)
        await answer({}, self._receive, self._send)

    def leave(self) -> None:
        """Close the connection."""
        self.gone = True
        self._left.set()

    async def _is_gone(self) -> bool:
        return self.gone

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        assert not self.ended
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.body += message["body"]
        self.ended = not message.get("more_body")


class WellHealth:
    """The health of a backend that is well."""

    is_healthy = True

    async def check(self) -> None:
        """Find that it is."""

    def doubt(self) -> None:
        """Do nothing."""

    def refuse_key(self) -> None:
        """Do nothing."""


class Host(Process):
    """One provider."""

    def __init__(
        self,
        loop: SteppedLoop,
        wire: Wire,
        world: World,
        store: Any,
        queue: Any,
        backend: Backend,
        name: str,
    ) -> None:
        super().__init__(loop, wire)
        self.backend = backend
        self.leaving = False
        self._url = world.urls["default"]
        self._queue = Seam(wire, queue)
        seam = Seam(wire, store)
        writer = ChunkWriter(
            seam,
            provider=name,
            flush_seconds=TERMS.flush_seconds,
            flush_bytes=TERMS.flush_bytes,
            patience_seconds=0.2,
        )
        self._slots = Slots(SLOTS, wire.clock, lambda: None)
        limits = TERMS.lease_seconds, TERMS.unread_task_seconds, TERMS.cancel_seconds
        self.leases = Leases(seam, self._queue, wire.clock, *limits)
        context = AttemptContext(
            provider=name,
            terms=TERMS,
            clock=wire.clock,
            store=seam,
            queue=self._queue,
            bodies=MemoryObjects(),
            backend=self.backend,  # type: ignore[arg-type]
            writer=writer,
            leases=self.leases,
            failed_tasks=FailedTasks(wire.clock),
            diagnosis=Diagnosis(
                self._slots,
                Breakers(self._slots, wire.clock, lambda: None),
                WellHealth(),  # type: ignore[arg-type]
                None,
            ),
        )
        suspension = Suspension(self._slots, wire.clock, TERMS.lease_seconds)
        self.runner = AttemptRunner(
            context, self._slots, lambda model: None, lambda seconds: None, suspension
        )
        for work in (writer.run, self.leases.renewing, self.leases.watching, self.leases.fencing):
            self.start(work())

    async def receive(self, heard: list[Delivery]) -> None:
        """Take a message, if there is one, and deal with it."""
        if self.leaving or not self._slots.take(1):
            return
        deliveries: list[Delivery] = []
        with suppress(InferLineError):
            deliveries = await self._queue.receive(
                self._url,
                limit=1,
                wait_seconds=0,
                visibility_timeout_seconds=self.leases.visibility_timeout_seconds,
            )
        if not deliveries:
            self._slots.release(1)
        for delivery in deliveries:
            heard.append(delivery)
            self.runner.start(delivery)

    def drain(self) -> None:
        """Have it hand back everything, as SIGTERM does."""
        self.leaving = True
        self.runner.stop()

    def kill(self) -> None:
        self._tasks += self.runner._tasks
        super().kill()
