"""One trace through the line: W3C's context, which every task carries, and the seam for spans."""

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

#: What a span is of: a request served, a call made, a message processed, or a time within.
SpanKind = Literal["server", "client", "consumer", "internal"]
Attributes = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Which trace, and which span of it is the parent; as text, the `traceparent` header."""

    trace_id: str
    span_id: str
    #: Whether the trace is kept by those who were asked before us.
    sampled: bool = True

    def __str__(self) -> str:
        """The header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"

    @classmethod
    def new(cls) -> Self:
        """The begin of a trace that nobody has told us of; neither part may be 0."""
        trace, span = random.getrandbits(127) + 1, random.getrandbits(63) + 1
        return cls(f"{trace:032x}", f"{span:016x}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What a header's value says; None unless it is exactly as W3C has it."""
        found = _TRACEPARENT.fullmatch(text)
        if found is None:
            return None
        return cls(found[1], found[2], bool(int(found[3], 16) & _SAMPLED))


class Span(Protocol):
    """Some work that takes time."""

    @property
    def context(self) -> TraceParent:
        """What is told to whoever does part of the work."""

    def end(self, name: str, end_ms: int, attributes: Attributes, error: str = "") -> None:
        """
        It is over. Times are milliseconds since 1970; ``error`` is a code, empty without one.

        Never blocks and never raises. Nothing of what was asked or answered is an attribute.
        """


class Tracer(Protocol):
    """Whoever keeps spans."""

    def begin(self, kind: SpanKind, parent: TraceParent | None, start_ms: int) -> Span:
        """Begin a span, in a trace of its own where there is no ``parent``."""


class _Passing:
    """No span: the context goes on as it came, so that the next who keeps spans finds it."""

    def __init__(self, context: TraceParent) -> None:
        self.context = context

    def end(self, name: str, end_ms: int, attributes: Attributes, error: str = "") -> None:
        """Keep nothing."""


class NoTracer:
    """Keeps no spans."""

    def begin(self, kind: SpanKind, parent: TraceParent | None, start_ms: int) -> Span:
        """Pass the context on."""
        return _Passing(parent or TraceParent.new())


NO_TRACER: Final[Tracer] = NoTracer()
