"""Status of a provider, for monitoring."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from inferline_provider.telemetry.attempts import TelemetrySink


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Slots and health of a provider at one moment."""

    slots: int
    used: int
    healthy: bool


#: Reads the present status.
ReadStatus = Callable[[], ProviderStatus]
#: Reads how often each operation of each service was called, retries included.
ReadCalls = Callable[[], Mapping[tuple[str, str], int]]
#: Opens the sink of a provider whose status can be read.
OpenSink = Callable[[ReadStatus], AbstractAsyncContextManager[TelemetrySink]]


@asynccontextmanager
async def no_sink(status: ReadStatus) -> AsyncIterator[TelemetrySink]:
    """Open a sink that keeps nothing."""
    yield TelemetrySink()
