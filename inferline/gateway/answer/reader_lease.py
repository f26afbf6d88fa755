"""Attendance: while a client waits, the task's row says that somebody reads its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from inferline.errors import Unavailable
from inferline.gateway.parts import GatewayParts
from inferline.tasks.task import Task


class ReaderLease:
    """
    Renews one reader lease while in its context, at half of its length.

    An answer that comes sooner costs no write. A lease that somebody else took is left to them,
    and taken back when they are gone.
    """

    def __init__(self, line: GatewayParts, reader: str, seen: Callable[[], Task]) -> None:
        """``seen`` gives the task's row as last read."""
        self._line = line
        self._reader = reader
        self._seen = seen
        self._renewal: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._timer.cancel()

    async def end(self) -> None:
        """Let the lease go: who comes for the answer next has not to wait until it is over."""
        self._timer.cancel()
        if self._renewal is not None:
            await asyncio.wait({self._renewal})
        await self._hold(0)

    def _arm(self) -> None:
        seconds = self._line.settings.reader_seconds / 2
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._arm()
        # Beside the answer: no client waits for it. The last one is kept from being collected.
        self._renewal = asyncio.get_running_loop().create_task(
            self._hold(self._line.settings.reader_seconds)
        )

    async def _hold(self, seconds: float) -> None:
        task, store = self._seen(), self._line.store
        is_others = task.reader != self._reader and task.reader_ms >= store.now_ms()
        if task.state.terminal or is_others:
            return
        with suppress(Unavailable):  # Then the next time: half of the lease is left.
            await store.renew_reader_lease(task, self._reader, seconds)
