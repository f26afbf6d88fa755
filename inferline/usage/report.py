"""What the usage ledger tells: sums over some time by whatever is asked, and the last requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from inferline.errors import InvalidRequest
from inferline.usage.usage import (
    DAY,
    DAY_MS,
    HOUR,
    HOUR_MS,
    MINUTE_MS,
    SLICE_MS,
    Resolution,
    TaskUsage,
    Usage,
    UsageKey,
    UsageStore,
)

#: What sums can be told by.
Dimension = Literal["tenant", "key", "model", "provider", "hour", "day"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
#: How many days are told from the rows of their hours: later ones have no whole row yet.
HOURLY_DAYS: Final = 2
#: How many rows one report is made of.
ROWS_MAX: Final = 50_000
#: How many tasks that were not counted yet are added to a report; with more of them it ends before
#: them. The next count is at the most minutes away, unless nobody counts.
FRESH_TASKS_MAX: Final = 5000
FRESH_SLICES_MAX: Final = 12
#: How many tasks are looked at for a list of one tenant's, and how far back: most rows are gone by
#: then, and each slice takes some reads.
LISTED_FROM_MAX: Final = 20_000
LISTED_SLICES_MAX: Final = 2 * HOUR_MS // SLICE_MS

_UNITS_MS: Final = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
#: A time ago: minutes, hours or days.
AGO: Final = "^([0-9]{1,6})([mhd])$"


def moment(text: str, now_ms: int, param: str) -> int:
    """
    A time as people write it, milliseconds since 1970: ``90m``, ``12h`` or ``7d`` ago, or a date of
    ISO 8601, in UTC unless it says otherwise. Raises InvalidRequest.
    """
    if ago := re.fullmatch(AGO, text):
        return max(0, now_ms - int(ago[1]) * _UNITS_MS[ago[2]])
    try:
        found = datetime.fromisoformat(text)
        at = found if found.tzinfo else found.replace(tzinfo=UTC)
        return max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"`{param}` must be a time ago such as 90m, 12h or 7d, or a date such as 2026-11-01.",
            param=param,
        ) from None


def dimensions(text: str) -> tuple[Dimension, ...]:
    """What sums are asked by, separated by commas. Raises InvalidRequest."""
    names = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    known: dict[str, Dimension] = {name: name for name in DIMENSIONS}
    if not names.keys() <= known.keys():
        told = f"`by` must name some of {', '.join(DIMENSIONS)}, separated by commas."
        raise InvalidRequest(told, param="by")
    return tuple(known[name] for name in names)


@dataclass(slots=True, kw_only=True)
class Report:
    """Sums over the requests that ended from ``since_ms`` on and before ``until_ms``."""

    #: One tenant's; None: all tenants'.
    tenant: str | None
    by: Sequence[Dimension]
    since_ms: int
    until_ms: int
    #: All that ended before then is in it.
    counted_ms: int = 0
    _sums: dict[tuple[str, ...], Usage] = field(default_factory=dict)
    _rows: int = 0

    async def make(self, store: UsageStore) -> None:
        """
        Read what is kept, and the tasks that were not counted yet.

        Time begins with whole five minutes, before yesterday with a whole hour. Raises Unavailable,
        and InvalidRequest when there is too much.
        """
        now, seen = store.now_ms(), await store.progress()
        hourly = now // DAY_MS - HOURLY_DAYS + 1
        end = min(self.until_ms, seen.once * SLICE_MS)
        await self._add(store, DAY, self.since_ms, min(end, hourly * DAY_MS))
        await self._add(store, HOUR, max(self.since_ms, hourly * DAY_MS), end)
        self.counted_ms = await self._add_fresh(store, seen.once, now)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each that was asked by: its names, and the sums."""
        return [
            dict(zip(self.by, key, strict=True)) | _told(self._sums[key])
            for key in sorted(self._sums)
        ]

    def told(self) -> dict[str, Any]:
        """The report as JSON has it; its times are seconds since 1970."""
        times = {"since": self.since_ms, "until": self.until_ms, "counted_until": self.counted_ms}
        return {"data": self.rows(), **{name: ms // 1000 for name, ms in times.items()}}

    async def _add(
        self, store: UsageStore, grain: Resolution, since_ms: int, until_ms: int
    ) -> None:
        since_ms -= since_ms % grain.part_ms
        if since_ms >= until_ms:
            return
        first, end = since_ms // grain.ms, -(-until_ms // grain.ms)
        async for row in store.rows(self.tenant, grain, first, end):
            self._rows += 1
            if self._rows > ROWS_MAX:
                told = "That is too much for one report. Ask for a shorter time."
                raise InvalidRequest(told, param="since")
            for part, usage in row.parts.items():
                start = row.number * grain.ms + part * grain.part_ms
                if since_ms <= start < until_ms:
                    self._sum(row.account, start).add(usage)

    async def _add_fresh(self, store: UsageStore, first: int, now_ms: int) -> int:
        """Add tasks of slices from ``first`` on; returns until when all are in it."""
        since, until = self.since_ms - self.since_ms % SLICE_MS, min(self.until_ms, now_ms + 1)
        slices = range(max(first, since // SLICE_MS), -(-until // SLICE_MS))
        counted_ms = min(self.until_ms, first * SLICE_MS)
        if len(slices) > FRESH_SLICES_MAX:
            return counted_ms
        found: list[TaskUsage] = []
        looked_at = 0
        for number in slices:
            async for spent in store.ended(number):
                looked_at += 1
                if looked_at > FRESH_TASKS_MAX:
                    return counted_ms
                if self.tenant in (None, spent.account.tenant):
                    found.append(spent)
        for spent in found:
            self._sum(spent.account, spent.ended_ms).note(spent)
        return min(self.until_ms, now_ms)

    def _sum(self, account: UsageKey, at_ms: int) -> Usage:
        at = datetime.fromtimestamp(at_ms // 1000, UTC)
        told: dict[Dimension, str] = {
            "tenant": account.tenant,
            "key": account.key_id,
            "model": account.model,
            "provider": account.provider,
            "hour": at.strftime("%Y-%m-%dT%H:00Z"),
            "day": at.strftime("%Y-%m-%d"),
        }
        return self._sums.setdefault(tuple(told[name] for name in self.by), Usage())


def _told(usage: Usage) -> dict[str, Any]:
    sums = asdict(usage)
    queue_ms, run_ms, calls = (sums.pop(name) for name in ("queue_ms", "run_ms", "aws_calls"))
    seconds = {"queue_seconds": queue_ms / 1000, "run_seconds": run_ms / 1000}
    return sums | seconds | {"aws_calls": calls}


async def last_requests(
    store: UsageStore, tenant: str | None, since_ms: int, limit: int
) -> list[TaskUsage]:
    """
    Up to ``limit`` requests that ended since then, the last first, as far as their rows still live.

    Where others ask far more, it may end before that. Raises Unavailable.
    """
    found: list[TaskUsage] = []
    async for some in _backwards(store, since_ms):
        own = [one for one in some if tenant in (None, one.account.tenant)]
        found += sorted(own, key=lambda one: (-one.ended_ms, one.task_id))
        if len(found) >= limit:
            break
    return [one for one in found[:limit] if one.ended_ms >= since_ms]


async def _backwards(store: UsageStore, since_ms: int) -> AsyncIterator[list[TaskUsage]]:
    """The tasks of one slice after the other, from now on back."""
    newest, left = store.now_ms() // SLICE_MS, LISTED_FROM_MAX
    oldest = max(since_ms // SLICE_MS, newest - LISTED_SLICES_MAX)
    for number in range(newest, oldest - 1, -1):
        some: list[TaskUsage] = []
        async for spent in store.ended(number):
            some.append(spent)
            left -= 1
            if not left:
                break
        yield some
        if not left:
            return


def request_row(spent: TaskUsage) -> dict[str, Any]:
    """A request as it is listed."""
    return {
        "id": spent.task_id,
        "ended": spent.ended_ms // 1000,
        "tenant": spent.account.tenant,
        "key": spent.account.key_id,
        "model": spent.account.model,
        "provider": spent.account.provider,
        "outcome": spent.outcome,
        "status": spent.status,
        "attempts": spent.attempts,
        "queue_seconds": spent.queue_ms / 1000,
        "run_seconds": spent.run_ms / 1000,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
    }
