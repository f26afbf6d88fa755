"""
Shares reads: all requests of a process that look for their answer at one moment ask in one call.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from inferline.errors import InferLineError, Unavailable
from inferline.store import Found, TaskStore, Wanted

#: Looks due within so long of each other go together, seconds.
TICK_SECONDS: Final = 0.005

Look = tuple[Wanted, "asyncio.Future[Found]"]


class Watch:
    """Looks at tasks at given times, those of one tick in one read of the store."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._ticks: dict[int, list[Look]] = {}
        self._reads: set[asyncio.Task[None]] = set()

    async def look(self, wanted: Wanted, pause_seconds: float) -> Found:
        """What the store has of ``wanted``, ``pause_seconds`` from now. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        tick = math.ceil((loop.time() + pause_seconds) / TICK_SECONDS)
        future: asyncio.Future[Found] = loop.create_future()
        if tick not in self._ticks:
            self._ticks[tick] = []
            loop.call_at(tick * TICK_SECONDS, self._due, tick)
        self._ticks[tick].append((wanted, future))
        return await future

    def _due(self, tick: int) -> None:
        looks = [look for look in self._ticks.pop(tick) if not look[1].done()]
        if looks:
            read = asyncio.get_running_loop().create_task(self._read(looks))
            self._reads.add(read)
            read.add_done_callback(self._reads.discard)

    async def _read(self, looks: list[Look]) -> None:
        try:
            found = await self._store.read([wanted for wanted, _ in looks])
        except InferLineError as error:
            _fail(looks, error)
        except BaseException:
            _fail(looks, Unavailable())
            raise
        else:
            for (_, future), one in zip(looks, found, strict=True):
                if not future.done():
                    future.set_result(one)


def _fail(looks: list[Look], error: InferLineError) -> None:
    for _, future in looks:
        if not future.done():
            future.set_exception(error)


class Pace:
    """
    How long to wait before the next look: a tenth of the time already waited, within limits.

    So a wait is found to be over within a tenth of its length, and looks cost the logarithm of it.
    """

    def __init__(self, seconds_min: float, seconds_max: float) -> None:
        self._seconds_min = seconds_min
        self._seconds_max = seconds_max

    def pause(self, waited_seconds: float) -> float:
        """Seconds until the next look, ``waited_seconds`` after the last news."""
        return min(self._seconds_max, max(self._seconds_min, waited_seconds / 10))
