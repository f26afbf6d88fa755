"""Work beside other work: in the background, until an event, again after a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeVar

from inferline.clock import Clock

T = TypeVar("T")

#: More doublings than any pause has; 2 ** failures would overflow at last.
_DOUBLINGS_MAX: Final = 30


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``work`` until the block ends, which cancels it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def first_of(work: Awaitable[T], event: Awaitable[object]) -> T | None:
    """
    Return the result of ``work``, or None if ``event`` comes before it.

    The other one is cancelled; ``work`` has then ended. Raises what ``work`` raises.
    """
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        waiting.cancel()
        task.cancel()
    await asyncio.wait({task})
    error = None if task.cancelled() else task.exception()
    # What `asyncio.gather` returns holds its cancellation as an exception.
    if error is not None and not isinstance(error, asyncio.CancelledError):
        raise error
    return None


class Wake:
    """A pause that can be ended early. One waits at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        """End the pause under way, or else the next one as soon as it begins."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return after ``seconds``, or when `set` has been called since the last pause."""
        await first_of(self._clock.sleep(seconds), self._event.wait())
        self._event.clear()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts: each twice as long as the one before."""

    #: Seconds.
    first: float
    longest: float = inf

    def seconds(self, failures: int) -> float:
        """Return the pause after an attempt that ``failures`` others failed before, in a row."""
        return min(self.longest, self.first * 2.0 ** min(failures, _DOUBLINGS_MAX))
