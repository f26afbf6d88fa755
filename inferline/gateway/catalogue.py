"""The gateway's picture of the registry and of the queues: a little old, and free to look at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from inferline.clock import Clock
from inferline.errors import ModelNotFound
from inferline.queue import Depth, TaskQueue
from inferline.registry import Model, Registry, Snapshot

log = logging.getLogger(__name__)

#: What nobody has renewed for so long, seconds past its limit, is of no use: the process was
#: stopped, as Lambda does between requests, or nobody asked.
STALE_SECONDS: Final = 30.0
#: How old the picture may be in which a model is missed, seconds: it may have just come.
MISSED_SECONDS: Final = 1.0
#: How old a queue's depth may be, seconds.
DEPTH_SECONDS: Final = 2.0

T = TypeVar("T")


class Cached(Generic[T]):
    """
    A value that is fetched again when it is old.

    One fetch at a time. While it is under way, and when it fails, the old value serves, unless it
    is stale.
    """

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Clock, seconds: float) -> None:
        self._fetch = fetch
        self._clock = clock
        self._seconds = seconds
        self._value: T | None = None
        self._fetched = -1e9
        self._fetching: asyncio.Task[T] | None = None

    def peek(self) -> T | None:
        """The value at hand; None before the first, or if stale. An old one is renewed behind."""
        if self._clock.monotonic() - self._fetched > self._seconds:
            self._refresh()
        return self.known()

    def known(self) -> T | None:
        """The value at hand, as `peek`; nothing is renewed."""
        age = self._clock.monotonic() - self._fetched
        return self._value if age <= self._seconds + STALE_SECONDS else None

    async def get(self) -> T:
        """The value at hand, waiting only where there is none. Raises what that fetch raises."""
        value = self.peek()
        return value if value is not None else await asyncio.shield(self._refresh())

    async def settled(self, seconds_max: float = inf) -> T:
        """
        The value once no fetch is under way: no older than the limit, or than ``seconds_max``.

        Raises what that fetch raises.
        """
        age = self._clock.monotonic() - self._fetched
        is_young = age <= min(self._seconds, seconds_max)
        if self._fetching is None and self._value is not None and is_young:
            return self._value
        return await asyncio.shield(self._refresh())

    async def fresh(self) -> T:
        """The value as of now. Raises what the fetch raises."""
        if self._fetching is not None:  # It may have looked before what the caller has just done.
            await asyncio.wait({self._fetching})
        return await asyncio.shield(self._refresh())

    def _refresh(self) -> asyncio.Task[T]:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._do_fetch())
            self._fetching.add_done_callback(self._fetched_now)
        return self._fetching

    async def _do_fetch(self) -> T:
        self._value = await self._fetch()
        return self._value

    def _fetched_now(self, fetching: asyncio.Task[T]) -> None:
        self._fetching = None
        self._fetched = self._clock.monotonic()
        if not fetching.cancelled() and (error := fetching.exception()) is not None:
            log.warning("could not refresh: %s", type(error).__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """A queue's depth, and when it was asked for by the gateway's clock."""

    depth: Depth
    at: float


class Catalogue:
    """Models, who serves them and how long their queues are."""

    def __init__(
        self, registry: Registry, queue: TaskQueue, clock: Clock, registry_seconds: float
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._snapshot = Cached(registry.snapshot, clock, registry_seconds)
        self._depths: dict[str, Cached[Reading]] = {}

    async def snapshot(self) -> Snapshot:
        """The registry, as old as the settings allow."""
        return await self._snapshot.get()

    async def recent(self) -> Snapshot:
        """The registry, waiting for a fetch that is under way. Raises Unavailable."""
        return await self._snapshot.settled()

    async def fresh(self) -> Snapshot:
        """The registry as of now. Raises Unavailable."""
        return await self._snapshot.fresh()

    async def model(self, name: str) -> Model:
        """The model called ``name``. Raises ModelNotFound, after a look that is not old."""
        found = (await self.snapshot()).models.get(name)
        if found is None:
            found = (await self._snapshot.settled(MISSED_SECONDS)).models.get(name)
        if found is None:
            raise no_such_model(name)
        return found

    def depth(self, queue: str) -> Reading | None:
        """How long a queue was lately; None when that is not known yet."""
        return self._depth(queue).peek()

    def known_depth(self, queue: str) -> Reading | None:
        """The same of a queue that is not asked for: it is not read again for this."""
        return self._depth(queue).known()

    async def depth_now(self, queue: str) -> Depth:
        """How long a queue is, as old as `DEPTH_SECONDS` allows. Raises Unavailable."""
        return (await self._depth(queue).get()).depth

    def _depth(self, queue: str) -> Cached[Reading]:
        async def read() -> Reading:
            at = self._clock.monotonic()
            return Reading(await self._queue.depth(queue), at)

        if queue not in self._depths:
            self._depths[queue] = Cached(read, self._clock, DEPTH_SECONDS)
        return self._depths[queue]


def no_such_model(name: str) -> ModelNotFound:
    """The error of who asks for a model called ``name``."""
    message = f"The model {name[:128]!r} does not exist. GET /v1/models lists those that do."
    return ModelNotFound(message, param="model")
