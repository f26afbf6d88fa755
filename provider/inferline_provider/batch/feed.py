"""The feed: gives free slots to lines, and takes them back when requests need them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from inferline.background import Wake
from inferline.clock import Clock
from inferline_provider.backend.breaker import Breakers
from inferline_provider.batch.line_run import LineRun
from inferline_provider.batch.room import LineRoom
from inferline_provider.batch.victims import victim
from inferline_provider.batch.work import ShardWork

log = logging.getLogger(__name__)

#: Longest time between two turns, seconds: pauses of lines and breakers end without a word.
TICK_SECONDS: Final = 0.5
TICK_SECONDS_MIN: Final = 0.001


class LineServer(Protocol):
    """The backend, as lines see it."""

    async def serve(self, run: LineRun) -> None:
        """Have a line answered, and note its result, or that it is to be tried again."""

    def give_up(self, run: LineRun) -> None:
        """Note as a line's result that it has no answer."""

    def note_suspended(self, run: LineRun) -> None:
        """Count a line that made room for a request."""


class LineFeed:
    """
    The lines of all shards here, and which of them are at the backend.

    A line begins when a slot has been free for a moment. When a request needs its slot a line is
    suspended at once: its request to the backend ends, and what has come stays in memory. The
    newest of these goes on first.
    """

    def __init__(
        self, room: LineRoom, breakers: Breakers, clock: Clock, server: LineServer
    ) -> None:
        self._room = room
        self._breakers = breakers
        self._clock = clock
        self._server = server
        self._wake = Wake(clock)
        self._works: list[ShardWork] = []
        self._running: set[LineRun] = set()
        #: The newest last.
        self._suspended: list[LineRun] = []
        self._is_open = False
        #: Whether no line begins any more: the provider stops.
        self.is_draining = False
        #: Called whenever a line has begun, so that fewer are left.
        self.on_begun: Callable[[], None] = lambda: None

    @property
    def running(self) -> int:
        """Return the number of lines at the backend."""
        return self._room.lines

    @property
    def left(self) -> int:
        """Return the number of lines that have not begun."""
        return sum(len(work.waiting) for work in self._works)

    @property
    def has_room(self) -> bool:
        """Return True if lines run, or may."""
        return self._is_open and not self.is_draining and bool(self.running or self._room.free)

    def set_open(self, is_open: bool) -> None:
        """Begin lines, or stop with that: the backend is not well."""
        self._is_open = is_open
        self._wake.set()

    def drain(self) -> None:
        """Begin no more lines."""
        self.is_draining = True

    def add(self, work: ShardWork) -> None:
        """Run a shard's lines from now on."""
        self._works.append(work)
        self._wake.set()

    def remove(self, work: ShardWork) -> None:
        """Run a shard's lines no more: those at the backend end at once."""
        if work in self._works:
            self._works.remove(work)
        for run in [*work.running, *work.suspended]:
            if run in self._running:
                self._leave(run)
                if run.job is not None:
                    run.job.cancel()
            else:
                self._suspended.remove(run)
        work.waiting.clear()
        work.running.clear()
        work.suspended.clear()
        self._wake.set()

    def poke(self) -> None:
        """Look again: a line may begin."""
        self._wake.set()

    def requests_changed(self) -> None:
        """Make room for requests at once, and look again for what they left."""
        self._room.look()
        while self._room.excess and self._suspend():
            pass
        if self._works:
            self._wake.set()

    async def run(self) -> None:
        """Begin lines for ever."""
        while True:
            self._begin_lines()
            seconds = min(TICK_SECONDS, self._room.wait_seconds) if self._works else TICK_SECONDS
            await self._wake.wait(max(TICK_SECONDS_MIN, seconds))

    def _begin_lines(self) -> None:
        while self._is_open and not self.is_draining and self._room.free:
            run = self._next()
            if run is None or not self._room.take():
                return
            self._begin(run)
            self.on_begun()

    def _next(self) -> LineRun | None:
        """Return the line that goes next."""
        now = self._clock.monotonic()
        if any(run.work.is_suspect(run) for run in self._running):
            return None
        works = [work for work in self._works if not self._breakers.is_open(work.task.model)]
        for work in works:
            if work.has_only_suspects and (run := work.next_line(now, alone=True)) is not None:
                return None if self._running else run
        for run in reversed(self._suspended):
            if run.work in works and not (self._running and run.work.is_suspect(run)):
                return run
        lines = (work.next_line(now) for work in works)
        return next((run for run in lines if run is not None), None)

    def _begin(self, run: LineRun) -> None:
        if run in self._suspended:
            self._suspended.remove(run)
        run.work.begin(run)
        self._running.add(run)
        run.begun_at = self._clock.monotonic()
        self._breakers.begin(run.task.model, run.ref)
        run.job = asyncio.create_task(self._server.serve(run))
        run.job.add_done_callback(lambda job: self._ended(run, job))

    def _suspend(self) -> bool:
        """Suspend a line; False if none can be."""
        now = self._clock.monotonic()
        able = [run for run in self._running if run.job is not None and not run.job.done()]
        run = victim(able, now)
        if run is None or run.job is None:
            return False
        self._leave(run)
        run.job.cancel()
        run.suspended_at = now
        run.work.suspend(run)
        self._suspended.append(run)
        self._server.note_suspended(run)
        return True

    def _leave(self, run: LineRun) -> None:
        self._running.discard(run)
        self._room.give()

    def _ended(self, run: LineRun, job: asyncio.Task[None]) -> None:
        if run.job is job:
            self._breakers.end(run.task.model, run.ref)
            if run in self._running:
                self._leave(run)
        self._wake.set()
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("A line failed because of a bug in InferLine.", exc_info=error)
            self._server.give_up(run)
