"""
Rate counters: how much each key and each tenant has used of its limits, in rows that all gateways
update.

A row holds the last minute and the last day (UTC) that were counted, and the number of open
requests. One conditional write reserves in the windows that are under way; where one is over, the
write begins the next. None of it needs a lock, a sweep or a read before.

A gateway that dies closes nothing. So open requests are counted in generations, each longer than
any request may take. Two of them count. When a third begins, requests of the first that are still
open are dropped: their gateway has died.
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
#: Attempts at a write that other gateways' writes come before.
TRIES_MAX: Final = 8
#: A generation lasts this much longer than a request, seconds: clocks differ, closing takes time.
MARGIN_SECONDS: Final = 60.0

#: A row's attributes: numbers, and the id of its last write (`mark`).
RawRow = Mapping[str, Any]
#: The name of a limit.
Limit = Literal["tokens_per_day", "requests_per_minute", "tokens_per_minute", "concurrent_requests"]


class LimitOwner(NamedTuple):
    """The key or tenant that a counter belongs to."""

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
    #: Numbers that are set to the old value of another one, plus an amount.
    copies: dict[str, tuple[str, int]] = field(default_factory=dict)
    adds: dict[str, int] = field(default_factory=dict)


class CounterStore(Protocol):
    """The store of the counters. Raises `Unavailable` when it does not answer."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970 by the store's clock."""

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        """
        Write a row if all conditions hold; return whether they did, and the row as it is now.

        Atomic. A write with the row's present ``write_id`` is the row's last write and is not
        repeated: it may be tried again after its answer was lost, as long as nobody else has
        written meanwhile.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterRow:
    """A row as it was read; the defaults stand for a row that does not exist."""

    #: Minutes since 1970, and what was let in within it.
    minute: int | None = None
    requests: int = 0
    tokens: int = 0
    #: Days since 1970.
    day: int | None = None
    day_tokens: int = 0
    #: Open requests of both generations.
    open: int = 0
    #: When this generation began, milliseconds since 1970, and how many of its requests are open.
    since_ms: int | None = None
    opened: int = 0
    #: The same of the generation before; 0 where there was none.
    before_ms: int = 0
    before: int = 0

    @classmethod
    def from_row(cls, row: RawRow) -> Self:
        """Read a counter from its row."""
        return cls(**{spec.name: row[spec.name] for spec in fields(cls) if spec.name in row})

    def at(self, now_ms: int, generation_ms: int) -> CounterRow:
        """
        Return what still counts of it at a time. A row that is ahead, by another gateway's clock,
        stays there.
        """
        row, since_ms = self, self.since_ms
        if self.minute is None or self.minute < now_ms // MINUTE_MS:
            row = replace(row, minute=now_ms // MINUTE_MS, requests=0, tokens=0)
        if self.day is None or self.day < now_ms // DAY_MS:
            row = replace(row, day=now_ms // DAY_MS, day_tokens=0)
        if since_ms is None or now_ms >= since_ms + 2 * generation_ms:
            return replace(row, since_ms=now_ms, open=0, opened=0, before_ms=0, before=0)
        if now_ms >= since_ms + generation_ms:
            left = self.opened
            fresh = {"since_ms": now_ms, "before_ms": since_ms, "opened": 0}
            return replace(row, **fresh, open=left, before=left)
        return row

    def exceeded(self, limits: Limits, tokens: int) -> Limit | None:
        """
        Return the limit that one more request of ``tokens`` would exceed; of several, the one that
        lasts longest.
        """
        if _passes(self.day_tokens + tokens, limits.tokens_per_day):
            return "tokens_per_day"
        if _passes(self.requests + 1, limits.requests_per_minute):
            return "requests_per_minute"
        if _passes(self.tokens + tokens, limits.tokens_per_minute):
            return "tokens_per_minute"
        return "concurrent_requests" if _passes(self.open + 1, limits.concurrent_requests) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """One request's share of an owner's limits."""

    owner: LimitOwner
    tokens: int
    #: As the reservation left it: the windows that it counts in.
    counters: CounterRow
    write_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The reason why a request is not admitted; nothing was written."""

    limit: Limit
    counters: CounterRow


class RateCounters:
    """
    Reservations in the counters. Every method raises `Unavailable` when the store does not answer.
    """

    def __init__(self, store: CounterStore, request_seconds_max: float) -> None:
        """
        Count with generations longer than ``request_seconds_max``.

        That is the longest time that a request may be open, the same at all gateways; requests of a
        gateway with a longer one stop counting before they end.
        """
        self._store = store
        self._generation_ms = round((request_seconds_max + MARGIN_SECONDS) * 1000)
        name = secrets.token_hex(6)
        self._write_ids = (f"{name}-{number:x}" for number in count())

    def now_ms(self) -> int:
        """Return milliseconds since 1970 by the store's clock."""
        return self._store.now_ms()

    async def reserve(
        self, owner: LimitOwner, limits: Limits, tokens: int
    ) -> Reservation | Refusal:
        """
        Count one more request of ``tokens``, or return the limit that it would exceed.

        One write, and a second one when a window is over or another gateway has written meanwhile.
        """
        write_id, now_ms = next(self._write_ids), self._store.now_ms()
        # What is most likely there: windows that are under way, with room.
        seen = CounterRow(minute=now_ms // MINUTE_MS, day=now_ms // DAY_MS, since_ms=now_ms)
        for _ in range(TRIES_MAX):
            change = _reserving_update(seen, now_ms, self._generation_ms, limits, tokens)
            done, row = await self._store.change(owner, change, write_id)
            seen = CounterRow.from_row(row)
            if done:
                return Reservation(owner=owner, tokens=tokens, counters=seen, write_id=write_id)
            current = seen.at(now_ms, self._generation_ms)
            if (limit := current.exceeded(limits, tokens)) is not None:
                return Refusal(limit=limit, counters=current)
        raise Unavailable

    async def settle(self, reservation: Reservation, tokens: int) -> None:
        """Close a request that used ``tokens``. Its gateway may repeat that."""
        await self._close(reservation, 0, tokens - reservation.tokens)

    async def undo(self, reservation: Reservation) -> None:
        """Close a request as if it had never been made."""
        await self._close(reservation, -1, -reservation.tokens)

    async def charge(self, owner: LimitOwner, tokens: int) -> None:
        """Count tokens into an owner's day that were used already: nothing is refused."""
        write_id, now_ms = next(self._write_ids), self._store.now_ms()
        seen = CounterRow(day=now_ms // DAY_MS)
        for _ in range(TRIES_MAX):
            done, row = await self._store.change(
                owner, _charging_update(seen, now_ms, tokens), write_id
            )
            if done:
                return
            seen = CounterRow.from_row(row)
        raise Unavailable

    async def _close(self, reservation: Reservation, requests: int, tokens: int) -> None:
        now_ms, held = self._store.now_ms(), reservation.counters
        # A window that is over need not be corrected.
        seen = replace(
            held,
            minute=None if _is_before(held.minute, now_ms // MINUTE_MS) else held.minute,
            day=None if _is_before(held.day, now_ms // DAY_MS) else held.day,
        )
        for _ in range(TRIES_MAX):
            change = _closing_update(seen, held, requests, tokens)
            if not change.adds:
                return
            done, row = await self._store.change(
                reservation.owner, change, f"{reservation.write_id}/"
            )
            if done:
                return
            seen = CounterRow.from_row(row)
        raise Unavailable


def _reserving_update(
    seen: CounterRow, now_ms: int, generation_ms: int, limits: Limits, tokens: int
) -> ConditionalUpdate:
    """
    Return the update that counts one more request into a row like ``seen``, unless that exceeds a
    limit.
    """
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


def _charging_update(seen: CounterRow, now_ms: int, tokens: int) -> ConditionalUpdate:
    """Return the update that counts tokens into the day of a row like ``seen``."""
    change, day = ConditionalUpdate(), now_ms // DAY_MS
    change.equal["day"] = seen.day
    if seen.day is not None and seen.day >= day:
        change.adds["day_tokens"] = tokens
    else:
        change.sets |= {"day": day, "day_tokens": tokens}
    return change


def _closing_update(
    seen: CounterRow, held: CounterRow, requests: int, tokens: int
) -> ConditionalUpdate:
    """
    Return the update that takes a request out of a row like ``seen``, as far as it still counts
    there.
    """
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
    """Add the condition that a number can grow by ``more`` without exceeding a limit."""
    if limit:
        change.most[name] = limit - more


def _passes(number: int, limit: int | None) -> bool:
    return bool(limit) and number > (limit or 0)


def _is_before(held: int | None, now: int) -> bool:
    return held is not None and held < now
