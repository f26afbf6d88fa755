"""How many tokens a second this provider's backend makes, for people who look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from inferline.clock import Clock
from inferline_provider.telemetry.attempts import AttemptRecord, Calls, ProviderStatus

#: What is looked back on.
WINDOW_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that were made between two moments, evenly."""

    begun_at: float
    ended_at: float
    tokens: int

    def since(self, moment: float) -> float:
        """How many of them were made after ``moment``."""
        lasted = self.ended_at - self.begun_at
        if lasted <= 0:
            return float(self.tokens if self.ended_at > moment else 0)
        return self.tokens * max(0.0, min(1.0, (self.ended_at - moment) / lasted))


class Speed:
    """A `Watcher` that counts output tokens; the events of a stream under way stand for tokens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[int, tuple[float, AttemptRecord]] = {}
        self._ended: deque[Stretch] = deque()

    def tokens_per_second(self) -> float:
        """Over the last minute, what is under way included."""
        now = self._clock.monotonic()
        since = now - WINDOW_SECONDS
        self._forget(since)
        under_way = [Stretch(at, now, one.events) for at, one in self._running.values()]
        return sum(one.since(since) for one in [*self._ended, *under_way]) / WINDOW_SECONDS

    def watch(self, look: Callable[[], ProviderStatus]) -> None:
        """Do not look; see `Watcher`."""

    def watch_calls(self, calls: Calls) -> None:
        """Do not look; see `Watcher`."""

    def asked(self, record: AttemptRecord) -> None:
        """Do not look; see `Watcher`."""

    def begun(self, record: AttemptRecord) -> None:
        """Count its events; see `Watcher`."""
        self._running[id(record)] = self._clock.monotonic(), record

    def record(self, record: AttemptRecord) -> None:
        """Count its tokens, or events where the backend told none; see `Watcher`."""
        self._running.pop(id(record), None)
        now = self._clock.monotonic()
        begun_at = now - (record.backend_seconds or 0.0)
        tokens = record.tokens.get("output", record.events)
        if tokens:
            self._ended.append(Stretch(begun_at, now, tokens))
        self._forget(now - WINDOW_SECONDS)

    def _forget(self, since: float) -> None:
        while self._ended and self._ended[0].ended_at <= since:
            self._ended.popleft()
