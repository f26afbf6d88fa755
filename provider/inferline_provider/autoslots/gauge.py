"""Measures the work that the backend does for its tasks, from a given moment on."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from statistics import StatisticsError, linear_regression
from typing import Final

from inferline.clock import Clock
from inferline_provider.autoslots.reading import ENDED_LEAST, Firsts, Measurement, Tally, TaskKind
from inferline_provider.telemetry.attempts import AttemptRecord, TelemetrySink
from inferline_provider.telemetry.speeds import NEWEST_WEIGHT, Speeds

#: The most answers of a kind that are remembered; streams are not.
ENDED_MAX: Final = 500

#: An answer's tokens, and the seconds that it took.
_Answer = tuple[int, float]


@dataclass(slots=True)
class _Under:
    """A task at the backend, and the part of it that is counted already."""

    record: AttemptRecord
    asked_at: float
    since: float
    events: int = 0


class Gauge(TelemetrySink):
    """A sink. Streams count by their events as they come, other answers when they end."""

    def __init__(self, clock: Clock, first_seconds_max: float, speeds: Speeds) -> None:
        self._clock = clock
        self._first_seconds_max = first_seconds_max
        self._speeds = speeds
        self._under: dict[int, _Under] = {}
        self._cleared_at = self._started_at = clock.monotonic()
        self._tallies: dict[TaskKind, Tally] = {}
        self._firsts = Firsts()
        self._answers: dict[TaskKind, deque[_Answer]] = {}
        #: Sum of the tasks that waited inside the backend, and the number of readings.
        self._waiting = self._looks = 0
        #: Mean time to a first token, seconds; 0 before the first.
        self.mean_first_seconds = 0.0

    @property
    def mean_seconds(self) -> float:
        """Return the mean time of a task at the backend; 0 before the first."""
        return self._speeds.backend_seconds

    @property
    def seconds(self) -> float:
        """Return the time since the measurement began."""
        return self._clock.monotonic() - self._started_at

    @property
    def is_of_streams(self) -> bool:
        """Return True if most of the tasks are streams, which show their progress."""
        return 2 * sum(under.record.streamed for under in self._under.values()) >= len(self._under)

    def clear(self) -> None:
        """Measure anew, and count first tokens only of tasks that begin from now on."""
        self._cleared_at = self._clock.monotonic()
        self._firsts = Firsts()
        self.start()

    def start(self) -> None:
        """Measure from now on."""
        now = self._started_at = self._clock.monotonic()
        self._tallies.clear()
        self._answers.clear()
        self._waiting = self._looks = 0
        for under in self._under.values():
            under.since, under.events = now, under.record.events

    def read(self, slots: int) -> Measurement:
        """Return the measurement since the start, with so many slots."""
        now = self._clock.monotonic()
        tallies, waits = dict(self._tallies), []
        for under in self._under.values():
            _add(tallies, under.record, _uncounted(under, now))
            waited = now - under.asked_at
            is_silent = under.record.streamed and not under.record.events
            if is_silent and under.asked_at >= self._cleared_at and self._is_late(waited):
                waits.append(waited)
        for answers in self._answers.values():
            waits += _waits(answers, self._first_seconds_max)
        firsts = self._firsts.plus(Firsts(len(waits), sum(map(self._is_late, waits)), sum(waits)))
        return Measurement(
            slots=slots,
            seconds=now - self._started_at,
            first_seconds_max=self._first_seconds_max,
            tallies=tallies,
            firsts=firsts,
            waiting=self._waiting / self._looks if self._looks else 0.0,
        )

    def wait(self, count: int) -> None:
        """Note how many tasks wait inside the backend, as it reports."""
        self._waiting += count
        self._looks += 1

    def sent(self, record: AttemptRecord) -> None:
        """Count the time of a task from now on."""
        now = self._clock.monotonic()
        self._under[id(record)] = _Under(record, now, now)

    def begun(self, record: AttemptRecord) -> None:
        """Count the first token of a stream."""
        seconds = record.first_seconds or 0.0
        self.mean_first_seconds = _mean(self.mean_first_seconds, seconds)
        under = self._under.get(id(record))
        if under is not None and under.asked_at >= self._cleared_at:
            self._firsts = self._firsts.plus(Firsts(1, self._is_late(seconds), seconds))

    def record(self, record: AttemptRecord) -> None:
        """Count the part of an attempt that is not counted yet."""
        under = self._under.pop(id(record), None)
        if under is None or record.backend_seconds is None:
            return
        _add(self._tallies, record, _uncounted(under, self._clock.monotonic()))
        if record.error:
            return
        seconds = record.backend_seconds
        if not record.streamed:
            tokens = record.tokens.get("output") or record.tokens.get("input") or 1
            _add(self._tallies, record, Tally(tokens=tokens, seconds=seconds, ended=1))
            answers = self._answers.setdefault(_kind(record), deque(maxlen=ENDED_MAX))
            answers.append((tokens, seconds))

    def _is_late(self, seconds: float) -> bool:
        return seconds > self._first_seconds_max


def _kind(record: AttemptRecord) -> TaskKind:
    return record.model, record.path, record.streamed


def _add(tallies: dict[TaskKind, Tally], record: AttemptRecord, tally: Tally) -> None:
    kind = _kind(record)
    tallies[kind] = tallies.get(kind, Tally()).plus(tally)


def _uncounted(under: _Under, now: float) -> Tally:
    """Return the part of a task that is not counted yet; only the time if it is no stream."""
    record = under.record
    # An attempt reports its end once that is written: the backend was done before.
    ended_at = now if record.backend_seconds is None else under.asked_at + record.backend_seconds
    seconds = max(0.0, min(now, ended_at) - under.since)
    if not record.streamed:
        return Tally(all_seconds=seconds)
    return Tally(record.events - under.events, seconds, seconds)


def _waits(answers: Collection[_Answer], seconds_max: float) -> list[float]:
    """
    Return the times that answers took beyond their tokens; only short answers show it.

    An answer of n tokens takes a + b n seconds. The fit is of that divided by n, since the error
    grows with n: the short ones show a, and the long ones b.
    """
    if len(answers) < ENDED_LEAST:
        return []
    shares = [1 / tokens for tokens, _ in answers]
    speeds = [seconds / tokens for tokens, seconds in answers]
    try:
        per_token = max(0.0, linear_regression(shares, speeds).intercept)
    except StatisticsError:  # They are all of one length.
        return []
    own = [(tokens * per_token, seconds) for tokens, seconds in answers]
    return [max(0.0, seconds - least) for least, seconds in own if least <= seconds_max]


def _mean(mean: float, newest: float) -> float:
    return mean + (newest - mean) * NEWEST_WEIGHT if mean else newest
