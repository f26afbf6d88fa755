"""
Settling: counts the tasks of each slice of time into the usage ledger, some time after its end.

Each slice is counted twice: soon, and again when whatever was written late has arrived, but well
before the rows of its tasks are deleted. With its last slice an hour goes into its day. Whoever
counts may die at any moment, or not be alone: the next begins with the slice that was not finished,
and finds the same.
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
#: itself may have been repeated; the gateways' last minute has been told by then as well.
ONCE_MS: Final = 70_000
#: How long after its end it is counted again. AWS takes no write that was signed a quarter of an
#: hour ago, and a task's rows live for an hour after its deadline.
TWICE_MS: Final = 30 * 60_000
#: How far back it goes on after a pause in which nobody counted: so long rows live at the most, a
#: day for tasks with an idempotency key.
BACK_MS: Final = DAY_MS + SLICE_MS
#: And so far it puts hours into their days: their own rows are kept no longer.
HOURS_BACK_MS: Final = HOUR_DAYS_KEPT * DAY_MS
#: How far back it begins where nothing was counted ever.
FIRST_BACK_MS: Final = 2 * SLICE_MS
#: How far back calls to AWS are looked for: all minutes since are read for that.
CALLS_BACK_MS: Final = 12 * SLICE_MS
#: Between two looks whether a slice is due, seconds.
LOOK_SECONDS: Final = 60.0


@dataclass(slots=True, kw_only=True)
class UsageAggregator:
    """What counting works on."""

    usage: UsageStore
    minutes: MinuteStore

    async def run(self) -> int:
        """Count what is due; returns how many slices that were. Raises Unavailable."""
        now, seen = self.usage.now_ms(), await self.usage.progress()
        if not seen.once:
            first = _due(now, FIRST_BACK_MS)
            seen = Watermarks(first, first)
            await self.usage.advance(seen)
        first, closes = _due(now, BACK_MS), _due(now, HOURS_BACK_MS)
        once = await self._count(max(seen.once, first), _due(now, ONCE_MS), again=False)
        twice = await self._count(max(seen.twice, closes), _due(now, TWICE_MS), again=True)
        return once + twice

    @asynccontextmanager
    async def running(self, clock: Clock) -> AsyncIterator[None]:
        """Run again and again in the background, from now on."""

        async def repeat() -> None:
            while True:
                try:
                    await self.run()
                except InferLineError as error:
                    log.warning("could not count usage: %s", error.code)
                await clock.sleep(LOOK_SECONDS)

        async with background(repeat()):
            yield

    async def _count(self, first: int, end: int, *, again: bool) -> int:
        for number in range(first, end):
            await self._settle(number, again=again)
            done = Watermarks(twice=number + 1) if again else Watermarks(once=number + 1)
            await self.usage.advance(done)
        return max(0, end - first)

    async def _settle(self, number: int, *, again: bool) -> None:
        """Make the parts of one slice, and the second time also those of its hour, at its end."""
        hour, part = divmod(number, HOUR.parts)
        if number >= _due(self.usage.now_ms(), BACK_MS):
            await self._make(number, again=again)
        if again and part == HOUR.parts - 1:
            await self._close(hour)

    async def _make(self, number: int, *, again: bool) -> None:
        """Make the parts of one slice, from its tasks."""
        found: dict[UsageKey, Usage] = {}
        async for spent in self.usage.ended(number):
            found.setdefault(spent.account, Usage()).note(spent)
        if not found:
            return
        hour, part = divmod(number, HOUR.parts)
        kept = await self.usage.parts(HOUR, hour, found)
        if not again:
            share(await self._calls(number), found)
        await self.usage.put(HOUR, hour, part, _changed(found, kept, part))

    async def _close(self, hour: int) -> None:
        """Put what is kept of an hour into the day's rows. Its tasks may be gone by now."""
        sums: dict[UsageKey, Usage] = {}
        async for row in self.usage.rows(None, HOUR, hour, hour + 1):
            for usage in row.parts.values():
                sums.setdefault(row.account, Usage()).add(usage)
        day, hour_of_day = divmod(hour, DAY.parts)
        await self.usage.put(DAY, day, hour_of_day, sums)

    async def _calls(self, number: int) -> int:
        """How many calls to AWS the gateways have told of in a slice; 0 if that was long ago."""
        if number < _due(self.usage.now_ms(), CALLS_BACK_MS):
            return 0
        first = number * SLICE_MS // MINUTE_MS
        rows = await self.minutes.since(first)
        end = first + SLICE_MS // MINUTE_MS
        return sum(total(row for row in rows if row.number < end).calls.values())


def share(calls: int, accounts: Mapping[UsageKey, Usage]) -> None:
    """
    Divide calls among accounts, by the time that their tasks were under way: to wait for an answer
    is what most calls are for. All shares together are all calls.
    """
    whole = sum(usage.taken_ms for usage in accounts.values())
    before = given = 0
    for account in sorted(accounts):
        usage = accounts[account]
        before += usage.taken_ms
        upto = calls * before // whole if whole else 0
        usage.aws_calls, given = upto - given, upto


def _due(now_ms: int, after_ms: int) -> int:
    """The first slice that did not end so long ago."""
    return (now_ms - after_ms) // SLICE_MS


def _changed(
    found: Mapping[UsageKey, Usage], kept: Mapping[UsageKey, Parts], part: int
) -> dict[UsageKey, Usage]:
    """What differs from what is kept, with the calls that were shared before."""
    changed = {}
    for account, usage in found.items():
        there = kept.get(account, {}).get(part)
        told = replace(usage, aws_calls=there.aws_calls) if there else usage
        if told != there:
            changed[account] = told
    return changed
