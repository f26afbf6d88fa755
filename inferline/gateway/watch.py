"""
Shares reads: all requests of a process that look for their answer at one moment ask in one call.
"""

from __future__ import annotations

import asyncio
from typing import Final

from inferline.errors import InferLineError, Unavailable
from inferline.store import Found, TaskStore, Wanted

#: Looks due within so long of each other go together, seconds.
TICK_SECONDS: Final = 0.0025

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
        now = loop.time()
        # Rather a little early than late, but never in a tick that is over.
        tick = max(int((now + pause_seconds) / TICK_SECONDS), int(now / TICK_SECONDS) + 1)
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
    How long to wait before the next look.

    For the beginning of an answer a share of the time already waited, within limits: so its coming
    is seen within that share of what it took, and looks cost the logarithm of that. Once a stream
    flows, the next chunk is not written before ``flush_seconds`` have passed; until then one look
    in the middle is enough, for the end of the answer does not wait for that.
    """

    def __init__(
        self, seconds_min: float, seconds_max: float, flush_seconds: float, *, streamed: bool
    ) -> None:
        # People watch for a first token; a whole answer is long in coming anyway.
        self._seconds_min = seconds_min if streamed else 2 * seconds_min
        self._share = 1 / 20 if streamed else 1 / 10
        self._seconds_max = seconds_max
        self._flush_seconds = flush_seconds

    def pause(self, waited_seconds: float, *, flowing: bool) -> float:
        """Seconds until the next look, ``waited_seconds`` after the last news."""
        share = waited_seconds * self._share
        if not flowing:
            return min(self._seconds_max, max(self._seconds_min, share))
        flush = self._flush_seconds
        if waited_seconds < 0.85 * flush:
            return min(self._seconds_max, 0.45 * flush)
        return min(self._seconds_max, max(self._seconds_min, flush / 10, share))
