"""Quotas: what a request holds of its key's and its tenant's limits while it is under way."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.limits import NAMES, Limits
from inferline.accounts.rate_counters import CounterStore, Owner, RateCounters, Refusal, Reservation
from inferline.clock import Clock
from inferline.errors import Unavailable
from inferline.gateway.submit.estimate import tokens_of
from inferline.gateway.submit.rates import LimitHit, Rate, headers, rates
from inferline.settings import Settings
from inferline.validation.payload import Payload

log = logging.getLogger(__name__)

#: Between the tries to give back what was held, seconds. Those of the client come on top.
PAUSES_SECONDS: Final = (0.2, 1.0, 5.0)
#: How long the end of a process, or of a call that it may be frozen after, waits for that.
FLUSH_SECONDS_MAX: Final = 2.0
#: How long a refusal holds at this process without a look, unless something is given back here: who
#: is refused a thousand times a second must not keep a row busy that others need.
REFUSED_SECONDS: Final = 1.0
#: Of how many keys and tenants refusals are remembered.
REFUSED_MAX: Final = 10_000

Closing = Callable[[Reservation], Awaitable[None]]


class Quotas:
    """Reserves for requests, and gives back beside them."""

    def __init__(self, store: CounterStore, settings: Settings, clock: Clock) -> None:
        self.meters = RateCounters(store, settings.request_seconds_max)
        self._settings = settings
        self._clock = clock
        self._defaults = {kind: _defaults(settings, kind) for kind in ("key", "tenant")}
        self._closings: set[asyncio.Task[None]] = set()
        #: Until when each holds, oldest first.
        self._refused: OrderedDict[Owner, tuple[LimitHit, float]] = OrderedDict()

    async def reserve(
        self, caller: Caller, path: str, payload: Payload, body: bytes
    ) -> RequestReservation:
        """
        What the request may take of its key's limits and of its tenant's.

        Raises LimitReached and Unavailable; then it holds nothing. For whoever has no limits, and
        where no keys are asked for, nothing is written.
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
        self._refused[reached.owner] = reached, self._clock.monotonic() + REFUSED_SECONDS
        self._refused.move_to_end(reached.owner)
        if len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)

    def close(self, hold: Reservation, closing: Closing) -> None:
        """Have a hold closed in the background."""
        task = asyncio.get_running_loop().create_task(self._closed(hold, closing))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def flush(self) -> None:
        """Return once all is given back, or after `FLUSH_SECONDS_MAX`."""
        if self._closings:
            await asyncio.wait(set(self._closings), timeout=FLUSH_SECONDS_MAX)

    async def _closed(self, hold: Reservation, closing: Closing) -> None:
        for pause in (*PAUSES_SECONDS, None):
            try:
                await closing(hold)
                self._refused.pop(hold.owner, None)  # There is room again.
                return
            except Unavailable:
                if pause is not None:
                    await self._clock.sleep(pause)
        log.warning("what a request held of a %s's limits stays charged", hold.owner.kind)

    def _check_refused(self, owners: list[tuple[Owner, Limits]], tokens: int) -> None:
        """Raise LimitReached for who was refused just now, and asks for as much again."""
        for owner, limits in owners:
            reached, until = self._refused.get(owner, (None, 0.0))
            if reached is None or self._clock.monotonic() >= until:
                continue
            now_ms = self.meters.now_ms()
            if reached.holds(limits, tokens, now_ms):
                raise reached.error(now_ms, headers(list(reached.rates(now_ms))))

    def _owners(self, caller: Caller) -> list[tuple[Owner, Limits]]:
        """Whose limits there are to keep, and which: the key's first."""
        if not caller.key_id:
            return []
        every = (
            (Owner("key", caller.key_id), caller.limits.over(self._defaults["key"])),
            (Owner("tenant", caller.tenant), caller.tenant_limits.over(self._defaults["tenant"])),
        )
        return [(owner, limits) for owner, limits in every if limits.exist]


class RequestReservation:
    """What one request holds, until it is closed; the first time counts."""

    def __init__(self, quotas: Quotas) -> None:
        #: How many requests of its tenant are under way, this one too; 0 where nobody counts them.
        self.open = 0
        self._quotas = quotas
        self._holds: list[Reservation] = []
        self._rates: list[Rate] = []

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that tell how the limits stand."""
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
        """Charge what the request took; None: as much as was reserved."""
        meters = self._quotas.meters

        async def closing(hold: Reservation) -> None:
            await meters.settle(hold, hold.tokens if tokens is None else tokens)

        self._close(closing)

    def undo(self) -> None:
        """Give back all of it: the request came to nothing."""
        self._close(self._quotas.meters.undo)

    def _close(self, closing: Closing) -> None:
        holds, self._holds = self._holds, []
        for hold in holds:
            self._quotas.close(hold, closing)


def _defaults(settings: Settings, kind: str) -> Limits:
    return Limits(**{name: getattr(settings, f"{kind}_{name}") for name in NAMES})
