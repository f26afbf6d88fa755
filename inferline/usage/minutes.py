"""
Metrics of each minute and model: counts and times that can be added up, made of ledger entries.

A row has numbers alone, so that any number of gateways can add to it without reading it, and rows
of several minutes or models add up to one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from inferline.background import background
from inferline.clock import Clock
from inferline.errors import InferLineError
from inferline.usage.ledger import Entry

log = logging.getLogger(__name__)

MINUTE_MS: Final = 60_000
#: Between two writes of what has gathered, seconds.
FLUSH_SECONDS: Final = 5.0
#: Rows that may wait for a store that does not answer; the oldest are dropped.
ROWS_WAITING_MAX: Final = 256

#: Each bucket of a histogram ends where its number is so many times its beginning: what is read
#: from it is within a tenth of what was put in.
_GROWTH: Final = 1.2
_LOG_GROWTH: Final = math.log(_GROWTH)

#: The histograms, in milliseconds. For answers without an error: the time until the first bytes
#: of a stream, until an answer's last byte, and until a provider took the task. And how long the
#: oldest task had waited, at each check.
Measure = Literal["first", "total", "queue", "age"]

_REQUESTS: Final = "n"
_BYTES: Final = "bytes"
_INPUT: Final = "in"
_OUTPUT: Final = "out"
_ERROR: Final = "e:"
_CALL: Final = "c:"


@dataclass(frozen=True, slots=True)
class MinuteMetrics:
    """Counts by name. The names are the attributes of a stored row; only this class reads them."""

    counts: Counter[str] = field(default_factory=Counter)

    def note(self, entry: Entry) -> None:
        """Add a request."""
        self.counts[_REQUESTS] += 1
        self.counts[_BYTES] += entry.answer_bytes
        if entry.input_tokens or entry.output_tokens:
            self.counts[_INPUT] += entry.input_tokens
            self.counts[_OUTPUT] += entry.output_tokens
        if entry.code:
            self.counts[_ERROR + entry.code] += 1
            return
        self._time("total", entry.total_ms)
        self._time("queue", entry.queue_ms)
        if entry.streamed and entry.first_ms is not None:
            self._time("first", entry.first_ms)

    def note_age(self, ms: int) -> None:
        """Add how long the oldest waiting task has waited."""
        self._time("age", ms)

    def note_calls(self, calls: Mapping[tuple[str, str], int]) -> None:
        """Add calls to AWS, by service and operation."""
        for (service, operation), count in calls.items():
            self.counts[f"{_CALL}{service}:{operation}"] += count

    def add(self, other: MinuteMetrics) -> None:
        """Add all of ``other``."""
        self.counts.update(other.counts)

    def _time(self, measure: Measure, ms: int) -> None:
        self.counts[f"{measure}:{_bucket(ms)}"] += 1

    @property
    def requests(self) -> int:
        """Return the number of requests that ended, errors included."""
        return self.counts[_REQUESTS]

    @property
    def answer_bytes(self) -> int:
        """Return the bytes of answers that were sent."""
        return self.counts[_BYTES]

    @property
    def input_tokens(self) -> int:
        """Return the tokens that the backends say they read."""
        return self.counts[_INPUT]

    @property
    def output_tokens(self) -> int:
        """Return the tokens that the backends say they wrote."""
        return self.counts[_OUTPUT]

    @property
    def errors(self) -> dict[str, int]:
        """Return the number of failed requests, by the error's code."""
        return self._named(_ERROR)

    @property
    def calls(self) -> dict[str, int]:
        """Return the number of the gateways' calls to AWS, by ``service:Operation``."""
        return self._named(_CALL)

    def percentile(self, measure: Measure, share: float) -> int | None:
        """
        Return the time that a ``share`` (0 to 1) of the requests did not exceed, ms; None without
        requests.

        It is within a tenth.
        """
        buckets = {int(name): count for name, count in self._named(f"{measure}:").items()}
        wanted = max(1, math.ceil(share * sum(buckets.values())))
        for number in sorted(buckets):
            wanted -= buckets[number]
            if wanted <= 0:
                return _middle(number)
        return None

    def _named(self, kind: str) -> dict[str, int]:
        cut = len(kind)
        return {n[cut:]: c for n, c in sorted(self.counts.items()) if c and n.startswith(kind)}


def _bucket(ms: int) -> int:
    """Return the number of the bucket of ``ms``: 0 for 0, else of [1.2 ** (n - 1), 1.2 ** n)."""
    return 1 + math.floor(math.log(ms) / _LOG_GROWTH) if ms > 0 else 0


def _middle(number: int) -> int:
    return round(_GROWTH ** (number - 0.5)) if number else 0


@dataclass(frozen=True, slots=True)
class Minute:
    """The metrics of one model (empty: of requests without one) in one minute."""

    #: Minutes since 1970.
    number: int
    model: str
    metrics: MinuteMetrics

    @classmethod
    def of_age(cls, number: int, model: str, ms: int) -> Minute:
        """Make a row with nothing but how long the oldest waiting task has waited."""
        metrics = MinuteMetrics()
        metrics.note_age(ms)
        return cls(number, model, metrics)


def total(rows: Iterable[Minute]) -> MinuteMetrics:
    """Add up all ``rows``."""
    sums = MinuteMetrics()
    for row in rows:
        sums.add(row.metrics)
    return sums


class MinuteStore(Protocol):
    """
    The store of minutes, which keeps them for some hours. Raises `Unavailable` when it does not
    answer.
    """

    async def add(self, row: Minute) -> None:
        """
        Add to a minute's metrics.

        Not idempotent: repeated after a lost response, it counts twice.
        """

    async def since(self, number: int) -> list[Minute]:
        """Return all minutes from ``number`` on, oldest first. Eventually consistent."""


class MinuteLedger:
    """
    A `Ledger` that gathers minutes in memory until they are flushed.

    ``calls`` are the process's calls to AWS so far. Later ones are written, and only along with
    requests, so that an idle gateway writes nothing.
    """

    def __init__(
        self,
        store: MinuteStore,
        calls: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        self.store = store
        #: The process's calls to AWS so far.
        self.calls = calls
        self._calls_noted = Counter(calls())
        self._waiting: dict[tuple[int, str], MinuteMetrics] = {}

    def record(self, entry: Entry) -> None:
        """Record an entry; see `Ledger`."""
        self._at((entry.ended_ms // MINUTE_MS, entry.model)).note(entry)
        self._drop_oldest()

    def note_ages(self, now_ms: int, ages_ms: Mapping[str, int]) -> None:
        """Record how long the oldest waiting task has waited, by model."""
        for model, ms in ages_ms.items():
            self._at((now_ms // MINUTE_MS, model)).note_age(ms)
        self._drop_oldest()

    async def flush(self) -> bool:
        """
        Write what has gathered; return False if there is nothing.

        What the store does not take waits for the next time; no error is raised.
        """
        taken, self._waiting = self._waiting, {}
        if not taken:
            return False
        self._note_calls(next(reversed(taken.values())))
        rows = [Minute(number, model, metrics) for (number, model), metrics in taken.items()]
        outcomes = await asyncio.gather(*map(self.store.add, rows), return_exceptions=True)
        failed = 0
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, InferLineError):
                self._at((row.number, row.model)).add(row.metrics)
                failed += 1
            elif isinstance(outcome, BaseException):
                raise outcome
        if failed:
            log.warning("could not write the metrics of %d minutes yet", failed)
        self._drop_oldest()
        return True

    @asynccontextmanager
    async def flushing(
        self,
        clock: Clock,
        before: Callable[[], None] = lambda: None,
        seconds: float = FLUSH_SECONDS,
    ) -> AsyncIterator[None]:
        """
        Flush periodically in the background, calling ``before`` each time, and once more at the
        end.
        """

        async def repeat() -> None:
            while True:
                await clock.sleep(seconds)
                before()
                await self.flush()

        try:
            async with background(repeat()):
                yield
        finally:
            await self.flush()

    def _at(self, key: tuple[int, str]) -> MinuteMetrics:
        return self._waiting.setdefault(key, MinuteMetrics())

    def _note_calls(self, metrics: MinuteMetrics) -> None:
        now = Counter(self.calls())
        metrics.note_calls(now - self._calls_noted)
        self._calls_noted = now

    def _drop_oldest(self) -> None:
        for key in sorted(self._waiting)[: max(0, len(self._waiting) - ROWS_WAITING_MAX)]:
            del self._waiting[key]


def last_hour(now_ms: int) -> Sequence[int]:
    """Return the numbers of the sixty minutes up to the one of ``now_ms``."""
    newest = now_ms // MINUTE_MS
    return range(newest - 59, newest + 1)
