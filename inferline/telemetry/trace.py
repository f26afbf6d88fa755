"""Tracing: W3C's trace context, which every task carries, and the protocol of tracers."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

#: Version 00 and nothing after it: what a later version means is not known here.
_TRACEPARENT: Final = re.compile(
    r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED: Final = 0x01

#: The subject of a span: a request served, a call made, a message processed, or a part of these.
SpanKind = Literal["server", "client", "consumer", "internal"]
Attributes = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class TraceParent:
    """The id of a trace and of the parent span; as text, the `traceparent` header."""

    trace_id: str
    span_id: str
    #: True if the processes before this one keep the trace.
    sampled: bool = True

    def __str__(self) -> str:
        """Return the header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"

    @classmethod
    def new(cls) -> Self:
        """Begin a trace; neither id may be 0."""
        trace, span = random.getrandbits(127) + 1, random.getrandbits(63) + 1
        return cls(f"{trace:032x}", f"{span:016x}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a header's value; None unless it is exactly as W3C defines it."""
        match = _TRACEPARENT.fullmatch(text)
        if match is None:
            return None
        return cls(match[1], match[2], bool(int(match[3], 16) & _SAMPLED))


class Span(Protocol):
    """A span: some work that takes time."""

    @property
    def context(self) -> TraceParent:
        """Return the context for those that do part of the work."""

    def end(self, name: str, end_ms: int, attributes: Attributes, error: str = "") -> None:
        """
        End the span. Times are milliseconds since 1970; ``error`` is a code, empty without one.

        Never blocks and never raises. Nothing of a prompt or answer is an attribute.
        """


class Tracer(Protocol):
    """A maker of spans."""

    def begin(self, kind: SpanKind, parent: TraceParent | None, start_ms: int) -> Span:
        """Begin a span, in a new trace if there is no ``parent``."""


class _Passing:
    """A span that is not kept: it passes its context on, for the next process that keeps spans."""

    def __init__(self, context: TraceParent) -> None:
        self.context = context

    def end(self, name: str, end_ms: int, attributes: Attributes, error: str = "") -> None:
        """Keep nothing."""


class NoTracer:
    """A tracer that keeps no spans."""

    def begin(self, kind: SpanKind, parent: TraceParent | None, start_ms: int) -> Span:
        """Pass the context on."""
        return _Passing(parent or TraceParent.new())


NO_TRACER: Final[Tracer] = NoTracer()
