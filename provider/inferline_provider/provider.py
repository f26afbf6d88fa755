"""Lifecycle of a provider: wait for the backend, join the gateway, pull tasks, drain, leave."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from inferline import __version__
from inferline.clock import Clock, SystemClock
from inferline.fleet.enrolment import TOKENS_PER_SECOND_MAX, Enrolment, Grant
from inferline.names import base_name
from inferline.tasks.bodies import BodyStore
from inferline.tasks.queue import TaskQueue
from inferline.tasks.store import TaskStore
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline_provider.autoslots.gauge import Gauge
from inferline_provider.autoslots.tuner import Tuner
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.client import BackendClient
from inferline_provider.backend.health import BackendHealth
from inferline_provider.backend.slots import Slots
from inferline_provider.enrolment import (
    Enroller,
    GatewayClient,
    GatewayUnreachable,
    GrantedCredentials,
)
from inferline_provider.pauses import PAUSES, Pauses
from inferline_provider.pull.puller import Puller
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.schedule import PollSchedule
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.relay.chunks import ChunkWriter
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.diagnosis import Diagnosis
from inferline_provider.serve.failed_tasks import FailedTasks
from inferline_provider.serve.leases import Leases
from inferline_provider.settings import Settings
from inferline_provider.spot import SpotWatch, watch
from inferline_provider.telemetry.attempts import NO_TELEMETRY, Sinks, Telemetry
from inferline_provider.telemetry.speeds import Speeds
from inferline_provider.telemetry.status import OpenSink, ProviderStatus, no_sink

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Automatic slots are reported at once when they have changed by this factor; smaller changes, such
#: as those of trials, wait for the next heartbeat.
REPORT_FACTOR: Final = 1.5
#: Time for handing back once the time for draining is over.
HAND_BACK_SECONDS_MAX: Final = 5.0


class Stores(Protocol):
    """The stores and queues that a provider works with."""

    @property
    def store(self) -> TaskStore:
        """The rows of tasks."""

    @property
    def queue(self) -> TaskQueue:
        """The queues of messages."""

    @property
    def bodies(self) -> BodyStore:
        """The large bodies."""


OpenStores = Callable[[Grant, GrantedCredentials], AbstractAsyncContextManager[Stores]]


class Stopping:
    """Requests to stop: the first to drain, the second to hand back at once."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.now = asyncio.Event()
        #: The longest time for draining, whatever the settings say; None: as they say.
        self.seconds_max: float | None = None

    def ask(self) -> None:
        """Ask to stop; a second time, to stop now."""
        (self.now if self.drain.is_set() else self.drain).set()

    def ask_within(self, seconds: float) -> None:
        """Ask to stop because the host ends: running tasks have this time to finish."""
        if not self.drain.is_set():
            self.seconds_max = seconds
            self.drain.set()


async def run(
    settings: Settings,
    open_stores: OpenStores,
    stopping: Stopping,
    clock: Clock | None = None,
    tracer: Tracer = NO_TRACER,
    open_sink: OpenSink = no_sink,
    pauses: Pauses = PAUSES,
) -> None:
    """
    Run a provider until `stopping` asks to stop.

    Raises EnrolmentRefused when the gateway refuses us, and an ExceptionGroup when a part of the
    provider has failed: it can't work without.
    """
    clock = clock or SystemClock()
    credentials = GrantedCredentials(clock, own=settings.own_credentials)
    async with AsyncExitStack() as stack:
        if settings.metadata_endpoint:
            spot = SpotWatch(settings.metadata_endpoint, clock, time.time)
            watching = asyncio.create_task(watch(spot, stopping.ask_within))
            stack.callback(watching.cancel)
        proxies = settings.proxies
        backend = await stack.enter_async_context(
            BackendClient(settings.backend, settings.backend_key, proxies)
        )
        gateway = await stack.enter_async_context(
            GatewayClient(settings.base_url, settings.token, proxies)
        )
        health = BackendHealth(backend, settings, clock)
        provider = Provider(settings, health, gateway, credentials, clock, pauses)
        sink = await stack.enter_async_context(open_sink(provider.status))
        grant = await _unless(stopping.drain, provider.join())
        if grant is None:
            return
        if settings.endpoint_url:
            grant = grant.model_copy(update={"endpoint_url": settings.endpoint_url})
        stores = await stack.enter_async_context(open_stores(grant, credentials))
        provider.equip(backend, stores, grant, Telemetry(tracer=tracer, sink=sink))
        await provider.serve(stopping)


class Provider:
    """The parts of a provider, and what each does when another has changed."""

    def __init__(
        self,
        settings: Settings,
        health: BackendHealth,
        gateway: GatewayClient,
        credentials: GrantedCredentials,
        clock: Clock,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._settings = settings
        self._speeds = Speeds(clock)
        self._yield_policies = YieldPolicies()
        self._health = health
        self._gateway = gateway
        self._credentials = credentials
        self._clock = clock
        self._pauses = pauses
        self._slots = Slots(1, clock, self._slots_changed, pauses)
        self._gauge: Gauge | None = None
        self._tuner: Tuner | None = None
        if settings.slots is None:
            self._gauge = Gauge(clock, settings.first_token_seconds)
            self._tuner = Tuner(self._slots, self._gauge, clock)
        self._breakers = Breakers(self._slots, clock, self._slots_changed)
        self._schedule = PollSchedule(lambda model: not self._breakers.is_open(model))
        self._failed_tasks = FailedTasks(clock)
        self._enroller = Enroller(
            gateway, clock, self._report, self._granted, lambda: credentials.due_seconds
        )
        credentials.on_expired = self._enroller.changed
        self._puller: Puller | None = None
        self._runner: AttemptRunner | None = None
        self._reported_slots = 0
        self._reported_models: list[str] = []

    def status(self) -> ProviderStatus:
        """Return the present status."""
        return ProviderStatus(self._slots.limit, self._slots.used, self._health.is_healthy)

    async def join(self) -> Grant:
        """
        Wait until the gateway takes the enrolment, with the reason if the backend can't work.

        Raises EnrolmentRefused.
        """
        await self._health.check()
        if self._health.reason:
            address, reason = self._settings.backend, self._health.reason
            log.warning("Waiting for the backend: %s address=%s", reason, address)
        self._make_room()
        grant = await self._enroller.join()
        self._granted(grant)
        return grant

    def equip(
        self,
        backend: BackendClient,
        stores: Stores,
        grant: Grant,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        """Make the parts that need the stores."""
        terms = grant.terms
        sinks = [telemetry.sink, self._speeds, *([self._gauge] if self._gauge else [])]
        self._terms, self._backend = terms, backend
        self._leases = Leases(
            stores.store,
            stores.queue,
            self._clock,
            terms.lease_seconds,
            terms.orphan_seconds,
            terms.cancel_seconds,
        )
        self._writer = ChunkWriter(
            stores.store,
            provider=self._settings.id,
            flush_seconds=terms.flush_seconds,
            flush_bytes=terms.flush_bytes,
            patience_seconds=terms.lease_seconds / 2,
        )
        context = AttemptContext(
            provider=self._settings.id,
            terms=terms,
            clock=self._clock,
            store=stores.store,
            queue=stores.queue,
            bodies=stores.bodies,
            backend=backend,
            writer=self._writer,
            leases=self._leases,
            aliases=self._settings.aliases,
            failed_tasks=self._failed_tasks,
            diagnosis=Diagnosis(self._slots, self._breakers, self._health, self._tuner),
            telemetry=replace(telemetry, sink=Sinks(*sinks)),
            pauses=self._pauses,
        )
        self._runner = AttemptRunner(context, self._slots, self._schedule.note_model)
        self._puller = Puller(
            stores.queue,
            self._schedule,
            self._slots,
            self._runner,
            self._clock,
            self._yield_policies,
            self._failed_tasks,
            self._breakers,
            stores.store.now_ms,
            poll_seconds=self._settings.poll_seconds,
            visibility_timeout_seconds=self._leases.visibility_timeout_seconds,
        )

    async def serve(self, stopping: Stopping) -> None:
        """Work until asked to stop, then drain. Raises ExceptionGroup when a part has failed."""
        assert self._puller is not None
        self._health.on_change = self._health_changed
        self._health_changed()
        async with asyncio.TaskGroup() as parts:
            work = [
                parts.create_task(coroutine)
                for coroutine in (
                    self._health.run(),
                    self._puller.run(),
                    self._writer.run(),
                    self._leases.renewing(),
                    self._leases.watching(),
                    self._leases.fencing(),
                )
            ]
            if self._tuner is not None:
                work.append(parts.create_task(self._tuner.run(self._backend.waiting)))
            heartbeat = parts.create_task(self._enroller.run(self._terms.enrol_seconds))
            await stopping.drain.wait()
            # From here on nothing may enrol again.
            heartbeat.cancel()
            await self._drain(stopping)
            for part in work:
                part.cancel()

    async def _drain(self, stopping: Stopping) -> None:
        """Stop pulling, leave, finish what fits, hand back the rest."""
        assert self._puller is not None
        assert self._runner is not None
        seconds = self._settings.drain_seconds
        if stopping.seconds_max is not None:
            seconds = stopping.seconds_max
        log.info("Draining. running=%d seconds_max=%g", self._runner.running, seconds)
        self._puller.set_open(False)
        leaving = asyncio.create_task(self._leave())
        work = asyncio.gather(self._runner.wait(seconds), self._puller.drain(seconds))
        await _unless(stopping.now, work)
        self._runner.stop()
        done = await self._runner.wait(HAND_BACK_SECONDS_MAX)
        await leaving
        log.log(logging.INFO if done else logging.WARNING, "Stopped. handed_back_all=%s", done)

    async def _leave(self) -> None:
        try:
            await self._gateway.leave(self._settings.id)
        except GatewayUnreachable as error:
            log.warning("The gateway could not be told that we leave: %s", error)

    def _report(self) -> Enrolment:
        self._reported_slots = self._slots.limit
        self._speeds.keep({model.id for model in self._health.models})
        return Enrolment(
            id=self._settings.id,
            version=__version__,
            slots=self._reported_slots,
            running=self._runner.running if self._runner else 0,
            healthy=not self._health.reason,
            service_seconds=self._speeds.service_seconds,
            tokens_per_second=min(self._speeds.tokens_per_second(), TOKENS_PER_SECOND_MAX),
            reason=self._health.reason,
            models=list(self._health.models),
            speeds=self._speeds.tasks(),
            credentials=self._credentials.ask(model.id for model in self._health.models),
            takes_reserved=not self._credentials.own,
        )

    def _granted(self, grant: Grant) -> None:
        settings = self._settings
        self._credentials.take(grant)
        self._failed_tasks.set_peers(grant.peers)
        self._yield_policies.update(grant.faster, self._speeds.task_seconds)
        self._show_alive()
        offered = {model.id for model in self._health.models}
        self._schedule.arrange(
            {
                name: tiers
                for name, tiers in grant.queues.items()
                if base_name(name) in offered and self._credentials.open(name)
            }
        )
        if self._credentials.is_behind:
            self._enroller.changed()
        models = sorted(offered & set(grant.queues))
        if models != self._reported_models:
            self._reported_models = models
            log.info(
                "Enrolled. gateway=%s provider=%s slots=%d models=%s",
                *(settings.base_url, settings.id, self._slots.limit, ",".join(models)),
            )
        if self._puller is not None:
            self._puller.poke()

    def _show_alive(self) -> None:
        """Touch the file that a health check reads; a failure stops no work."""
        if self._settings.alive_file is None or not self._health.is_healthy:
            return
        try:
            self._settings.alive_file.touch()
        except OSError as error:
            log.warning("%s can't be touched: %s", self._settings.alive_file, error.strerror)

    def _slots_changed(self) -> None:
        if self._puller is not None:
            self._puller.poke()
            if self._is_urgent(self._slots.limit, self._reported_slots):
                self._enroller.changed()

    def _is_urgent(self, slots: int, reported: int) -> bool:
        """Say whether a new number of slots is reported at once."""
        if self._tuner is None:
            return slots < reported
        return not reported / REPORT_FACTOR < slots < reported * REPORT_FACTOR

    def _make_room(self) -> None:
        """Set the number of slots, or have the tuner begin with the capacity that was read."""
        if self._tuner is None:
            self._slots.resize(self._health.room.slots)
        else:
            self._tuner.know(self._health.room)

    def _health_changed(self) -> None:
        assert self._puller is not None
        self._make_room()
        self._puller.set_open(self._health.is_healthy)
        self._enroller.changed()


async def _unless(event: asyncio.Event, doing: Awaitable[T]) -> T | None:
    """Return what `doing` returns, or None, with it cancelled, when the event comes first."""
    task = asyncio.ensure_future(doing)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        waiting.cancel()
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return None
