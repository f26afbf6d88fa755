"""The gateway's picture of the registry and of the queues: a little old, and free to look at."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Generic, TypeVar

from inferline.accounts.caller import Caller
from inferline.clock import Clock
from inferline.errors import ModelNotFound
from inferline.fleet.registry import Fleet, Model, Registry, Snapshot
from inferline.names import NAME_BYTES_MAX, base_name
from inferline.tasks.queue import Depth, TaskQueue
from inferline.validation.payload import MODEL_CHARS_MAX

log = logging.getLogger(__name__)

#: What nobody has renewed for so long, seconds past its limit, is of no use: the process was
#: stopped, as Lambda does between requests, or nobody asked.
STALE_SECONDS: Final = 30.0
#: How old the picture may be in which a model is missed, seconds: it may have just come.
MISSED_SECONDS: Final = 1.0
#: How many models that requests have named are remembered.
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
        """The last value, however old."""
        return self._value

    def expire(self) -> None:
        """Have the value count as old from now on."""
        self._expired = True

    def take(self, value: T) -> None:
        """Have this value as of now."""
        self._value, self._fetching, self._expired = value, None, False
        self._fetched = self._clock.monotonic()

    def peek(self) -> T | None:
        """The value at hand; None before the first, or if stale. An old one is renewed behind."""
        if self._expired or self._clock.monotonic() - self._fetched > self._seconds:
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
        is_young = not self._expired and age <= min(self._seconds, seconds_max)
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
    """A queue's depth, and when it was asked for by the gateway's clock."""

    depth: Depth
    at: float


class Catalogue:
    """
    Models, who serves them and how long their queues are.

    A request looks at its model alone, which costs the read of one row each ``registry_seconds`` at
    the most. All models at once are for who lists or enrols them, and everything for people.
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
        """``model_seconds_kept``: how long a model is there that nobody has and is not listed."""
        self.registry = registry
        self._model_seconds_kept = model_seconds_kept
        self._listed = listed
        self._queue = queue
        self._clock = clock
        self._seconds = registry_seconds
        #: By name, the one asked for longest ago first. One that is missed has no model.
        self._rows: OrderedDict[str, Cached[tuple[Model | None]]] = OrderedDict()
        self._models: Cached[Mapping[str, Model]] = Cached(registry.models, clock, registry_seconds)
        self._snapshot = Cached(registry.snapshot, clock, registry_seconds)
        self._fleet = Cached(registry.fleet, clock, registry_seconds)
        self._depths: dict[str, Cached[DepthReading]] = {}

    async def asked(self, name: str, caller: Caller) -> Model:
        """
        The model that a caller asks for by ``name``. Raises ModelNotFound.

        One that is not for it is not looked for: nothing tells whether it exists.
        """
        is_name = 0 < len(name) <= MODEL_CHARS_MAX and base_name(name) == name
        if not is_name or not caller.may_use(name):
            raise no_such_model(name)
        registered = caller.registry_name(name)
        if len(registered.encode()) > NAME_BYTES_MAX:
            raise no_such_model(name)
        try:
            return await self.model(registered)
        except ModelNotFound:
            raise no_such_model(name) from None

    async def model(self, name: str) -> Model:
        """
        The model that the registry calls ``name``. Raises ModelNotFound, after a look that is not
        old.
        """
        row = self._row(name)
        [found] = await row.get()
        if found is None or not self._keeps(found):
            [found] = await row.settled(MISSED_SECONDS)
        if found is None or not self._keeps(found):
            raise no_such_model(name)
        return found

    async def models(self) -> Mapping[str, Model]:
        """All models, no older than the settings allow. Raises Unavailable."""
        return self._kept(await self._models.settled())

    def _kept(self, models: Mapping[str, Model]) -> dict[str, Model]:
        return {name: model for name, model in models.items() if self._keeps(model)}

    def _keeps(self, model: Model) -> bool:
        if model.is_served or base_name(model.id) in self._listed:
            return True
        return not model.is_past(self.registry.now_ms(), self._model_seconds_kept)

    async def slugs(self, mark: str) -> list[str]:
        """
        The slugs of the models with that mark, of all for an empty one. Raises Unavailable.

        However old a list of models is, no slug in it changes.
        """
        found = _marked(self._models.last or {}, mark) if mark else []
        return found or _marked(await self._models.settled(MISSED_SECONDS), mark)

    async def snapshot(self) -> Snapshot:
        """Everything, no older than the settings allow. Raises Unavailable."""
        snapshot = await self._snapshot.settled()
        return replace(snapshot, models=self._kept(snapshot.models))

    async def fleet(self) -> Fleet:
        """All providers together, no older than the settings allow. Raises Unavailable."""
        fleet = await self._fleet.settled()
        return fleet.as_of(self.registry.now_ms(), self.registry.silent_seconds)

    def changed(self, models: Mapping[str, Model] | None = None) -> None:
        """Look anew for all that is asked for, but for ``models``, where they are known."""
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

        if name not in self._rows:
            self._rows[name] = Cached(read, self._clock, self._seconds)
            if len(self._rows) > ROWS_MAX:
                self._rows.popitem(last=False)
        self._rows.move_to_end(name)
        return self._rows[name]

    def depth(self, queue: str) -> DepthReading | None:
        """How long a queue was lately; None when that is not known yet."""
        return self._depth(queue).peek()

    def known_depth(self, queue: str) -> DepthReading | None:
        """The same of a queue that is not asked for: it is not read again for this."""
        return self._depth(queue).known()

    async def depth_now(self, queue: str) -> Depth:
        """How long a queue is, as old as `DEPTH_SECONDS` allows. Raises Unavailable."""
        return (await self._depth(queue).get()).depth

    def _depth(self, queue: str) -> Cached[DepthReading]:
        async def read() -> DepthReading:
            at = self._clock.monotonic()
            return DepthReading(await self._queue.depth(queue), at)

        if queue not in self._depths:
            self._depths[queue] = Cached(read, self._clock, DEPTH_SECONDS)
        return self._depths[queue]


def _marked(models: Mapping[str, Model], mark: str) -> list[str]:
    return [model.slug for model in models.values() if mark in ("", model.hash)]


def no_such_model(name: str) -> ModelNotFound:
    """The error of who asks for a model called ``name``."""
    message = f"The model {name[:128]!r} does not exist. GET /v1/models lists those that do."
    return ModelNotFound(message, param="model")
