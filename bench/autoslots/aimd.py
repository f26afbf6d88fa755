"""Automatic slots by AIMD: a little more while all is well, a share less when it is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from inferline.clock import Clock
from inferline_provider.autoslots.gauge import Gauge
from inferline_provider.autoslots.reading import Measurement, worth
from inferline_provider.autoslots.tuner import SLOTS_MAX, TICK_SECONDS, WAITING_SECONDS
from inferline_provider.backend.capacity import UNKNOWN, Room
from inferline_provider.backend.slots import Slots

#: What is left of the slots after a sign of congestion, and after the backend has refused a task.
DECREASE: Final = 0.9
REFUSED: Final = 0.75
#: The additive step: one slot, or this share of many.
STEP_SHARE: Final = 1 / 32
#: First tokens of 100 that may come after the bound, and how many are awaited before that counts.
LATE_SHARE: Final = 0.05
FIRSTS_LEAST: Final = 20
#: A loss of throughput this large is congestion, and a gain this large is worth a further decrease.
LOSS, GAIN, CHANGED = 0.02, 0.01, 0.1
#: A window is so long: in seconds, and in mean times of a task; and at the most, seconds.
WINDOW_SECONDS, WINDOW_TASKS, WINDOW_SECONDS_MAX = 10.0, 1.5, 45.0
#: In slow start, where each step doubles, a stream shows that sooner.
SLOW_START_SECONDS: Final = 3.0
SETTLE_SECONDS_MAX: Final = 30.0
#: After late first tokens the number is held for so long; it doubles while they come at the same.
HOLD_SECONDS: Final = (15.0, 120.0)
SAME_SHARE: Final = 0.15


class Aimd:
    """
    A stand-in for `Tuner` with the loop of a TCP sender.

    Slow start doubles the slots. Congestion is a refusal, tasks that wait inside the backend, late
    first tokens, and, since a backend may collapse with none of these, a loss of throughput.
    """

    def __init__(self, slots: Slots, gauge: Gauge, clock: Clock) -> None:
        self._slots = slots
        self._gauge = gauge
        self._clock = clock
        self._room = UNKNOWN
        self._begin(slots.limit, SLOTS_MAX)

    def know(self, room: Room) -> None:
        """Begin anew when the backend reports another capacity."""
        if room != self._room:
            self._room = room
            self._begin(room.slots, room.most or SLOTS_MAX)

    def refused(self) -> None:
        """Decrease: the backend has refused a task."""
        self._decrease(int(self.limit * REFUSED))

    async def run(self, waiting: Callable[[], Awaitable[int | None]]) -> None:
        """Adapt until cancelled; ``waiting`` asks the backend how many tasks wait inside it."""
        asked_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(TICK_SECONDS)
            if self._slots.needs_more and self._clock.monotonic() - asked_at >= WAITING_SECONDS:
                asked_at = self._clock.monotonic()
                if (count := await waiting()) is not None:
                    self._gauge.wait(count)
            self.look()

    def look(self) -> None:
        """Judge the present number once its window is over."""
        if self._slots.limit != self.limit:
            self._decrease(self._lower)
        elif not self._slots.needs_more:
            self._idle_looks += 1
            if self._idle_looks > 3:
                self._set(self.limit)
        elif self._has_settled():
            self._judge(self._gauge.read(self.limit))

    def _begin(self, limit: int, most: int) -> None:
        self._most = most
        self._is_slow_start = True
        #: Numbers of the last decrease and of the last window without congestion.
        self._congested = self._good = 0
        #: Increases beyond the number of the last decrease.
        self._increases = 0
        self._hold_seconds, self._hold_until = HOLD_SECONDS[0], 0.0
        #: The best since the last decrease, and what was before that.
        self._best: Measurement | None = None
        self._before: Measurement | None = None
        self._set(limit)

    @property
    def _lower(self) -> int:
        return min(self.limit - 1, round(self.limit * DECREASE))

    def _set(self, limit: float) -> None:
        self.limit = max(1, min(self._most, int(limit)))
        self._full_at: float | None = None
        self._is_measuring = False
        self._idle_looks = 0
        self._slots.resize(self.limit)
        self._gauge.clear()

    def _has_settled(self) -> bool:
        """Report whether the tasks at the backend all ran with the present number of slots."""
        now, gauge = self._clock.monotonic(), self._gauge
        if self._full_at is None and self._slots.used <= self._slots.limit:
            self._full_at = now
        seconds = gauge.mean_first_seconds if gauge.is_of_streams else gauge.mean_seconds
        if self._full_at is None or now - self._full_at < min(SETTLE_SECONDS_MAX, seconds):
            return False
        if not self._is_measuring and (gauge.is_of_streams or seconds):
            self._is_measuring = True
            gauge.start()
        return self._is_measuring

    @property
    def _window_seconds(self) -> float:
        if self._is_slow_start and self._gauge.is_of_streams:
            return SLOW_START_SECONDS
        return max(WINDOW_SECONDS, min(WINDOW_SECONDS_MAX, WINDOW_TASKS * self._gauge.mean_seconds))

    def _judge(self, reading: Measurement) -> None:
        firsts, is_of_streams = reading.firsts, self._gauge.is_of_streams
        if firsts.late >= max(3, 2 * LATE_SHARE * max(firsts.count, FIRSTS_LEAST)):
            self._congest()
        elif (
            self._gauge.seconds >= self._window_seconds
            and reading.tells()
            and (not is_of_streams or firsts.count >= min(FIRSTS_LEAST, self.limit))
        ):
            if firsts.late > LATE_SHARE * firsts.count or reading.waiting > 0:
                self._congest()
            else:
                self._compare(reading)

    def _congest(self) -> None:
        """Go back to the number before if all was well there, else decrease; and hold it."""
        near = abs(self.limit - self._congested) <= max(2, SAME_SHARE * self._congested)
        least, most = HOLD_SECONDS
        self._hold_seconds = min(most, 2 * self._hold_seconds) if near else least
        self._hold_until = self._clock.monotonic() + self._hold_seconds
        is_near_good = self.limit * DECREASE <= self._good < self.limit
        self._decrease(self._good if is_near_good else self._lower)

    def _compare(self, reading: Measurement) -> None:
        """Decrease while that gains throughput or when it was lost, else increase."""
        before, self._before = self._before, None
        best = self._best or reading
        lost = -worth(reading, best).growth
        if before is not None and worth(reading, before).growth > GAIN:
            self._decrease(self._lower, reading)
        elif lost > (LOSS if self.limit > best.slots else CHANGED):
            lower = best.slots if self._is_slow_start else min(best.slots, self._lower)
            self._decrease(lower, reading)
        else:
            if lost <= 0 or self.limit <= best.slots:
                self._best = reading
            self._good = self.limit
            self._increase()

    def _increase(self) -> None:
        if self._clock.monotonic() < self._hold_until:
            self._gauge.start()
            return
        step = self.limit if self._is_slow_start else max(1, int(STEP_SHARE * self.limit))
        if not self._is_slow_start and self.limit > self._congested:
            step = min(self.limit, max(step, 2**self._increases))
            self._increases += 1
        self._set(self.limit + step)

    def _decrease(self, limit: int, before: Measurement | None = None) -> None:
        self._congested, self._good, self._increases = self.limit, 0, 0
        self._is_slow_start = False
        self._best, self._before = None, before
        self._set(limit)
