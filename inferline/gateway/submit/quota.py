"""Quotas: what a request reserves of its key's and its tenant's limits while it is under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.limits import Limits, default_limits
from inferline.accounts.rate_counters import CounterStore, Owner, RateCounters, Refusal, Reservation
from inferline.clock import Clock
from inferline.errors import Unavailable
from inferline.expiring import ExpiringMap
from inferline.gateway.submit.estimate import tokens_of
from inferline.gateway.submit.rates import LimitHit, Rate, headers, rates
from inferline.settings import Settings
from inferline.validation.payload import Payload

log = logging.getLogger(__name__)

#: Pauses between tries to release a reservation, seconds. The AWS client also retries each try.
RELEASE_PAUSES_SECONDS: Final = (0.2, 1.0, 5.0)
#: How long a stopping process, or a Lambda call before it returns, waits for releases, seconds.
RELEASE_WAIT_SECONDS_MAX: Final = 2.0
#: For so long this process repeats a refusal without asking the store, unless it releases something
#: here. So one refused client cannot overload a row that others need.
REFUSED_SECONDS: Final = 1.0
#: Keys and tenants whose refusals are remembered.
REFUSED_MAX: Final = 10_000

Closing = Callable[[Reservation], Awaitable[None]]


class Quotas:
    """Reserves for requests, and releases in the background."""

    def __init__(self, store: CounterStore, settings: Settings, clock: Clock) -> None:
        self.meters = RateCounters(store, settings.request_seconds_max)
        self._settings = settings
        self._clock = clock
        self._defaults = {
            "key": default_limits(settings, "key"),
            "tenant": default_limits(settings, "tenant"),
        }
        self._closings: set[asyncio.Task[None]] = set()
        #: Refusals that still hold, oldest first.
        self._refused = ExpiringMap[Owner, LimitHit](REFUSED_MAX, clock.monotonic, REFUSED_SECONDS)

    async def reserve(
        self, caller: Caller, path: str, payload: Payload, body: bytes
    ) -> RequestReservation:
        """
        Reserve what a request may use of its key's and its tenant's limits.

        Raises LimitReached and Unavailable; then nothing is reserved. Without limits, and where no
        keys are needed, nothing is written.
        """
        reservation = RequestReservation(self)
        owners = self._owners(caller)
        tokens = tokens_of(path, payload, body, self._settings) if owners else 0
        self._check_refused(owners, tokens)
        try:
            for owner, limits in owners:
                await reservation.add(owner, limits, tokens)
        except BaseException:
            reservation.undo()
            raise
        return reservation

    def refused(self, reached: LimitHit) -> None:
        """Remember a refusal for `REFUSED_SECONDS`."""
        self._refused.put(reached.owner, reached)

    def close(self, hold: Reservation, closing: Closing) -> None:
        """Close a reservation in the background."""
        task = asyncio.get_running_loop().create_task(self._closed(hold, closing))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def flush(self) -> None:
        """Return once everything is released, or after `RELEASE_WAIT_SECONDS_MAX`."""
        if self._closings:
            await asyncio.wait(set(self._closings), timeout=RELEASE_WAIT_SECONDS_MAX)

    async def _closed(self, hold: Reservation, closing: Closing) -> None:
        for pause in (*RELEASE_PAUSES_SECONDS, None):
            try:
                await closing(hold)
                self._refused.pop(hold.owner)  # There is room again.
                return
            except Unavailable:
                if pause is not None:
                    await self._clock.sleep(pause)
        log.warning(
            "a reservation of a %s could not be released; it stays charged until its window ends",
            hold.owner.kind,
        )

    def _check_refused(self, owners: list[tuple[Owner, Limits]], tokens: int) -> None:
        """Raise LimitReached if an owner was refused just now, and as much is requested again."""
        for owner, limits in owners:
            reached = self._refused.get(owner)
            if reached is None:
                continue
            now_ms = self.meters.now_ms()
            if reached.holds(limits, tokens, now_ms):
                raise reached.error(now_ms, headers(list(reached.rates(now_ms))))

    def _owners(self, caller: Caller) -> list[tuple[Owner, Limits]]:
        """Return the owners with limits, and their limits: the key first."""
        if not caller.key_id:
            return []
        every = (
            (Owner("key", caller.key_id), caller.limits.over(self._defaults["key"])),
            (Owner("tenant", caller.tenant), caller.tenant_limits.over(self._defaults["tenant"])),
        )
        return [(owner, limits) for owner, limits in every if limits.exist]


class RequestReservation:
    """The reservations of one request. Only the first `settle` or `undo` has an effect."""

    def __init__(self, quotas: Quotas) -> None:
        #: Open requests of its tenant, this one included; 0 where they are not counted.
        self.open = 0
        self._quotas = quotas
        self._holds: list[Reservation] = []
        self._rates: list[Rate] = []

    @property
    def headers(self) -> dict[str, str]:
        """Return the response headers with the state of the limits."""
        return headers(self._rates)

    async def add(self, owner: Owner, limits: Limits, tokens: int) -> None:
        """Reserve of one owner's limits. Raises LimitReached and Unavailable."""
        meters = self._quotas.meters
        got, now_ms = await meters.reserve(owner, limits, tokens), meters.now_ms()
        self._rates += rates(limits, got.meter, now_ms)
        if isinstance(got, Refusal):
            reached = LimitHit(owner, limits, got.limit, got.meter, tokens)
            self._quotas.refused(reached)
            raise reached.error(now_ms, self.headers)
        self._holds.append(got)
        if owner.kind == "tenant":
            self.open = got.meter.open

    def settle(self, tokens: int | None) -> None:
        """Charge what the request used; None: as much as was reserved."""
        meters = self._quotas.meters

        async def closing(hold: Reservation) -> None:
            await meters.settle(hold, hold.tokens if tokens is None else tokens)

        self._close(closing)

    def undo(self) -> None:
        """Release everything: the request came to nothing."""
        self._close(self._quotas.meters.undo)

    def _close(self, closing: Closing) -> None:
        holds, self._holds = self._holds, []
        for hold in holds:
            self._quotas.close(hold, closing)
