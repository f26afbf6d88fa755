"""
Meters: what each key and each tenant has used of its limits, in rows that gateways change at once.

A row has the minute and the day of UTC that were counted last, and how many requests are open. One
conditional write reserves in the windows that it finds under way; where one is over, the write
begins the next. None of it needs a lock, a sweep or a read before.

A gateway that dies closes nothing. So open requests are counted in generations, each longer than
any request may take: when one begins, whatever is left of the one before the last has died.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import Any, Final, Literal, NamedTuple, Protocol, Self

from inferline.accounts.limits import Limits
from inferline.errors import Unavailable

MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 60 * MINUTE_MS
#: How often a write is tried whose row was changed by others just before.
TRIES_MAX: Final = 8
#: What a generation is longer than a request, seconds: for clocks that differ, and until it closes.
MARGIN_SECONDS: Final = 60.0

#: What a row holds by name: numbers, and the mark of its last write.
RawRow = Mapping[str, Any]
#: Which limit is reached.
Limit = Literal["tokens_per_day", "requests_per_minute", "tokens_per_minute", "concurrent_requests"]


class Owner(NamedTuple):
    """Whose meter it is."""

    kind: Literal["key", "tenant"]
    id: str


@dataclass(slots=True, kw_only=True)
class ConditionalUpdate:
    """One conditional write of a row: all of it if all conditions hold, or else nothing."""

    #: Numbers that there have to be; None: that must not be there.
    equal: dict[str, int | None] = field(default_factory=dict)
    #: Numbers that have to be so large, or so small; what is not there is neither.
    least: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    sets: dict[str, int] = field(default_factory=dict)
    #: Numbers that are set to what another was before the write, and so much more.
    copies: dict[str, tuple[str, int]] = field(default_factory=dict)
    adds: dict[str, int] = field(default_factory=dict)


class CounterStore(Protocol):
    """Where meters are kept. Raises `Unavailable` when it does not answer."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the store's clock."""

    async def change(
        self, owner: Owner, change: ConditionalUpdate, mark: str
    ) -> tuple[bool, RawRow]:
        """
        Write a row if all conditions hold; whether that was so, and the row as it is now.

        Atomic. A write whose ``mark`` the row has is the row's last and is not repeated: so it may
        be tried again when its answer was lost, as long as nobody else has written meanwhile.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterRow:
    """A row as it was seen; without one there is nothing in it."""

    #: Minutes since 1970, and what was let in within it.
    minute: int | None = None
    requests: int = 0
    tokens: int = 0
    #: Days since 1970.
    day: int | None = None
    day_tokens: int = 0
    #: How many requests are open, of both generations.
    open: int = 0
    #: When this generation began, milliseconds since 1970, and how many of its requests are open.
    since_ms: int | None = None
    opened: int = 0
    #: The same of the generation before; 0 where there was none.
    before_ms: int = 0
    before: int = 0

    @classmethod
    def of(cls, row: RawRow) -> Self:
        """The meter that a row holds."""
        return cls(**{spec.name: row[spec.name] for spec in fields(cls) if spec.name in row})

    def at(self, now_ms: int, generation_ms: int) -> CounterRow:
        """
        What counts of it at a time. A row that is ahead, by another gateway's clock, stays there.
        """
        found, since_ms = self, self.since_ms
        if self.minute is None or self.minute < now_ms // MINUTE_MS:
            found = replace(found, minute=now_ms // MINUTE_MS, requests=0, tokens=0)
        if self.day is None or self.day < now_ms // DAY_MS:
            found = replace(found, day=now_ms // DAY_MS, day_tokens=0)
        if since_ms is None or now_ms >= since_ms + 2 * generation_ms:
            return replace(found, since_ms=now_ms, open=0, opened=0, before_ms=0, before=0)
        if now_ms >= since_ms + generation_ms:
            left = self.opened
            fresh = {"since_ms": now_ms, "before_ms": since_ms, "opened": 0}
            return replace(found, **fresh, open=left, before=left)
        return found

    def reached(self, limits: Limits, tokens: int) -> Limit | None:
        """Which limit one more request of ``tokens`` would pass, the one that lasts longest."""
        if _passes(self.day_tokens + tokens, limits.tokens_per_day):
            return "tokens_per_day"
        if _passes(self.requests + 1, limits.requests_per_minute):
            return "requests_per_minute"
        if _passes(self.tokens + tokens, limits.tokens_per_minute):
            return "tokens_per_minute"
        return "concurrent_requests" if _passes(self.open + 1, limits.concurrent_requests) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one request holds of an owner's limits."""

    owner: Owner
    tokens: int
    #: As the reservation left it: the windows that it counts in.
    meter: CounterRow
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not let in; nothing was written."""

    limit: Limit
    meter: CounterRow


class RateCounters:
    """Reserves and gives back. Every method raises `Unavailable` when the store does not answer."""

    def __init__(self, store: CounterStore, request_seconds_max: float) -> None:
        """
        ``request_seconds_max``: the longest that a request may be open, the same at all gateways;
        those of one with a longer time stop counting before they end.
        """
        self._store = store
        self._generation_ms = round((request_seconds_max + MARGIN_SECONDS) * 1000)
        name = secrets.token_hex(6)
        self._marks = (f"{name}-{number:x}" for number in count())

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the store's clock."""
        return self._store.now_ms()

    async def reserve(self, owner: Owner, limits: Limits, tokens: int) -> Reservation | Refusal:
        """
        Count one more request of ``tokens``, or say which limit it would pass.

        One write, and a second when a window is over or when it is refused by another's doing.
        """
        mark, now_ms = next(self._marks), self._store.now_ms()
        # What is most likely there: windows that are under way, with room.
        seen = CounterRow(minute=now_ms // MINUTE_MS, day=now_ms // DAY_MS, since_ms=now_ms)
        for _ in range(TRIES_MAX):
            change = _reserving(seen, now_ms, self._generation_ms, limits, tokens)
            done, row = await self._store.change(owner, change, mark)
            seen = CounterRow.of(row)
            if done:
                return Reservation(owner=owner, tokens=tokens, meter=seen, mark=mark)
            counted = seen.at(now_ms, self._generation_ms)
            if (limit := counted.reached(limits, tokens)) is not None:
                return Refusal(limit=limit, meter=counted)
        raise Unavailable

    async def settle(self, hold: Reservation, tokens: int) -> None:
        """Close a request that took so many tokens. Its gateway repeats it at will."""
        await self._close(hold, 0, tokens - hold.tokens)

    async def undo(self, hold: Reservation) -> None:
        """Close a request that came to nothing, as if there had been none."""
        await self._close(hold, -1, -hold.tokens)

    async def _close(self, hold: Reservation, requests: int, tokens: int) -> None:
        now_ms, held = self._store.now_ms(), hold.meter
        # A window that is over need not be corrected.
        seen = replace(
            held,
            minute=None if _is_before(held.minute, now_ms // MINUTE_MS) else held.minute,
            day=None if _is_before(held.day, now_ms // DAY_MS) else held.day,
        )
        for _ in range(TRIES_MAX):
            change = _closing(seen, held, requests, tokens)
            if not change.adds:
                return
            done, row = await self._store.change(hold.owner, change, f"{hold.mark}/")
            if done:
                return
            seen = CounterRow.of(row)
        raise Unavailable


def _reserving(
    seen: CounterRow, now_ms: int, generation_ms: int, limits: Limits, tokens: int
) -> ConditionalUpdate:
    """What counts one more request into a row that is like ``seen``, unless a limit is reached."""
    now, change = seen.at(now_ms, generation_ms), ConditionalUpdate()
    change.equal["minute"] = seen.minute  # That of the day is thereby the same.
    if now.minute == seen.minute:
        change.adds |= {"requests": 1, "tokens": tokens}
        _bound(change, "requests", limits.requests_per_minute, 1)
        _bound(change, "tokens", limits.tokens_per_minute, tokens)
    else:
        change.sets |= {"minute": now.minute or 0, "requests": 1, "tokens": tokens}
    if now.day == seen.day:
        change.adds["day_tokens"] = tokens
        _bound(change, "day_tokens", limits.tokens_per_day, tokens)
    else:
        change.sets |= {"day": now.day or 0, "day_tokens": tokens}
    if now.since_ms == seen.since_ms:
        change.least["since_ms"] = now_ms - generation_ms + 1
        change.adds |= {"open": 1, "opened": 1}
        _bound(change, "open", limits.concurrent_requests, 1)
        return change
    change.equal["since_ms"] = seen.since_ms
    change.sets |= {"since_ms": now_ms, "opened": 1, "before_ms": now.before_ms}
    if now.before_ms:  # Read by the write itself: requests end all the time.
        change.copies |= {"before": ("opened", 0), "open": ("opened", 1)}
        _bound(change, "opened", limits.concurrent_requests, 1)
    else:
        change.sets |= {"before": 0, "open": 1}
    return change


def _closing(seen: CounterRow, held: CounterRow, requests: int, tokens: int) -> ConditionalUpdate:
    """What takes a request out of a row that is like ``seen``, as far as it still counts there."""
    change = ConditionalUpdate()
    if (requests or tokens) and seen.minute == held.minute:
        change.equal["minute"] = held.minute
        change.adds |= {"requests": requests, "tokens": tokens}
    if tokens and seen.day == held.day:
        change.equal["day"] = held.day
        change.adds["day_tokens"] = tokens
    if seen.since_ms == held.since_ms and seen.opened:
        change.equal["since_ms"] = held.since_ms
        change.least["opened"] = 1
        change.adds |= {"open": -1, "opened": -1}
    elif seen.before_ms == held.since_ms and seen.before:
        change.equal["before_ms"] = held.since_ms
        change.least["before"] = 1
        change.adds |= {"open": -1, "before": -1}
    change.adds = {name: number for name, number in change.adds.items() if number}
    return change


def _bound(change: ConditionalUpdate, name: str, limit: int | None, more: int) -> None:
    """Have a number be such that ``more`` of it does not pass a limit."""
    if limit:
        change.most[name] = limit - more


def _passes(number: int, limit: int | None) -> bool:
    return bool(limit) and number > (limit or 0)


def _is_before(held: int | None, now: int) -> bool:
    return held is not None and held < now
