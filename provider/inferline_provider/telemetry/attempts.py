"""Telemetry of attempts: spans of each, and one record once it has ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from inferline.clock import Clock
from inferline.tasks.store import AttemptOutcome
from inferline.tasks.task import Task
from inferline.telemetry import genai
from inferline.telemetry.trace import NO_TRACER, TraceParent, Tracer
from inferline_provider.faults import Fault

#: How an attempt ends: the task is answered, has failed, goes back, is past its deadline or was
#: cancelled; its lease was lost; the provider had to stop; or a fault of ours.
AttemptEnding = Literal["answered", "failed", "handed_back", "expired", "ended", "lost", "broken"]
#: An event of a batch's line: it was answered, answered with an error, given up without an answer,
#: or suspended to make room for a request.
LineEvent = Literal["answered", "refused", "lost", "suspended"]

#: Found in a request for a stream, and hardly ever elsewhere: quotes in a string are escaped.
_STREAMED: Final = re.compile(rb'"stream"\s*:\s*true\b')


@dataclass(slots=True, kw_only=True)
class AttemptRecord:
    """Figures of one attempt. No word of the request or the answer is in it."""

    model: str
    tier: str
    path: str
    queue_ms: int
    #: Whether a stream was asked for.
    streamed: bool = False
    ending: AttemptEnding = "broken"
    #: How long the backend worked on it, seconds; None when it got no request.
    backend_seconds: float | None = None
    #: Until the first event of a stream; None when there was none.
    first_seconds: float | None = None
    #: Events of a stream so far: about one for each token.
    events: int = 0
    #: The kind of error that the backend failed with; empty for none.
    error: str = ""
    #: Tokens that the backend says it read and wrote.
    tokens: dict[genai.TokenType, int] = field(default_factory=dict)


class TelemetrySink:
    """A receiver of records. Each method does nothing unless a subclass has another one."""

    def sent(self, record: AttemptRecord) -> None:
        """Note that the backend gets the request: again, if it refused the usage question."""

    def begun(self, record: AttemptRecord) -> None:
        """Note the first event of a stream; `record` counts the others as they come."""

    def record(self, record: AttemptRecord) -> None:
        """Note that an attempt has ended. Never blocks and never raises."""

    def line(self, model: str, event: LineEvent) -> None:
        """Note what happened to a line of a batch."""


class Sinks(TelemetrySink):
    """Several sinks as one."""

    def __init__(self, *sinks: TelemetrySink) -> None:
        self._sinks = sinks

    def sent(self, record: AttemptRecord) -> None:
        """Pass the record on to each."""
        for sink in self._sinks:
            sink.sent(record)

    def begun(self, record: AttemptRecord) -> None:
        """Pass the record on to each."""
        for sink in self._sinks:
            sink.begun(record)

    def record(self, record: AttemptRecord) -> None:
        """Pass the record on to each."""
        for sink in self._sinks:
            sink.record(record)

    def line(self, model: str, event: LineEvent) -> None:
        """Pass the event on to each."""
        for sink in self._sinks:
            sink.line(model, event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """The tracer and the sink for the spans and records of attempts."""

    tracer: Tracer = NO_TRACER
    sink: TelemetrySink = field(default_factory=TelemetrySink)


NO_TELEMETRY: Final = Telemetry()


def asks_stream(body: bytes) -> bool:
    """Say whether a request asks for a stream."""
    return _STREAMED.search(body) is not None


class AttemptTelemetry:
    """The spans and the record of one attempt. Dates are the store's, as everywhere."""

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
        parent = TraceParent.parse(task.traceparent)
        self._span = telemetry.tracer.begin("consumer", parent, task.claimed_ms)
        self._asked_at = 0.0
        self._record = AttemptRecord(
            model=task.model, tier=task.tier, path=task.path, queue_ms=task.queue_ms
        )

    @contextmanager
    def asking(self, body: bytes = b"") -> Iterator[str]:
        """Measure the backend's work on a body; yield the `traceparent` header for it."""
        span = self._telemetry.tracer.begin("client", self._span.context, self._now_ms())
        self._asked_at = self._clock.monotonic()
        record = self._record
        record.streamed = asks_stream(body)
        self._telemetry.sink.sent(record)
        try:
            yield str(span.context)
        except asyncio.CancelledError:
            record.error = "cancelled"
            raise
        except Exception as error:
            record.error = error.error_type if isinstance(error, Fault) else type(error).__name__
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
        """Count an event of a stream."""
        record = self._record
        record.events += 1
        if record.first_seconds is None:
            record.first_seconds = self._clock.monotonic() - self._asked_at
            self._telemetry.sink.begun(record)

    def answered(self, outcome: AttemptOutcome) -> None:
        """Note the backend's answer, whatever its status."""
        failed = outcome.status >= 400
        self._record.error = genai.error_type(f"backend_{outcome.status}") if failed else ""
        self._record.tokens = genai.tokens(outcome.usage)

    def ended(self, ending: AttemptEnding) -> None:
        """End the span and pass the record on: the attempt is over, and its end is written."""
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
        self._telemetry.sink.record(self._record)
