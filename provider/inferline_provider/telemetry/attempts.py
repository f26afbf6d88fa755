"""What an attempt tells of itself: its spans, and one record once it has ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from inferline.clock import Clock
from inferline.tasks.store import AttemptOutcome
from inferline.tasks.task import Task
from inferline.telemetry import genai
from inferline.telemetry.trace import NO_TRACER, TraceParent, Tracer

#: How an attempt ends: the task is answered, has failed, goes back, is past its deadline or was
#: cancelled; its lease was lost; the provider had to stop; or a fault of ours.
AttemptEnding = Literal["answered", "failed", "handed_back", "expired", "ended", "lost", "broken"]


#: How often each operation of each service was called, retries included.
Calls = Callable[[], Mapping[tuple[str, str], int]]

#: In the JSON of who asks for a stream, and hardly ever elsewhere: in a string, quotes are escaped.
_STREAMED: Final = re.compile(rb'"stream"\s*:\s*true\b')


@dataclass(slots=True, kw_only=True)
class AttemptRecord:
    """One attempt. There is no word of what was asked or answered in it."""

    model: str
    tier: str
    path: str
    queue_ms: int
    #: Whether a stream was asked for.
    streamed: bool = False
    ending: AttemptEnding = "broken"
    #: How long the backend worked on it, seconds; None when it was not asked.
    backend_seconds: float | None = None
    #: Until the first event of a stream; None when there was none.
    first_seconds: float | None = None
    #: Of a stream, so far: about one for each token.
    events: int = 0
    #: What the backend's answer failed by, empty when it did not.
    error: str = ""
    #: What the backend says that it read and wrote.
    tokens: dict[genai.TokenType, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """How a provider stands."""

    slots: int
    used: int
    healthy: bool


class TelemetrySink(Protocol):
    """Whoever wants to know of a provider."""

    def watch(self, look: Callable[[], ProviderStatus]) -> None:
        """From now on ``look`` tells how it stands."""

    def watch_calls(self, calls: Calls) -> None:
        """From now on ``calls`` tells what it has called at AWS."""

    def asked(self, record: AttemptRecord) -> None:
        """The backend is asked now; a second time if it refused the question for the usage."""

    def begun(self, record: AttemptRecord) -> None:
        """The first event of a stream has come: ``record`` counts the others as they come."""

    def record(self, record: AttemptRecord) -> None:
        """An attempt has ended. Never blocks and never raises."""


class NullSink:
    """Does not want to know."""

    def watch(self, look: Callable[[], ProviderStatus]) -> None:
        """Do not look."""

    def watch_calls(self, calls: Calls) -> None:
        """Do not look."""

    def asked(self, record: AttemptRecord) -> None:
        """Do not look."""

    def begun(self, record: AttemptRecord) -> None:
        """Do not look."""

    def record(self, record: AttemptRecord) -> None:
        """Keep nothing."""


class Watchers:
    """Several watchers as one."""

    def __init__(self, *watchers: TelemetrySink) -> None:
        self._watchers = watchers

    def watch(self, look: Callable[[], ProviderStatus]) -> None:
        """Tell each; see `TelemetrySink`."""
        for watcher in self._watchers:
            watcher.watch(look)

    def watch_calls(self, calls: Calls) -> None:
        """Tell each; see `TelemetrySink`."""
        for watcher in self._watchers:
            watcher.watch_calls(calls)

    def asked(self, record: AttemptRecord) -> None:
        """Tell each; see `TelemetrySink`."""
        for watcher in self._watchers:
            watcher.asked(record)

    def begun(self, record: AttemptRecord) -> None:
        """Tell each; see `TelemetrySink`."""
        for watcher in self._watchers:
            watcher.begun(record)

    def record(self, record: AttemptRecord) -> None:
        """Tell each; see `TelemetrySink`."""
        for watcher in self._watchers:
            watcher.record(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Who is told."""

    tracer: Tracer = NO_TRACER
    watcher: TelemetrySink = field(default_factory=NullSink)


#: For who tells nobody.
UNTOLD: Final = Telemetry()


def asks_stream(body: bytes) -> bool:
    """Say whether a request asks for a stream."""
    return _STREAMED.search(body) is not None


class AttemptTelemetry:
    """One attempt as its spans and its record have it. Dates are the store's, as everywhere."""

    def __init__(
        self,
        telemetry: Telemetry,
        task: Task,
        provider: str,
        clock: Clock,
        now_ms: Callable[[], int],
    ) -> None:
        self._telemetry = telemetry
        self._task = task
        self._provider = provider
        self._clock = clock
        self._now_ms = now_ms
        told = TraceParent.parse(task.traceparent)
        self._span = telemetry.tracer.begin("consumer", told, task.claimed_ms)
        self._asked_at = 0.0
        self._record = AttemptRecord(
            model=task.model, tier=task.tier, path=task.path, queue_ms=task.queue_ms
        )

    @contextmanager
    def asking(self, body: bytes = b"") -> Iterator[str]:
        """The time that the backend takes over a body; yields the header that it is told."""
        span = self._telemetry.tracer.begin("client", self._span.context, self._now_ms())
        self._asked_at = self._clock.monotonic()
        record = self._record
        record.streamed = asks_stream(body)
        self._telemetry.watcher.asked(record)
        try:
            yield str(span.context)
        except asyncio.CancelledError:
            record.error = "cancelled"
            raise
        except Exception as error:
            record.error = getattr(error, "error_type", "") or type(error).__name__
            raise
        finally:
            record.backend_seconds = self._clock.monotonic() - self._asked_at
            operation = genai.operation(record.path)
            attributes: dict[str, str | int | bool] = {
                "gen_ai.operation.name": operation,
                "gen_ai.request.model": record.model,
                "gen_ai.request.stream": record.first_seconds is not None,
                **{f"gen_ai.usage.{kind}_tokens": n for kind, n in record.tokens.items()},
            }
            name = f"{operation} {record.model}"
            span.end(name, self._now_ms(), attributes, record.error)

    def event(self) -> None:
        """An event of a stream has come."""
        record = self._record
        record.events += 1
        if record.first_seconds is None:
            record.first_seconds = self._clock.monotonic() - self._asked_at
            self._telemetry.watcher.begun(record)

    def answered(self, outcome: AttemptOutcome) -> None:
        """The backend has answered, with whatever status."""
        failed = outcome.status >= 400
        self._record.error = genai.error_type(f"backend_{outcome.status}") if failed else ""
        self._record.tokens = genai.tokens(outcome.usage)

    def ended(self, ending: AttemptEnding) -> None:
        """The attempt is over, and its end is written."""
        self._record.ending = ending
        attributes: dict[str, str | int | bool] = {
            "gen_ai.request.model": self._task.model,
            "inferline.task": self._task.ref.id,
            "inferline.attempt": self._task.attempt,
            "inferline.provider": self._provider,
            "inferline.ending": ending,
        }
        error = "" if ending == "answered" else ending
        self._span.end("attempt", self._now_ms(), attributes, error)
        self._telemetry.watcher.record(self._record)
