"""The wire between a process and AWS: each of its calls passes here, and may meet a fate."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any

from inferline.errors import Unavailable
from inferline.tasks.store import TaskRead
from inferline.tasks.task import State, Task, TaskRef
from tests.protocol.loop import LoopClock, SteppedLoop

Call = Callable[[], Awaitable[Any]]


class Fate(Enum):
    """The fate of one call."""

    #: It never arrives.
    LOST = "lost"
    #: It is done, and the caller never hears of it.
    UNHEARD = "unheard"
    #: The caller gives up, and it arrives when the machine says so.
    LATE = "late"
    #: It waits on its way there, or its answer on the way back, until the machine lets it go.
    HELD = "held"
    HELD_BACK = "held back"
    #: Reads show the row that the last one showed, until they catch up; or one misses a chunk.
    STALE = "stale"
    GAPPED = "gapped"


class Wire:
    """All calls of one process. It also knows whether that process lives and runs."""

    def __init__(self, loop: SteppedLoop, late: list[Call]) -> None:
        self.dead = False
        self._late = late
        #: The rows as reads have shown them last.
        self._seen: dict[TaskRef, Task] = {}
        self._armed: dict[str, Fate] = {}
        self._runs = asyncio.Event()
        self._runs.set()
        self._open = asyncio.Event()
        self.clock = WireClock(loop, self)

    @property
    def stopped(self) -> bool:
        return not self._runs.is_set()

    def stop(self) -> None:
        """Stop the process, as SIGSTOP would."""
        self._runs.clear()

    def go_on(self) -> None:
        """Let the process go on."""
        self._runs.set()

    def arm(self, operation: str, fate: Fate) -> None:
        """Let the next call of ``operation`` meet ``fate``."""
        self._armed[operation] = fate

    def release(self) -> None:
        """Let go what was held."""
        self._open.set()
        self._open = asyncio.Event()

    def catch_up(self) -> None:
        """Show what there is."""
        self._armed = {name: fate for name, fate in self._armed.items() if fate is not Fate.STALE}

    def calm(self) -> None:
        """Let all calls pass from now on."""
        self._armed.clear()
        self.release()
        self.go_on()

    async def running(self) -> None:
        """Return when the process runs."""
        while not self._runs.is_set():
            await self._runs.wait()
        if self.dead:
            raise asyncio.CancelledError

    async def carry(self, operation: str, call: Call) -> Any:
        """Make one call, as its fate wants it."""
        await self.running()
        try:
            return await self._fated(self._fate(operation), call)
        finally:
            await self.running()

    def _fate(self, operation: str) -> Fate | None:
        if self._armed.get(operation) is Fate.STALE:
            return Fate.STALE
        return self._armed.pop(operation, None)

    async def _fated(self, fate: Fate | None, call: Call) -> Any:
        if fate is Fate.HELD:
            await self._open.wait()
        if self.dead:
            raise asyncio.CancelledError
        if fate is Fate.LATE:
            self._late.append(call)
        if fate in (Fate.LOST, Fate.LATE):
            raise Unavailable
        try:
            answer = await call()
        finally:
            if fate is Fate.HELD_BACK:
                await self._open.wait()
        if fate is Fate.UNHEARD:
            raise Unavailable
        return self._as_read(fate, answer)

    def _as_read(self, fate: Fate | None, answer: Any) -> Any:
        """Return what a read that is eventually consistent might have shown instead."""
        if isinstance(answer, dict) and fate is Fate.STALE:
            return {ref: now._replace(state=State.QUEUED, attempt=0) for ref, now in answer.items()}
        if isinstance(answer, list) and answer and isinstance(answer[0], TaskRead):
            return [self._early(fate, read) for read in answer]
        return answer

    def _early(self, fate: Fate | None, read: TaskRead) -> TaskRead:
        now = read.task
        if now is None:
            return read
        if fate is Fate.STALE:
            return replace(read, task=self._seen.setdefault(now.ref, now))
        self._seen[now.ref] = now
        return replace(read, chunks=read.chunks[1:]) if fate is Fate.GAPPED else read


class WireClock(LoopClock):
    """The clock of one process: it runs on while that is stopped, and nobody looks at it."""

    def __init__(self, loop: SteppedLoop, wire: Wire) -> None:
        super().__init__(loop)
        self._wire = wire

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self._wire.running()


class Seam:
    """A store or a queue as one process has it: behind its wire."""

    def __init__(self, wire: Wire, inner: Any) -> None:
        self._wire = wire
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def passed(*given: Any, **named: Any) -> Any:
            return await self._wire.carry(name, partial(method, *given, **named))

        return passed
