"""How fast one task of each model runs here, for a comparison with other providers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from inferline.fleet.enrolment import TOKENS_PER_SECOND_MAX, ToldSpeed
from inferline_provider.telemetry.attempts import AttemptRecord, NullSink

#: Weight of the newest task.
NEWEST_WEIGHT: Final = 0.1
#: What takes less is told as this, seconds.
TASK_SECONDS_MIN: Final = 0.001


@dataclass(slots=True)
class Mean:
    """What a task of a model takes and makes on average; older ones weigh less."""

    seconds: float
    tokens: float

    def add(self, seconds: float, tokens: int) -> None:
        """Count a task."""
        self.seconds += (seconds - self.seconds) * NEWEST_WEIGHT
        self.tokens += (tokens - self.tokens) * NEWEST_WEIGHT


class TaskSpeeds(NullSink):
    """
    A `Watcher` that measures answered tasks: the time each took at the backend, and its tokens.

    Tokens a second are mean tokens over mean seconds, so that how long answers are does not show.
    """

    def __init__(self) -> None:
        self._means: dict[str, Mean] = {}

    def keep(self, models: Collection[str]) -> None:
        """Forget all other models."""
        self._means = {model: mean for model, mean in self._means.items() if model in models}

    def told(self) -> dict[str, ToldSpeed]:
        """By model, of those that were run."""
        found = {}
        for model, mean in self._means.items():
            seconds = max(TASK_SECONDS_MIN, mean.seconds)
            rate = min(mean.tokens / seconds, TOKENS_PER_SECOND_MAX)
            found[model] = ToldSpeed(task_seconds=seconds, tokens_per_second=rate)
        return found

    def seconds(self, model: str) -> float:
        """Mean time a task of a model takes; 0 before the first."""
        return self._means[model].seconds if model in self._means else 0.0

    def record(self, record: AttemptRecord) -> None:
        """Measure it, if it was answered; see `Watcher`."""
        if record.ending != "answered" or record.error or record.backend_seconds is None:
            return
        seconds, tokens = record.backend_seconds, record.tokens.get("output", record.events)
        if (mean := self._means.get(record.model)) is not None:
            mean.add(seconds, tokens)
        else:
            self._means[record.model] = Mean(seconds, tokens)
