"""
The aggregation of usage: counts the tasks of each slice of time, some time after its end.

Each slice is counted twice: soon, and again once late writes have arrived, but well before the rows
of its tasks are deleted. The last slice of an hour adds the hour to its day. The process that
counts may die at any moment, and there may be several: the next one begins with the slice that was
not finished, and gets the same result.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from inferline.background import background
from inferline.clock import Clock
from inferline.errors import InferLineError
from inferline.usage.minutes import MINUTE_MS, MinuteStore, total
from inferline.usage.usage import (
    DAY,
    DAY_MS,
    HOUR,
    HOUR_DAYS_KEPT,
    SLICE_MS,
    Parts,
    Usage,
    UsageKey,
    UsageStore,
    Watermarks,
)

log = logging.getLogger(__name__)

#: How long after its end a slice is counted: an index shows a write a moment late, and the write
#: itself may have been repeated; the gateways have written their last minute by then as well.
FIRST_PASS_MS: Final = 70_000
#: How long after its end it is counted again. AWS takes no write that was signed a quarter of an
#: hour ago, and a task's rows live for an hour after its deadline.
FINAL_PASS_MS: Final = 30 * 60_000
#: How far back it goes on after a pause in which nobody counted: so long rows live at the most, a
#: day for tasks with an idempotency key.
BACK_MS: Final = DAY_MS + SLICE_MS
#: And so far it puts hours into their days: their own rows are kept no longer.
HOURS_BACK_MS: Final = HOUR_DAYS_KEPT * DAY_MS
#: How far back it begins if nothing has ever been counted.
FIRST_BACK_MS: Final = 2 * SLICE_MS
#: How far back calls to AWS are read: that takes all minutes since.
CALLS_BACK_MS: Final = 12 * SLICE_MS
#: Seconds between two checks for a slice that is due.
CHECK_SECONDS: Final = 60.0


@dataclass(slots=True, kw_only=True)
class UsageAggregator:
    """The aggregation of ended tasks into usage rows."""

    usage: UsageStore
    minutes: MinuteStore

    async def run(self) -> int:
        """Count what is due; return the number of slices. Raises Unavailable."""
        now, watermarks = self.usage.now_ms(), await self.usage.watermarks()
        if not watermarks.first_pass:
            first = _due(now, FIRST_BACK_MS)
            watermarks = Watermarks(first, first)
            await self.usage.advance(watermarks)
        first, closes = _due(now, BACK_MS), _due(now, HOURS_BACK_MS)
        once = await self._count(
            max(watermarks.first_pass, first), _due(now, FIRST_PASS_MS), again=False
        )
        twice = await self._count(
            max(watermarks.final_pass, closes), _due(now, FINAL_PASS_MS), again=True
        )
        return once + twice

    @asynccontextmanager
    async def running(self, clock: Clock) -> AsyncIterator[None]:
        """Run periodically in the background while the block lasts."""

        async def repeat() -> None:
            while True:
                try:
                    await self.run()
                except InferLineError as error:
                    log.warning("could not count usage: %s", error.code)
                await clock.sleep(CHECK_SECONDS)

        async with background(repeat()):
            yield

    async def _count(self, first: int, end: int, *, again: bool) -> int:
        for number in range(first, end):
            await self._settle(number, again=again)
            done = Watermarks(final_pass=number + 1) if again else Watermarks(first_pass=number + 1)
            await self.usage.advance(done)
        return max(0, end - first)

    async def _settle(self, number: int, *, again: bool) -> None:
        """
        Write the parts of one slice and, in the final pass at an hour's end, those of the hour.
        """
        hour, part = divmod(number, HOUR.parts)
        if number >= _due(self.usage.now_ms(), BACK_MS):
            await self._make(number, again=again)
        if again and part == HOUR.parts - 1:
            await self._close(hour)

    async def _make(self, number: int, *, again: bool) -> None:
        """Write the parts of one slice, from its tasks."""
        sums: dict[UsageKey, Usage] = {}
        async for task in self.usage.ended(number):
            sums.setdefault(task.usage_key, Usage()).note(task)
        if not sums:
            return
        hour, part = divmod(number, HOUR.parts)
        kept = await self.usage.parts(HOUR, hour, sums)
        if not again:
            share(await self._calls(number), sums)
        await self.usage.put(HOUR, hour, part, _changed(sums, kept, part))

    async def _close(self, hour: int) -> None:
        """Add an hour's rows to the day's. Its tasks may be gone by now."""
        sums: dict[UsageKey, Usage] = {}
        async for row in self.usage.rows(None, HOUR, hour, hour + 1):
            for usage in row.parts.values():
                sums.setdefault(row.usage_key, Usage()).add(usage)
        day, hour_of_day = divmod(hour, DAY.parts)
        await self.usage.put(DAY, day, hour_of_day, sums)

    async def _calls(self, number: int) -> int:
        """Return the number of the gateways' calls to AWS in a slice; 0 if that was long ago."""
        if number < _due(self.usage.now_ms(), CALLS_BACK_MS):
            return 0
        first = number * SLICE_MS // MINUTE_MS
        rows = await self.minutes.since(first)
        end = first + SLICE_MS // MINUTE_MS
        return sum(total(row for row in rows if row.number < end).calls.values())


def share(calls: int, usages: Mapping[UsageKey, Usage]) -> None:
    """
    Divide calls among usage keys, by the time that their tasks took: most calls wait for an answer.

    All shares together are all calls.
    """
    whole = sum(usage.taken_ms for usage in usages.values())
    before = given = 0
    for usage_key in sorted(usages):
        usage = usages[usage_key]
        before += usage.taken_ms
        upto = calls * before // whole if whole else 0
        usage.aws_calls, given = upto - given, upto


def _due(now_ms: int, after_ms: int) -> int:
    """Return the first slice that ended less than ``after_ms`` ago."""
    return (now_ms - after_ms) // SLICE_MS


def _changed(
    sums: Mapping[UsageKey, Usage], kept: Mapping[UsageKey, Parts], part: int
) -> dict[UsageKey, Usage]:
    """Return the sums that differ from the stored ones, with the calls that were shared before."""
    changed = {}
    for usage_key, usage in sums.items():
        stored = kept.get(usage_key, {}).get(part)
        complete = replace(usage, aws_calls=stored.aws_calls) if stored else usage
        if complete != stored:
            changed[usage_key] = complete
    return changed
