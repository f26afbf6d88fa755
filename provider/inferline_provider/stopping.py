"""Requests to stop the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Stopping:
    """Requests to stop: the first to drain, the second to hand back at once."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.now = asyncio.Event()
        #: The longest time for draining, whatever the settings say; None: as they say.
        self.seconds_max: float | None = None

    def ask(self) -> None:
        """Ask to stop; a second time, to stop now."""
        (self.now if self.drain.is_set() else self.drain).set()

    def ask_within(self, seconds: float) -> None:
        """Ask to stop because the host ends: running tasks have this time to finish."""
        if not self.drain.is_set():
            self.seconds_max = seconds
            self.drain.set()


async def unless(event: asyncio.Event, doing: Awaitable[T]) -> T | None:
    """Return what `doing` returns, or None, with it cancelled, when the event comes first."""
    task = asyncio.ensure_future(doing)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        waiting.cancel()
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return None
