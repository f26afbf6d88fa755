"""Caches of the registry and the queues: a little old, and free to read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Generic, TypeVar

from inferline.accounts.caller import Caller
from inferline.clock import Clock
from inferline.errors import ModelNotFound
from inferline.expiring import ExpiringMap
from inferline.fleet.registry import Fleet, Model, Registry, Snapshot
from inferline.names import base_name
from inferline.tasks.queue import Depth, TaskQueue

log = logging.getLogger(__name__)

#: A value this many seconds past its limit is stale: the process was frozen, as Lambda does between
#: requests, or there were no requests.
STALE_SECONDS: Final = 30.0
#: How old the row of a missing model may be, seconds: the model may have just come.
MISSED_SECONDS: Final = 1.0
#: Models named in requests whose rows are cached.
ROWS_MAX: Final = 2048
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
        self._expired = False
        self._fetching: asyncio.Task[T] | None = None

    @property
    def last(self) -> T | None:
        """Return the last value, however old."""
        return self._value

    def expire(self) -> None:
        """Make the value count as old from now on."""
        self._expired = True

    def take(self, value: T) -> None:
        """Store a value as of now."""
        self._value, self._fetching, self._expired = value, None, False
        self._fetched = self._clock.monotonic()

    def peek(self) -> T | None:
        """Return the cached value, or None if stale. Refreshes an old one in the background."""
        if self._expired or self._clock.monotonic() - self._fetched > self._seconds:
            self._refresh()
        return self.known()

    def known(self) -> T | None:
        """Return the cached value, or None if stale. Never starts a refresh."""
        age = self._clock.monotonic() - self._fetched
        return self._value if age <= self._seconds + STALE_SECONDS else None

    async def get(self) -> T:
        """Return the cached value; wait only if there is none. Raises what that fetch raises."""
        value = self.peek()
        return value if value is not None else await asyncio.shield(self._refresh())

    async def settled(self, seconds_max: float = inf) -> T:
        """
        Return the value once no fetch is under way, no older than the limit or ``seconds_max``.

        Raises what that fetch raises.
        """
        age = self._clock.monotonic() - self._fetched
        is_young = not self._expired and age <= min(self._seconds, seconds_max)
        if self._fetching is None and self._value is not None and is_young:
            return self._value
        return await asyncio.shield(self._refresh())

    async def fresh(self) -> T:
        """Fetch the value anew. Raises what the fetch raises."""
        if self._fetching is not None:  # It may have read before the caller's own last write.
            await asyncio.wait({self._fetching})
        return await asyncio.shield(self._refresh())

    def _refresh(self) -> asyncio.Task[T]:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._do_fetch())
            self._fetching.add_done_callback(self._fetched_now)
        return self._fetching

    async def _do_fetch(self) -> T:
        return await self._fetch()

    def _fetched_now(self, fetching: asyncio.Task[T]) -> None:
        if fetching is not self._fetching:
            return  # A later value has been taken meanwhile.
        self._fetching, self._expired = None, False
        self._fetched = self._clock.monotonic()
        if fetching.cancelled():
            return
        if (error := fetching.exception()) is None:
            self._value = fetching.result()
        else:
            log.warning("could not refresh: %s", type(error).__name__)


@dataclass(frozen=True, slots=True)
class DepthReading:
    """A queue's depth, and when it was read by the gateway's clock."""

    depth: Depth
    at: float


class Catalogue:
    """
    Models, their providers and their queues' lengths.

    A request needs its model alone, which costs one row's read per ``registry_seconds`` at most.
    Lists and enrolments need all models, and only the overview needs everything.
    """

    def __init__(
        self,
        registry: Registry,
        queue: TaskQueue,
        clock: Clock,
        registry_seconds: float,
        *,
        model_seconds_kept: float = inf,
        listed: Container[str] = (),
    ) -> None:
        """``model_seconds_kept``: how long a model without providers is kept, unless ``listed``."""
        self.registry = registry
        self._model_seconds_kept = model_seconds_kept
        self._listed = listed
        self._queue = queue
        self._clock = clock
        self._seconds = registry_seconds
        #: By name, the least recently used first. The row of a missing model holds None.
        self._rows = ExpiringMap[str, Cached[tuple[Model | None]]](ROWS_MAX)
        self._models: Cached[Mapping[str, Model]] = Cached(registry.models, clock, registry_seconds)
        self._snapshot = Cached(registry.snapshot, clock, registry_seconds)
        self._fleet = Cached(registry.fleet, clock, registry_seconds)
        self._depths: dict[str, Cached[DepthReading]] = {}

    async def asked(self, name: str, caller: Caller) -> Model:
        """
        Return the model that a caller calls ``name``. Raises ModelNotFound.

        A model that the caller may not use is not read, so that nothing reveals if it exists.
        """
        registry_name = caller.asked_name(name)
        if registry_name is None:
            raise no_such_model(name)
        try:
            return await self.model(registry_name)
        except ModelNotFound:
            raise no_such_model(name) from None

    async def model(self, name: str) -> Model:
        """Return the model of a registry name. Raises ModelNotFound, after a recent read."""
        row = self._row(name)
        [model] = await row.get()
        if model is None or not self._keeps(model):
            [model] = await row.settled(MISSED_SECONDS)
        if model is None or not self._keeps(model):
            raise no_such_model(name)
        return model

    async def models(self) -> Mapping[str, Model]:
        """Return all models, no older than the settings allow. Raises Unavailable."""
        return self._kept(await self._models.settled())

    def _kept(self, models: Mapping[str, Model]) -> dict[str, Model]:
        return {name: model for name, model in models.items() if self._keeps(model)}

    def _keeps(self, model: Model) -> bool:
        if model.is_served or base_name(model.id) in self._listed:
            return True
        return not model.is_past(self.registry.now_ms(), self._model_seconds_kept)

    async def slugs(self, model_hash: str) -> list[str]:
        """
        Return the slugs of the models with a hash, or all for an empty one. Raises Unavailable.

        An old list of models will do: slugs never change.
        """
        slugs = _with_hash(self._models.last or {}, model_hash) if model_hash else []
        return slugs or _with_hash(await self._models.settled(MISSED_SECONDS), model_hash)

    async def snapshot(self) -> Snapshot:
        """Return everything, no older than the settings allow. Raises Unavailable."""
        snapshot = await self._snapshot.settled()
        return replace(snapshot, models=self._kept(snapshot.models))

    async def fleet(self) -> Fleet:
        """Return the whole fleet's sums, no older than the settings allow. Raises Unavailable."""
        fleet = await self._fleet.settled()
        return fleet.as_of(self.registry.now_ms(), self.registry.silent_seconds)

    def changed(self, models: Mapping[str, Model] | None = None) -> None:
        """Make every cached value old, but take ``models`` as the new ones if they are given."""
        self._snapshot.expire()
        self._fleet.expire()
        for row in self._rows.values():
            row.expire()
        if models is None:
            self._models.expire()
        else:
            self._models.take(models)

    def _row(self, name: str) -> Cached[tuple[Model | None]]:
        async def read() -> tuple[Model | None]:
            return (await self.registry.model(name),)

        row = self._rows.get(name) or Cached(read, self._clock, self._seconds)
        self._rows.put(name, row)
        return row

    def depth(self, queue: str) -> DepthReading | None:
        """Return a queue's recent length; None if it is not known yet."""
        return self._depth(queue).peek()

    def known_depth(self, queue: str) -> DepthReading | None:
        """Return a queue's recent length without starting a read."""
        return self._depth(queue).known()

    async def depth_now(self, queue: str) -> Depth:
        """Return a queue's length, as old as `DEPTH_SECONDS` allows. Raises Unavailable."""
        return (await self._depth(queue).get()).depth

    def _depth(self, queue: str) -> Cached[DepthReading]:
        async def read() -> DepthReading:
            at = self._clock.monotonic()
            return DepthReading(await self._queue.depth(queue), at)

        if queue not in self._depths:
            self._depths[queue] = Cached(read, self._clock, DEPTH_SECONDS)
        return self._depths[queue]


def _with_hash(models: Mapping[str, Model], model_hash: str) -> list[str]:
    return [model.slug for model in models.values() if model_hash in ("", model.hash)]


def no_such_model(name: str) -> ModelNotFound:
    """Return the error for a request of a model called ``name``."""
    message = f"The model {name[:128]!r} does not exist. GET /v1/models lists those that do."
    return ModelNotFound(message, param="model")
