"""Reports on usage: sums over some time by tenant, key or model, and the last requests."""

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

#: The names that sums can be grouped by.
Dimension = Literal["tenant", "key", "model", "provider", "hour", "day"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
#: Days that are read from the rows of their hours: the last ones have no complete row yet.
HOURLY_DAYS: Final = 2
#: Rows that one report may read.
ROWS_MAX: Final = 50_000
#: Tasks not counted yet that may be added to a report; with more of them it ends before
#: them. The next count is at the most minutes away, unless nobody counts.
FRESH_TASKS_MAX: Final = 5000
FRESH_SLICES_MAX: Final = 12
#: Tasks read for a list of one tenant's requests, and how far back: most rows are gone by
#: then, and each slice takes some reads.
LISTED_FROM_MAX: Final = 20_000
LISTED_SLICES_MAX: Final = 2 * HOUR_MS // SLICE_MS

_UNITS_MS: Final = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
#: A time ago: minutes, hours or days.
AGO: Final = "^([0-9]{1,6})([mhd])$"


def moment(text: str, now_ms: int, param: str) -> int:
    """
    Parse a time, milliseconds since 1970: ``90m``, ``12h`` or ``7d`` ago, or a date of ISO 8601, in
    UTC by default. Raises InvalidRequest.
    """
    if ago := re.fullmatch(AGO, text):
        return max(0, now_ms - int(ago[1]) * _UNITS_MS[ago[2]])
    try:
        date = datetime.fromisoformat(text)
        at = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"`{param}` must be a time ago such as 90m, 12h or 7d, or a date such as 2026-11-01.",
            param=param,
        ) from None


def dimensions(text: str) -> tuple[Dimension, ...]:
    """Parse the dimensions to group by, separated by commas. Raises InvalidRequest."""
    names = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    known: dict[str, Dimension] = {name: name for name in DIMENSIONS}
    if not names.keys() <= known.keys():
        message = f"`by` must name some of {', '.join(DIMENSIONS)}, separated by commas."
        raise InvalidRequest(message, param="by")
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
        Read the stored rows, and the tasks that are not counted yet.

        Time begins with whole five minutes, before yesterday with a whole hour. Raises Unavailable,
        and InvalidRequest if there is too much.
        """
        now, seen = store.now_ms(), await store.watermarks()
        hourly = now // DAY_MS - HOURLY_DAYS + 1
        end = min(self.until_ms, seen.first_pass * SLICE_MS)
        await self._add(store, DAY, self.since_ms, min(end, hourly * DAY_MS))
        await self._add(store, HOUR, max(self.since_ms, hourly * DAY_MS), end)
        self.counted_ms = await self._add_fresh(store, seen.first_pass, now)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each group: its names, and the sums."""
        return [
            dict(zip(self.by, key, strict=True)) | _told(self._sums[key])
            for key in sorted(self._sums)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON; its times are seconds since 1970."""
        times = {"since": self.since_ms, "until": self.until_ms, "counted_until": self.counted_ms}
        return {"data": self.rows(), **{name: ms // 1000 for name, ms in times.items()}}

    async def _add(
        self, store: UsageStore, resolution: Resolution, since_ms: int, until_ms: int
    ) -> None:
        since_ms -= since_ms % resolution.part_ms
        if since_ms >= until_ms:
            return
        first, end = since_ms // resolution.ms, -(-until_ms // resolution.ms)
        async for row in store.rows(self.tenant, resolution, first, end):
            self._rows += 1
            if self._rows > ROWS_MAX:
                message = "That is too much for one report. Ask for a shorter time."
                raise InvalidRequest(message, param="since")
            for part, usage in row.parts.items():
                start = row.number * resolution.ms + part * resolution.part_ms
                if since_ms <= start < until_ms:
                    self._sum(row.usage_key, start).add(usage)

    async def _add_fresh(self, store: UsageStore, first: int, now_ms: int) -> int:
        """Add tasks of slices from ``first`` on; return the time until which all are included."""
        since, until = self.since_ms - self.since_ms % SLICE_MS, min(self.until_ms, now_ms + 1)
        slices = range(max(first, since // SLICE_MS), -(-until // SLICE_MS))
        counted_ms = min(self.until_ms, first * SLICE_MS)
        if len(slices) > FRESH_SLICES_MAX:
            return counted_ms
        tasks: list[TaskUsage] = []
        read = 0
        for number in slices:
            async for task in store.ended(number):
                read += 1
                if read > FRESH_TASKS_MAX:
                    return counted_ms
                if self.tenant in (None, task.usage_key.tenant):
                    tasks.append(task)
        for task in tasks:
            self._sum(task.usage_key, task.ended_ms).note(task)
        return min(self.until_ms, now_ms)

    def _sum(self, usage_key: UsageKey, at_ms: int) -> Usage:
        at = datetime.fromtimestamp(at_ms // 1000, UTC)
        names: dict[Dimension, str] = {
            "tenant": usage_key.tenant,
            "key": usage_key.key_id,
            "model": usage_key.model,
            "provider": usage_key.provider,
            "hour": at.strftime("%Y-%m-%dT%H:00Z"),
            "day": at.strftime("%Y-%m-%d"),
        }
        return self._sums.setdefault(tuple(names[name] for name in self.by), Usage())


def _told(usage: Usage) -> dict[str, Any]:
    sums = asdict(usage)
    queue_ms, run_ms, calls = (sums.pop(name) for name in ("queue_ms", "run_ms", "aws_calls"))
    seconds = {"queue_seconds": queue_ms / 1000, "run_seconds": run_ms / 1000}
    return sums | seconds | {"aws_calls": calls}


async def last_requests(
    store: UsageStore, tenant: str | None, since_ms: int, limit: int
) -> list[TaskUsage]:
    """
    Return up to ``limit`` requests that ended since then, newest first, as far as their rows still
    exist.

    With far more requests of other tenants it may end before that. Raises Unavailable.
    """
    requests: list[TaskUsage] = []
    async for tasks in _backwards(store, since_ms):
        own = [task for task in tasks if tenant in (None, task.usage_key.tenant)]
        requests += sorted(own, key=lambda task: (-task.ended_ms, task.task_id))
        if len(requests) >= limit:
            break
    return [task for task in requests[:limit] if task.ended_ms >= since_ms]


async def _backwards(store: UsageStore, since_ms: int) -> AsyncIterator[list[TaskUsage]]:
    """Yield the tasks of one slice after the other, from now on back."""
    newest, left = store.now_ms() // SLICE_MS, LISTED_FROM_MAX
    oldest = max(since_ms // SLICE_MS, newest - LISTED_SLICES_MAX)
    for number in range(newest, oldest - 1, -1):
        tasks: list[TaskUsage] = []
        async for task in store.ended(number):
            tasks.append(task)
            left -= 1
            if not left:
                break
        yield tasks
        if not left:
            return


def request_row(task: TaskUsage) -> dict[str, Any]:
    """Return a request's row for a list."""
    return {
        "id": task.task_id,
        "ended": task.ended_ms // 1000,
        "tenant": task.usage_key.tenant,
        "key": task.usage_key.key_id,
        "model": task.usage_key.model,
        "provider": task.usage_key.provider,
        "outcome": task.outcome,
        "status": task.status,
        "attempts": task.attempts,
        "queue_seconds": task.queue_ms / 1000,
        "run_seconds": task.run_ms / 1000,
        "input_tokens": task.input_tokens,
        "output_tokens": task.output_tokens,
    }
