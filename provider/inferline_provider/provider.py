"""Lifecycle of a provider: wait for the backend, join the gateway, pull tasks, drain, leave."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from inferline.background import first_of
from inferline.clock import Clock, SystemClock
from inferline.fleet.enrolment import Grant
from inferline.tasks.task import Tier
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline_provider.autoslots.gauge import Gauge
from inferline_provider.autoslots.tuner import Tuner
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.client import BackendClient
from inferline_provider.backend.health import BackendHealth
from inferline_provider.backend.slots import Slots
from inferline_provider.batch.batch_work import BatchWork
from inferline_provider.enrolment import (
    GatewayClient,
    GrantedCredentials,
)
from inferline_provider.membership import Membership
from inferline_provider.pauses import PAUSES, Pauses
from inferline_provider.pull.puller import Puller
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.schedule import PollSchedule
from inferline_provider.pull.suspension import Suspension
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.relay.chunks import ChunkWriter
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.diagnosis import Diagnosis
from inferline_provider.serve.failed_tasks import FailedTasks
from inferline_provider.serve.leases import Leases
from inferline_provider.settings import ProviderSettings
from inferline_provider.spot import SpotWatch, watch
from inferline_provider.stopping import Stopping
from inferline_provider.stores import OpenStores, Stores
from inferline_provider.telemetry.attempts import NO_TELEMETRY, Sinks, Telemetry
from inferline_provider.telemetry.speeds import Speeds
from inferline_provider.telemetry.status import OpenSink, ProviderStatus, no_sink

log = logging.getLogger(__name__)

#: Time for handing back once the time for draining is over.
HAND_BACK_SECONDS_MAX: Final = 5.0


async def run(
    settings: ProviderSettings,
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
        provider = ProviderProcess(settings, health, gateway, credentials, clock, pauses)
        sink = await stack.enter_async_context(open_sink(provider.status))
        grant = await first_of(provider.join(), stopping.drain.wait())
        if grant is None:
            return
        if settings.endpoint_url:
            grant = grant.model_copy(update={"endpoint_url": settings.endpoint_url})
        stores = await stack.enter_async_context(open_stores(grant, credentials))
        provider.equip(backend, stores, grant, Telemetry(tracer=tracer, sink=sink))
        await provider.serve(stopping)


class ProviderProcess:
    """The parts of a provider, and what each does when another has changed."""

    def __init__(
        self,
        settings: ProviderSettings,
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
        self._clock = clock
        self._pauses = pauses
        self._slots = Slots(1, clock, self._slots_changed, pauses)
        self._gauge: Gauge | None = None
        self._tuner: Tuner | None = None
        if settings.slots is None:
            self._gauge = Gauge(clock, settings.first_token_seconds, self._speeds)
            self._tuner = Tuner(self._slots, self._gauge, clock)
        self._breakers = Breakers(self._slots, clock, self._slots_changed)
        self._schedule = PollSchedule(lambda model: not self._breakers.is_open(model))
        self._failed_tasks = FailedTasks(clock)
        self._puller: Puller | None = None
        self._runner: AttemptRunner | None = None
        self._batches: BatchWork | None = None
        self._queues: Mapping[str, Mapping[Tier, str]] = {}
        self._membership = Membership(
            settings,
            gateway,
            credentials,
            clock,
            slots=self._slots,
            health=health,
            speeds=self._speeds,
            arrange=self._arrange,
            failed_tasks=self._failed_tasks,
            yield_policies=self._yield_policies,
            running=self._running,
        )

    def status(self) -> ProviderStatus:
        """Return the present status."""
        used = self._slots.used + (self._batches.feed.running if self._batches else 0)
        return ProviderStatus(self._slots.limit, used, self._health.is_healthy)

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
        return await self._membership.join()

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
        bounds = terms.lease_seconds, terms.unread_task_seconds, terms.cancel_seconds
        self._leases = Leases(stores.store, stores.queue, self._clock, *bounds)
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
        suspension = Suspension(self._slots, self._clock, terms.lease_seconds)
        self._runner = AttemptRunner(
            context, self._slots, self._schedule.note_model, self._speeds.served, suspension
        )
        self._batches = BatchWork(
            *(context, stores.objects, self._slots, self._schedule.note_model),
            fill_share=self._settings.fill_slots,
            poll_seconds=self._settings.poll_seconds,
        )
        self._batches.arrange(self._queues)
        self._puller = self._make_puller(stores, self._runner, suspension)

    def _make_puller(self, stores: Stores, runner: AttemptRunner, suspension: Suspension) -> Puller:
        return Puller(
            stores.queue,
            self._schedule,
            self._slots,
            runner,
            suspension,
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
        assert self._batches is not None
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
                    *self._batches.parts(),
                )
            ]
            if self._tuner is not None:
                work.append(parts.create_task(self._tuner.run(self._backend.waiting)))
            heartbeat = parts.create_task(self._membership.stay(self._terms.enrol_seconds))
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
        assert self._batches is not None
        seconds = self._settings.drain_seconds
        if stopping.seconds_max is not None:
            seconds = stopping.seconds_max
        log.info("Draining. running=%d seconds_max=%g", self._running(), seconds)
        self._puller.set_open(False)
        leaving = asyncio.create_task(self._membership.leave())
        work = asyncio.gather(
            self._runner.wait(seconds), self._puller.drain(seconds), self._batches.drain(seconds)
        )
        await first_of(work, stopping.now.wait())
        self._runner.stop()
        done = all(
            await asyncio.gather(
                self._runner.wait(HAND_BACK_SECONDS_MAX), self._batches.stop(HAND_BACK_SECONDS_MAX)
            )
        )
        await leaving
        log.log(logging.INFO if done else logging.WARNING, "Stopped. handed_back_all=%s", done)

    def _running(self) -> int:
        """Return the number of requests and lines at the backend."""
        requests = self._runner.running if self._runner else 0
        return requests + (self._batches.feed.running if self._batches else 0)

    def _arrange(self, queues: Mapping[str, Mapping[Tier, str]]) -> None:
        self._queues = queues
        self._schedule.arrange(queues)
        if self._batches is not None and self._puller is not None:
            self._batches.arrange(queues)
            self._puller.poke()

    def _slots_changed(self) -> None:
        if self._puller is not None:
            self._puller.poke()
            self._membership.slots_changed()

    def _make_room(self) -> None:
        """Set the number of slots, or have the tuner begin with the capacity that was read."""
        if self._tuner is None:
            self._slots.resize(self._health.room.slots)
        else:
            self._tuner.know(self._health.room)

    def _health_changed(self) -> None:
        assert self._puller is not None
        assert self._batches is not None
        self._make_room()
        self._puller.set_open(self._health.is_healthy)
        self._batches.set_open(self._health.is_healthy)
        self._membership.changed()
