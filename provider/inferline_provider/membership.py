"""Membership at the gateway: what this provider reports, and what it does with each grant."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from inferline import __version__
from inferline.clock import Clock
from inferline.fleet.enrolment import TOKENS_PER_SECOND_MAX, Enrolment, Grant
from inferline.names import base_name
from inferline.tasks.task import Tier
from inferline_provider.backend.health import BackendHealth
from inferline_provider.backend.slots import Slots
from inferline_provider.enrolment import (
    Enroller,
    GatewayClient,
    GatewayUnreachable,
    GrantedCredentials,
)
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.serve.failed_tasks import FailedTasks
from inferline_provider.settings import ProviderSettings
from inferline_provider.telemetry.speeds import Speeds

log = logging.getLogger(__name__)

#: Automatic slots are reported at once when they have changed by this factor; smaller changes, such
#: as those of trials, wait for the next heartbeat.
REPORT_FACTOR: Final = 1.5


class Membership:
    """The reports of a provider, and the grants that come back; `arrange` gets their queues."""

    def __init__(
        self,
        settings: ProviderSettings,
        gateway: GatewayClient,
        credentials: GrantedCredentials,
        clock: Clock,
        *,
        slots: Slots,
        health: BackendHealth,
        speeds: Speeds,
        arrange: Callable[[Mapping[str, Mapping[Tier, str]]], None],
        failed_tasks: FailedTasks,
        yield_policies: YieldPolicies,
        running: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._credentials = credentials
        self._slots = slots
        self._health = health
        self._speeds = speeds
        self._arrange = arrange
        self._failed_tasks = failed_tasks
        self._yield_policies = yield_policies
        self._running = running
        self._enroller = Enroller(
            gateway, clock, self._report, self._granted, lambda: credentials.due_seconds
        )
        credentials.on_expired = self._enroller.changed
        self._reported_slots = 0
        self._models: list[str] = []

    async def join(self) -> Grant:
        """Enrol for the first time, for as long as it takes. Raises EnrolmentRefused."""
        grant = await self._enroller.join()
        self._granted(grant)
        return grant

    async def stay(self, enrol_seconds: float) -> None:
        """Enrol again and again, for ever. Raises ProviderQuarantined."""
        await self._enroller.run(enrol_seconds)

    async def leave(self) -> None:
        """Tell the gateway that this provider leaves, if it answers."""
        try:
            await self._gateway.leave(self._settings.id)
        except GatewayUnreachable as error:
            log.warning("The gateway could not be told that we leave: %s", error)

    def changed(self) -> None:
        """Report soon: something has changed."""
        self._enroller.changed()

    def slots_changed(self) -> None:
        """Report soon if the number of slots has changed enough."""
        slots, reported = self._slots.limit, self._reported_slots
        if self._settings.slots is not None:
            is_urgent = slots < reported
        else:
            is_urgent = not reported / REPORT_FACTOR < slots < reported * REPORT_FACTOR
        if is_urgent:
            self._enroller.changed()

    def _report(self) -> Enrolment:
        self._reported_slots = self._slots.limit
        models = self._health.models
        self._speeds.keep({model.id for model in models})
        return Enrolment(
            id=self._settings.id,
            version=__version__,
            slots=self._reported_slots,
            running=self._running(),
            healthy=not self._health.reason,
            service_seconds=self._speeds.service_seconds,
            tokens_per_second=min(self._speeds.tokens_per_second(), TOKENS_PER_SECOND_MAX),
            reason=self._health.reason,
            models=list(models),
            speeds=self._speeds.tasks(),
            credentials=self._credentials.ask(model.id for model in models),
            takes_reserved=not self._credentials.own,
            takes_batches=True,
        )

    def _granted(self, grant: Grant) -> None:
        self._credentials.take(grant)
        self._failed_tasks.set_peers(grant.peers)
        self._yield_policies.update(grant.faster, self._speeds.task_seconds)
        self._show_alive()
        offered = {model.id for model in self._health.models}
        self._arrange(
            {
                name: tiers
                for name, tiers in grant.queues.items()
                if base_name(name) in offered and self._credentials.open(name)
            }
        )
        if self._credentials.is_behind:
            self._enroller.changed()
        models = sorted(offered & set(grant.queues))
        if models != self._models:
            self._models = models
            log.info(
                "Enrolled. gateway=%s provider=%s slots=%d models=%s",
                self._settings.base_url,
                self._settings.id,
                self._slots.limit,
                ",".join(models),
            )

    def _show_alive(self) -> None:
        """Touch the file that a health check reads; a failure stops no work."""
        if self._settings.alive_file is None or not self._health.is_healthy:
            return
        try:
            self._settings.alive_file.touch()
        except OSError as error:
            log.warning("%s can't be touched: %s", self._settings.alive_file, error.strerror)
