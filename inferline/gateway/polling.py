"""
Shares reads: requests of a process that poll for their answers at the same moment share one call to
the store, and each is woken only by a change of its task.
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

#: Reads due within this time of each other are made together, seconds.
TICK_SECONDS: Final = 0.0025
#: Reads under way at once. Reads that fall due meanwhile gather: the busier the store or this
#: process, the more a read carries.
READS_MAX: Final = 2

#: Reads for a chunk are this early, seconds: some chunks come early, and none should be seen late.
EARLY_SECONDS: Final = 0.01

#: Returns the seconds until the next read.
Pause = Callable[[], float]


@dataclass(slots=True, eq=False)
class _PendingRead:
    """A caller that waits for a change of its task."""

    wanted: Wanted
    seen: Task | None
    pause: Pause
    until: float
    result: asyncio.Future[TaskRead]


class SharedPoller:
    """A poller of tasks: all that are due in a tick share a read of the store."""

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
        Return what the store has of ``wanted`` once its row differs from ``seen`` or a chunk is
        there; after ``seconds``, whatever is there. Raises Unavailable.

        ``pause`` returns the time before each read, the first included unless ``at_once``.
        """
        loop = asyncio.get_running_loop()
        pending = _PendingRead(wanted, seen, pause, loop.time() + seconds, loop.create_future())
        self._plan(pending, 0.0 if at_once else pause())
        return await pending.result

    def _plan(self, pending: _PendingRead, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # A little early rather than late, but never in a tick that is over.
        tick = max(int((now + seconds) / TICK_SECONDS), int(now / TICK_SECONDS) + 1)
        if tick not in self._ticks:
            self._ticks[tick] = []
            loop.call_at(tick * TICK_SECONDS, self._tick, tick)
        self._ticks[tick].append(pending)

    def _tick(self, tick: int) -> None:
        self._due += self._ticks.pop(tick)
        self._start()

    def _start(self) -> None:
        batch = [pending for pending in self._due if not pending.result.done()]
        if batch and len(self._reads) < READS_MAX:
            self._due = []
            read = asyncio.get_running_loop().create_task(self._read(batch))
            self._reads.add(read)
            read.add_done_callback(self._ended)

    def _ended(self, read: asyncio.Task[None]) -> None:
        self._reads.discard(read)
        self._start()

    async def _read(self, batch: list[_PendingRead]) -> None:
        try:
            results = await self._store.read([pending.wanted for pending in batch])
        except InferLineError as error:
            _fail(batch, error)
        except BaseException:
            _fail(batch, Unavailable())
            raise
        else:
            now = asyncio.get_running_loop().time()
            for pending, result in zip(batch, results, strict=True):
                if pending.result.done():
                    continue
                if result.chunks or result.task is not pending.seen or now >= pending.until:
                    pending.result.set_result(result)
                else:
                    self._plan(pending, pending.pause())


def _fail(batch: list[_PendingRead], error: InferLineError) -> None:
    for pending in batch:
        if not pending.result.done():
            pending.result.set_exception(error)


class PollBackoff:
    """
    The time to wait before the next read.

    Before an answer begins, the pause is a share of the time already waited, within limits: its
    beginning is seen late by at most that share, and the number of reads grows with the logarithm
    of the wait. Once a stream flows, the time of its next chunk is known; one more read halfway
    sees an early end of the answer. A late chunk may be very late: each pause is twice the pause
    before, up to the time between two chunks.
    """

    def __init__(self, settings: Settings, *, streamed: bool) -> None:
        # People watch for a first token; a whole answer takes long anyway.
        relaxed = 1 if streamed else 2
        self._seconds_min = relaxed * settings.poll_seconds_min
        self._share = relaxed * settings.poll_share
        self._seconds_max = settings.poll_seconds_max

    def pause(self, waited_seconds: float, interval: float | None) -> float:
        """
        Return the seconds until the next read, ``waited_seconds`` after the last change.

        ``interval`` is the time from the last chunk to the next, seconds; None before the first.
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
