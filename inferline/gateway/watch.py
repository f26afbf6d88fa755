"""
Shares reads: all requests of a process that look for their answer at one moment ask in one call,
and are woken only by what is news to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from inferline.errors import InferLineError, Unavailable
from inferline.store import Found, TaskStore, Wanted
from inferline.task import Task

#: Looks due within so long of each other go together, seconds.
TICK_SECONDS: Final = 0.0025
#: Reads under way at once. What falls due meanwhile gathers: the busier the store or this process
#: is, the more a read carries.
READS_MAX: Final = 2

#: Seconds until the next look.
Pause = Callable[[], float]


@dataclass(slots=True, eq=False)
class _Look:
    """What somebody waits for."""

    wanted: Wanted
    seen: Task | None
    pause: Pause
    until: float
    news: asyncio.Future[Found]


class Watch:
    """Looks at tasks again and again, those due in one tick in one read of the store."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._ticks: dict[int, list[_Look]] = {}
        self._due: list[_Look] = []
        self._reads: set[asyncio.Task[None]] = set()

    async def news(
        self,
        wanted: Wanted,
        seen: Task | None,
        pause: Pause,
        *,
        at_once: bool = False,
        seconds: float = 0.0,
    ) -> Found:
        """
        What the store has of ``wanted`` once its row is not ``seen`` any more, or a chunk is there;
        after ``seconds``, whatever there is. Raises Unavailable.

        ``pause`` gives the time before each look, also before the first unless that is ``at_once``.
        """
        loop = asyncio.get_running_loop()
        look = _Look(wanted, seen, pause, loop.time() + seconds, loop.create_future())
        self._plan(look, 0.0 if at_once else pause())
        return await look.news

    def _plan(self, look: _Look, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Rather a little early than late, but never in a tick that is over.
        tick = max(int((now + seconds) / TICK_SECONDS), int(now / TICK_SECONDS) + 1)
        if tick not in self._ticks:
            self._ticks[tick] = []
            loop.call_at(tick * TICK_SECONDS, self._tick, tick)
        self._ticks[tick].append(look)

    def _tick(self, tick: int) -> None:
        self._due += self._ticks.pop(tick)
        self._start()

    def _start(self) -> None:
        looks = [look for look in self._due if not look.news.done()]
        if looks and len(self._reads) < READS_MAX:
            self._due = []
            read = asyncio.get_running_loop().create_task(self._read(looks))
            self._reads.add(read)
            read.add_done_callback(self._ended)

    def _ended(self, read: asyncio.Task[None]) -> None:
        self._reads.discard(read)
        self._start()

    async def _read(self, looks: list[_Look]) -> None:
        try:
            found = await self._store.read([look.wanted for look in looks])
        except InferLineError as error:
            _fail(looks, error)
        except BaseException:
            _fail(looks, Unavailable())
            raise
        else:
            now = asyncio.get_running_loop().time()
            for look, one in zip(looks, found, strict=True):
                if look.news.done():
                    continue
                if one.chunks or one.task is not look.seen or now >= look.until:
                    look.news.set_result(one)
                else:
                    self._plan(look, look.pause())


def _fail(looks: list[_Look], error: InferLineError) -> None:
    for look in looks:
        if not look.news.done():
            look.news.set_exception(error)


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
