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
from inferline.settings import Settings
from inferline.tasks.store import TaskRead, TaskStore, Wanted
from inferline.tasks.task import Task

#: Looks due within so long of each other go together, seconds.
TICK_SECONDS: Final = 0.0025
#: Reads under way at once. What falls due meanwhile gathers: the busier the store or this process
#: is, the more a read carries.
READS_MAX: Final = 2

#: A chunk is first looked for so long before it is due: some come early, and none is to be late.
EARLY_SECONDS: Final = 0.01

#: Seconds until the next look.
Pause = Callable[[], float]


@dataclass(slots=True, eq=False)
class _PendingRead:
    """One caller that waits for a change of its task."""

    wanted: Wanted
    seen: Task | None
    pause: Pause
    until: float
    result: asyncio.Future[TaskRead]


class SharedPoller:
    """Looks at tasks again and again, those due in one tick in one read of the store."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._ticks: dict[int, list[_PendingRead]] = {}
        self._due: list[_PendingRead] = []
        self._reads: set[asyncio.Task[None]] = set()

    async def next_change(
        self,
        wanted: Wanted,
        seen: Task | None,
        pause: Pause,
        *,
        at_once: bool = False,
        seconds: float = 0.0,
    ) -> TaskRead:
        """
        What the store has of ``wanted`` once its row is not ``seen`` any more, or a chunk is there;
        after ``seconds``, whatever there is. Raises Unavailable.

        ``pause`` gives the time before each look, also before the first unless that is ``at_once``.
        """
        loop = asyncio.get_running_loop()
        look = _PendingRead(wanted, seen, pause, loop.time() + seconds, loop.create_future())
        self._plan(look, 0.0 if at_once else pause())
        return await look.result

    def _plan(self, look: _PendingRead, seconds: float) -> None:
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
        looks = [look for look in self._due if not look.result.done()]
        if looks and len(self._reads) < READS_MAX:
            self._due = []
            read = asyncio.get_running_loop().create_task(self._read(looks))
            self._reads.add(read)
            read.add_done_callback(self._ended)

    def _ended(self, read: asyncio.Task[None]) -> None:
        self._reads.discard(read)
        self._start()

    async def _read(self, looks: list[_PendingRead]) -> None:
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
                if look.result.done():
                    continue
                if one.chunks or one.task is not look.seen or now >= look.until:
                    look.result.set_result(one)
                else:
                    self._plan(look, look.pause())


def _fail(looks: list[_PendingRead], error: InferLineError) -> None:
    for look in looks:
        if not look.result.done():
            look.result.set_exception(error)


class PollBackoff:
    """
    How long to wait before the next look.

    For the beginning of an answer a share of the time already waited, within limits: so its coming
    is seen within that share of what it took, and looks cost the logarithm of that. Once a stream
    flows, its next chunk comes at a time that is known; before that one look in the middle is
    enough, for the end of the answer does not wait for it. Who is late then may be very late: each
    pause is twice as long as the one before, up to the time between two chunks.
    """

    def __init__(self, settings: Settings, *, streamed: bool) -> None:
        # People watch for a first token; a whole answer is long in coming anyway.
        relaxed = 1 if streamed else 2
        self._seconds_min = relaxed * settings.poll_seconds_min
        self._share = relaxed * settings.poll_share
        self._seconds_max = settings.poll_seconds_max

    def pause(self, waited_seconds: float, interval: float | None) -> float:
        """
        Seconds until the next look, ``waited_seconds`` after the last news.

        ``interval`` is from the last chunk to the next, seconds; None before the first.
        """
        growing = max(self._seconds_min, waited_seconds * self._share)
        if interval is None:
            return min(self._seconds_max, growing)
        half, due = interval / 2, interval - EARLY_SECONDS
        for moment in (half, due):
            if waited_seconds < moment - EARLY_SECONDS:
                return min(self._seconds_max, moment - waited_seconds)
        late = max(interval / 20, min(waited_seconds - due, interval))
        return min(self._seconds_max, max(late, growing))
