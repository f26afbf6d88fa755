"""Speeds of this provider: the time and the tokens of its tasks, as reported to the gateway."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from inferline.clock import Clock
from inferline.fleet.enrolment import TOKENS_PER_SECOND_MAX, ToldSpeed
from inferline_provider.telemetry.attempts import AttemptRecord, TelemetrySink

#: Weight of the newest task in the means.
NEWEST_WEIGHT: Final = 0.1
#: The shortest mean time that is reported, seconds.
TASK_SECONDS_MIN: Final = 0.001
#: The time over which the tokens of all tasks are counted.
WINDOW_SECONDS: Final = 60.0


@dataclass(slots=True)
class TaskMean:
    """Moving averages of the time that a task takes at the backend, and of its output tokens."""

    seconds: float
    tokens: float

    def add(self, seconds: float, tokens: int) -> None:
        """Count a task."""
        self.seconds += (seconds - self.seconds) * NEWEST_WEIGHT
        self.tokens += (tokens - self.tokens) * NEWEST_WEIGHT


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that were made between two moments, evenly."""

    begun_at: float
    ended_at: float
    tokens: int

    def since(self, moment: float) -> float:
        """Return how many of them were made after `moment`."""
        seconds = self.ended_at - self.begun_at
        if seconds <= 0:
            return float(self.tokens if self.ended_at > moment else 0)
        return self.tokens * max(0.0, min(1.0, (self.ended_at - moment) / seconds))


class Speeds(TelemetrySink):
    """
    A sink that measures answered tasks, each model's and all, and the tokens of the last minute.

    A task's tokens a second are mean tokens over mean seconds, so that they do not depend on how
    long the answers are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_model: dict[str, TaskMean] = {}
        self._all: TaskMean | None = None
        #: Mean time for which an answered task held its slot, seconds; 0 before the first.
        self.service_seconds = 0.0
        self._running: dict[int, tuple[float, AttemptRecord]] = {}
        self._ended: deque[Stretch] = deque()

    @property
    def backend_seconds(self) -> float:
        """Return the mean time of a task at the backend, of all models; 0 before the first."""
        return self._all.seconds if self._all is not None else 0.0

    def served(self, seconds: float) -> None:
        """
        Count an answered task that held its slot for so long.

        The gateway divides slots by this time, so it includes the claim and every repeated try.
        """
        mean = self.service_seconds or seconds
        self.service_seconds = mean + (seconds - mean) * NEWEST_WEIGHT

    def task_seconds(self, model: str) -> float:
        """Return the mean time that a task of a model takes; 0 before the first."""
        return self._by_model[model].seconds if model in self._by_model else 0.0

    def tasks(self) -> dict[str, ToldSpeed]:
        """Return the speed of one task of each model that was run here."""
        speeds = {}
        for model, mean in self._by_model.items():
            seconds = max(TASK_SECONDS_MIN, mean.seconds)
            rate = min(mean.tokens / seconds, TOKENS_PER_SECOND_MAX)
            speeds[model] = ToldSpeed(task_seconds=seconds, tokens_per_second=rate)
        return speeds

    def tokens_per_second(self) -> float:
        """Return the tokens of all tasks over the last minute, for people; running ones count."""
        now = self._clock.monotonic()
        since = now - WINDOW_SECONDS
        self._forget(since)
        running = [Stretch(at, now, record.events) for at, record in self._running.values()]
        return sum(part.since(since) for part in [*self._ended, *running]) / WINDOW_SECONDS

    def keep(self, models: Collection[str]) -> None:
        """Forget all other models."""
        self._by_model = {model: mean for model, mean in self._by_model.items() if model in models}

    def begun(self, record: AttemptRecord) -> None:
        """Count the events of a stream as tokens until it ends."""
        self._running[id(record)] = self._clock.monotonic(), record

    def record(self, record: AttemptRecord) -> None:
        """Count the tokens, or the events where the backend reports none; measure an answer."""
        self._running.pop(id(record), None)
        now, tokens = self._clock.monotonic(), record.tokens.get("output", record.events)
        if tokens:
            self._ended.append(Stretch(now - (record.backend_seconds or 0.0), now, tokens))
        self._forget(now - WINDOW_SECONDS)
        if record.ending == "answered" and not record.error and record.backend_seconds is not None:
            self._measure(record.model, record.backend_seconds, tokens)

    def _measure(self, model: str, seconds: float, tokens: int) -> None:
        if self._all is None:
            self._all = TaskMean(seconds, tokens)
        else:
            self._all.add(seconds, tokens)
        if model in self._by_model:
            self._by_model[model].add(seconds, tokens)
        else:
            self._by_model[model] = TaskMean(seconds, tokens)

    def _forget(self, since: float) -> None:
        while self._ended and self._ended[0].ended_at <= since:
            self._ended.popleft()
