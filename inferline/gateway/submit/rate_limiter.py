"""Reserves of a key's and its tenant's limits for each request while it is under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.limits import Limits, default_limits
from inferline.accounts.rate_counters import (
    CounterStore,
    LimitOwner,
    RateCounters,
    Refusal,
    Reservation,
)
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

Release = Callable[[Reservation], Awaitable[None]]


class RateLimiter:
    """The limits of keys and tenants: reserves for requests, and releases in the background."""

    def __init__(self, store: CounterStore, settings: Settings, clock: Clock) -> None:
        self.rate_counters = RateCounters(store, settings.request_seconds_max)
        self._settings = settings
        self._clock = clock
        self._defaults = {
            "key": default_limits(settings, "key"),
            "tenant": default_limits(settings, "tenant"),
        }
        self._releases: set[asyncio.Task[None]] = set()
        #: Refusals that still hold, oldest first.
        self._refused = ExpiringMap[LimitOwner, LimitHit](
            REFUSED_MAX, clock.monotonic, REFUSED_SECONDS
        )

    async def reserve(
        self, caller: Caller, path: str, payload: Payload, body: bytes
    ) -> RequestReservation:
        """
        Reserve what a request may use of its key's and its tenant's limits.

        Raises RateLimitReached and Unavailable; then nothing is reserved. Without limits, and where
        no keys are needed, nothing is written.
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

    def remember_refusal(self, hit: LimitHit) -> None:
        """Remember a refusal for `REFUSED_SECONDS`."""
        self._refused.put(hit.owner, hit)

    def release_later(self, reservation: Reservation, release: Release) -> None:
        """Release a reservation in the background, and try again where that fails."""
        task = asyncio.get_running_loop().create_task(self._release(reservation, release))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def flush(self) -> None:
        """Return once everything is released, or after `RELEASE_WAIT_SECONDS_MAX`."""
        if self._releases:
            await asyncio.wait(set(self._releases), timeout=RELEASE_WAIT_SECONDS_MAX)

    async def _release(self, reservation: Reservation, release: Release) -> None:
        for pause in (*RELEASE_PAUSES_SECONDS, None):
            try:
                await release(reservation)
                self._refused.pop(reservation.owner)  # There is room again.
                return
            except Unavailable:
                if pause is not None:
                    await self._clock.sleep(pause)
        log.warning(
            "a reservation of a %s could not be released; it stays charged until its window ends",
            reservation.owner.kind,
        )

    def _check_refused(self, owners: list[tuple[LimitOwner, Limits]], tokens: int) -> None:
        """Raise RateLimitReached if an owner was refused just now and requests as much again."""
        for owner, limits in owners:
            hit = self._refused.get(owner)
            if hit is None:
                continue
            now_ms = self.rate_counters.now_ms()
            if hit.applies_to(limits, tokens, now_ms):
                raise hit.error(now_ms, headers(list(hit.rates(now_ms))))

    def _owners(self, caller: Caller) -> list[tuple[LimitOwner, Limits]]:
        """Return the owners with limits, and their limits: the key first."""
        if not caller.key_id:
            return []
        every = (
            (LimitOwner("key", caller.key_id), caller.limits.over(self._defaults["key"])),
            (
                LimitOwner("tenant", caller.tenant),
                caller.tenant_limits.over(self._defaults["tenant"]),
            ),
        )
        return [(owner, limits) for owner, limits in every if limits.exist]


class RequestReservation:
    """The reservations of one request. Only the first `settle` or `undo` has an effect."""

    def __init__(self, rate_limiter: RateLimiter) -> None:
        #: Open requests of its tenant, this one included; 0 where they are not counted.
        self.open = 0
        self._rate_limiter = rate_limiter
        self._reservations: list[Reservation] = []
        self._rates: list[Rate] = []

    @property
    def headers(self) -> dict[str, str]:
        """Return the response headers with the state of the limits."""
        return headers(self._rates)

    async def add(self, owner: LimitOwner, limits: Limits, tokens: int) -> None:
        """Reserve of one owner's limits. Raises RateLimitReached and Unavailable."""
        rate_counters = self._rate_limiter.rate_counters
        got, now_ms = await rate_counters.reserve(owner, limits, tokens), rate_counters.now_ms()
        self._rates += rates(limits, got.counters, now_ms)
        if isinstance(got, Refusal):
            hit = LimitHit(owner, limits, got.limit, got.counters, tokens)
            self._rate_limiter.remember_refusal(hit)
            raise hit.error(now_ms, self.headers)
        self._reservations.append(got)
        if owner.kind == "tenant":
            self.open = got.counters.open

    def settle(self, tokens: int | None) -> None:
        """Charge what the request used; None: as much as was reserved."""
        rate_counters = self._rate_limiter.rate_counters

        async def settle(reservation: Reservation) -> None:
            await rate_counters.settle(
                reservation, reservation.tokens if tokens is None else tokens
            )

        self._release_all(settle)

    def undo(self) -> None:
        """Release everything: the request came to nothing."""
        self._release_all(self._rate_limiter.rate_counters.undo)

    def _release_all(self, release: Release) -> None:
        reservations, self._reservations = self._reservations, []
        for reservation in reservations:
            self._rate_limiter.release_later(reservation, release)
