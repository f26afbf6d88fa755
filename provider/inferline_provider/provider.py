"""A provider's life: wait for the backend, join the gateway, pull tasks, drain and leave."""

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
from inferline_provider.pull.puller import Puller
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.schedule import PollSchedule
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.relay.chunks import ChunkWriter
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.diagnosis import Diagnosis
from inferline_provider.serve.failed_tasks import FailedTasks
from inferline_provider.serve.leases import Leases
from inferline_provider.settings import ProviderSettings
from inferline_provider.spot import SpotWatch, watch
from inferline_provider.telemetry.attempts import (
    UNTOLD,
    ProviderStatus,
    Telemetry,
    TelemetrySink,
    Watchers,
)
from inferline_provider.telemetry.speed import Speed
from inferline_provider.telemetry.task_speed import TaskSpeeds

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Slots that are found, not set, are told at once when they have changed by this factor; smaller
#: changes, as of trials, go with the next heartbeat.
NEWS_FACTOR: Final = 1.5
#: How long handing back may take once the time for draining is over.
HAND_BACK_SECONDS_MAX: Final = 5.0


class Stores(Protocol):
    """Where tasks are and wait."""

    @property
    def store(self) -> TaskStore:
        """Of tasks."""

    @property
    def queue(self) -> TaskQueue:
        """Of messages."""

    @property
    def bodies(self) -> BodyStore:
        """Of large bodies."""


OpenStores = Callable[[Grant, GrantedCredentials], AbstractAsyncContextManager[Stores]]


class Stopping:
    """What was asked of the process: to drain, and when asked again, to hand back at once."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.now = asyncio.Event()

        #: How long draining may take at the most, whatever the settings say; None: as they say.
        self.seconds_max: float | None = None

    def ask(self) -> None:
        """Ask to stop; a second time, to stop now."""
        (self.now if self.drain.is_set() else self.drain).set()

    def ask_within(self, seconds: float) -> None:
        """Ask to stop because the host ends: what runs may take so long, be it more or less."""
        if not self.drain.is_set():
            self.seconds_max = seconds
            self.drain.set()


async def run(
    settings: ProviderSettings,
    open_stores: OpenStores,
    stopping: Stopping,
    clock: Clock | None = None,
    telemetry: Telemetry = UNTOLD,
) -> None:
    """
    Be a provider until `stopping` asks to stop.

    Raises EnrolmentRefused when the gateway does not want us, and an ExceptionGroup when a part of
    the provider has died: it must not limp on without.
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
        provider = Provider(settings, health, gateway, credentials, clock, telemetry)
        grant = await _unless(stopping.drain, provider.join())
        if grant is None:
            return
        if settings.endpoint_url:
            grant = grant.model_copy(update={"endpoint_url": settings.endpoint_url})
        stores = await stack.enter_async_context(open_stores(grant, credentials))
        provider.equip(backend, stores, grant)
        await provider.serve(stopping)


class Provider:
    """The parts of a provider and how they tell each other what has changed."""

    def __init__(
        self,
        settings: ProviderSettings,
        health: BackendHealth,
        gateway: GatewayClient,
        credentials: GrantedCredentials,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._speed = Speed(clock)
        self._task_speeds = TaskSpeeds()
        self._handicaps = YieldPolicies()
        self._health = health
        self._gateway = gateway
        self._credentials = credentials
        self._clock = clock
        self._slots = Slots(1, clock, self._slots_changed)
        watchers: list[TelemetrySink] = [telemetry.watcher, self._speed, self._task_speeds]
        self._tuner: Tuner | None = None
        if settings.slots is None:
            gauge = Gauge(clock, settings.first_token_seconds)
            self._tuner = Tuner(self._slots, gauge, clock)
            watchers.append(gauge)
        self._telemetry = replace(telemetry, watcher=Watchers(*watchers))
        self._breakers = Breakers(self._slots, clock, self._slots_changed)
        self._rota = PollSchedule(lambda model: not self._breakers.is_open(model))
        self._passes = FailedTasks(clock)
        self._enroller = Enroller(
            gateway, clock, self._tell, self._granted, lambda: credentials.due_seconds
        )
        credentials.on_expired = self._enroller.changed
        self._puller: Puller | None = None
        self._crew: AttemptRunner | None = None
        self._told_slots = 0
        self._told_models: list[str] = []
        telemetry.watcher.watch(self.standing)

    def standing(self) -> ProviderStatus:
        """How it stands now."""
        return ProviderStatus(self._slots.limit, self._slots.used, self._health.is_healthy)

    async def join(self) -> Grant:
        """
        Wait for the gateway, which hears why if the backend can't work. Raises EnrolmentRefused.
        """
        await self._health.look()
        if self._health.reason:
            address, why = self._settings.backend, self._health.reason
            log.warning("Waiting for the backend: %s address=%s", why, address)
        self._make_room()
        grant = await self._enroller.join()
        self._granted(grant)
        return grant

    def equip(self, backend: BackendClient, stores: Stores, grant: Grant) -> None:
        """Make the parts that need the stores."""
        terms = grant.terms
        self._terms, self._backend = terms, backend
        self._leases = Leases(
            stores.store,
            stores.queue,
            self._clock,
            terms.lease_seconds,
            terms.unread_task_seconds,
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
            passes=self._passes,
            diagnosis=Diagnosis(self._slots, self._breakers, self._health, self._tuner),
            telemetry=self._telemetry,
        )
        self._crew = AttemptRunner(context, self._slots, self._rota.ran)
        self._puller = Puller(
            stores.queue,
            self._rota,
            self._slots,
            self._crew,
            self._clock,
            self._handicaps,
            self._passes,
            self._breakers,
            stores.store.now_ms,
            poll_seconds=self._settings.poll_seconds,
            visibility_timeout_seconds=self._leases.visibility_timeout_seconds,
        )

    async def serve(self, stopping: Stopping) -> None:
        """Work until asked to stop, then drain. Raises ExceptionGroup when a part has died."""
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
            # From here on nothing may say again that we are there.
            heartbeat.cancel()
            await self._drain(stopping)
            for part in work:
                part.cancel()

    async def _drain(self, stopping: Stopping) -> None:
        """Stop pulling, leave, finish what fits, hand back the rest."""
        assert self._puller is not None
        assert self._crew is not None
        seconds = self._settings.drain_seconds
        if stopping.seconds_max is not None:
            seconds = stopping.seconds_max
        log.info("Draining. running=%d seconds_max=%g", self._crew.running, seconds)
        self._puller.set_open(False)
        leaving = asyncio.create_task(self._leave())
        work = asyncio.gather(self._crew.wait(seconds), self._puller.drain(seconds))
        await _unless(stopping.now, work)
        self._crew.stop()
        done = await self._crew.wait(HAND_BACK_SECONDS_MAX)
        await leaving
        log.log(logging.INFO if done else logging.WARNING, "Stopped. handed_back_all=%s", done)

    async def _leave(self) -> None:
        try:
            await self._gateway.leave(self._settings.id)
        except GatewayUnreachable as error:
            log.warning("The gateway was not told that we leave: %s", error)

    def _tell(self) -> Enrolment:
        self._told_slots = self._slots.limit
        self._task_speeds.keep({model.id for model in self._health.models})
        return Enrolment(
            id=self._settings.id,
            version=__version__,
            slots=self._told_slots,
            running=self._crew.running if self._crew else 0,
            healthy=not self._health.reason,
            service_seconds=self._crew.service_seconds if self._crew else 0.0,
            tokens_per_second=min(self._speed.tokens_per_second(), TOKENS_PER_SECOND_MAX),
            reason=self._health.reason,
            models=list(self._health.models),
            speeds=self._task_speeds.told(),
            credentials=self._credentials.ask(model.id for model in self._health.models),
            takes_reserved=not self._credentials.own,
        )

    def _granted(self, grant: Grant) -> None:
        settings = self._settings
        self._credentials.take(grant)
        self._passes.know(grant.peers)
        self._handicaps.know(grant.faster, self._task_speeds.seconds)
        self._show_alive()
        offered = {model.id for model in self._health.models}
        self._rota.arrange(
            {
                name: tiers
                for name, tiers in grant.queues.items()
                if base_name(name) in offered and self._credentials.open(name)
            }
        )
        if self._credentials.is_behind:
            self._enroller.changed()
        models = sorted(offered & set(grant.queues))
        if models != self._told_models:
            self._told_models = models
            log.info(
                "Enrolled. gateway=%s provider=%s slots=%d models=%s",
                *(settings.base_url, settings.id, self._slots.limit, ",".join(models)),
            )
        if self._puller is not None:
            self._puller.poke()

    def _show_alive(self) -> None:
        """Touch the file that a health check looks at; work goes on without it."""
        if self._settings.alive_file is None or not self._health.is_healthy:
            return
        try:
            self._settings.alive_file.touch()
        except OSError as error:
            log.warning("%s can't be touched: %s", self._settings.alive_file, error.strerror)

    def _slots_changed(self) -> None:
        if self._puller is not None:
            self._puller.poke()
            if self._is_news(self._slots.limit, self._told_slots):
                self._enroller.changed()

    def _is_news(self, slots: int, told: int) -> bool:
        """Whether the gateway should hear at once of another number of slots."""
        if self._tuner is None:
            return slots < told
        return not told / NEWS_FACTOR < slots < told * NEWS_FACTOR

    def _make_room(self) -> None:
        """Have the slots that are set, or find from what the backend tells how many it is worth."""
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
