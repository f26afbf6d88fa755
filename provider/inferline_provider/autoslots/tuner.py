"""Tuning of the number of slots, from the backend's work with more and with fewer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum
from math import inf
from typing import Final

from inferline.clock import Clock
from inferline_provider.autoslots.gauge import Gauge
from inferline_provider.autoslots.reading import Measurement, worth
from inferline_provider.autoslots.search import STEP_ANEW, STEP_FIRST, Search
from inferline_provider.backend.capacity import UNKNOWN, Room
from inferline_provider.backend.slots import Slots

log = logging.getLogger(__name__)

#: Between two checks.
TICK_SECONDS: Final = 0.5
#: Between two readings of how many tasks wait inside the backend; the second after it had none.
WAITING_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 60.0
#: The most slots that are tried with a backend that does not say how many it has: a provider has
#: one processor to read all their answers with.
SLOTS_MAX: Final = 512

#: A backend has settled when its tasks are new ones, after the time that a task takes; then it is
#: measured for so many times as long. Streams show progress, so these are the longest times there.
READ_TASKS: Final = 1.5
SETTLE_SECONDS_MAX: Final = 30.0
READ_SECONDS_MAX: Final = 45.0
READ_SECONDS_MIN: Final = 5.0
#: A gain or loss as large as this, as a logarithm, shows earlier: after so many seconds.
CLEAR: Final = 0.25
CLEAR_SECONDS: Final = 3.0
#: The most trials that are compared with one measurement of the held number.
TRIALS_MAX: Final = 2
#: Time for which a number is held once its neighbours are known; it doubles while it stays best.
REST_SECONDS: Final = (15.0, 120.0)
#: Share of the checks of a number that may see no work waiting, and the least number of these.
SLACK_SHARE: Final = 0.25
SLACK_CHECKS: Final = 3
#: Share of the slots that is left when the backend refuses a task.
REFUSED_SHARE: Final = 0.75


class Settling(IntEnum):
    """Progress of the backend after the number of slots has changed."""

    #: It has more tasks than slots, or the new ones have not begun.
    CHANGING = 0
    #: Each slot has a task, but some began before the change.
    BEGUN = 1
    SETTLED = 2


class Tuner:
    """
    A search that holds a number of slots, tries others, and keeps a better one; see `Worth`.

    It measures only while work waits for every slot: with less work a backend does not show what it
    could do. Until then the number stays.
    """

    def __init__(self, slots: Slots, gauge: Gauge, clock: Clock) -> None:
        self._slots = slots
        self._gauge = gauge
        self._clock = clock
        self._room = UNKNOWN
        self._search = Search(slots.limit, SLOTS_MAX, STEP_FIRST)
        #: The number on trial, and the trials since the held one was last measured.
        self._trial: int | None = None
        self._trials = 0
        #: The held number's measurement, and whether the backend had settled by then.
        self._held: Measurement | None = None
        self._is_sure = False
        self._rest_seconds, self._rest_until = REST_SECONDS[0], 0.0
        #: The number that was last logged, and why it should not be larger.
        self._logged = slots.limit
        self._why = ""
        self._set(None)

    @property
    def limit(self) -> int:
        """Return the number of slots that there should be now."""
        return self._search.held if self._trial is None else self._trial

    def know(self, room: Room) -> None:
        """Set the room that the backend reports; begin anew when it has changed."""
        if room == self._room:
            return
        self._room, self._logged, self._held = room, room.slots, None
        step = STEP_FIRST if room == UNKNOWN else STEP_ANEW
        self._search = Search(room.slots, room.most or SLOTS_MAX, step)
        self._set(None)

    def refused(self) -> None:
        """Lower the number: the backend has refused a task because it has too many."""
        if not self._miss("it refuses more"):
            self._search.lower(REFUSED_SHARE)
            self._held = None
        self._set(None)

    async def run(self, waiting: Callable[[], Awaitable[int | None]]) -> None:
        """Check for ever; `waiting` reads how many tasks wait inside the backend."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._ask(waiting))
            while True:
                await self._clock.sleep(TICK_SECONDS)
                self.check()

    async def _ask(self, waiting: Callable[[], Awaitable[int | None]]) -> None:
        pause = WAITING_SECONDS
        while True:
            await self._clock.sleep(pause)
            if self._slots.needs_more:
                count = await waiting()
                pause = SILENT_SECONDS if count is None else WAITING_SECONDS
                if count is not None:
                    self._gauge.wait(count)

    def check(self) -> None:
        """Take the next step, if the measurement allows one."""
        self._checks += 1
        if self._slots.limit != self.limit:  # It fails again and again.
            self._miss("it fails with more")
            self._set(None)
        elif not self._slots.needs_more:
            self._slack += 1
            if self._slack > max(SLACK_CHECKS, SLACK_SHARE * self._checks):
                if self.limit > self._search.held:
                    self._search.shorten()
                self._set(None)
        elif (reading := self._read()) is not None:
            if self._trial is None:
                self._compare_held(reading)
            else:
                self._compare_trial(reading)

    def _set(self, trial: int | None) -> None:
        """Put a number on trial, or go back to the held one; then measure anew."""
        self._trial = trial
        self._checks = self._slack = 0
        self._full_at: float | None = None
        self._stage = Settling.CHANGING
        self._slots.resize(self.limit)
        self._gauge.clear()

    def _miss(self, why: str) -> bool:
        """Note that a trial has gone badly; False if there is none."""
        if self._trial is None:
            return False
        self._why = why
        self._search.tell(self._trial, -CLEAR, clear=True)
        return True

    def _read(self) -> Measurement | None:
        """Return the measurement of the present number, once it says enough."""
        if (stage := self._reached()) > self._stage:
            self._stage = stage
            self._gauge.start()
        if self._stage is Settling.CHANGING or self._gauge.seconds < CLEAR_SECONDS:
            return None
        reading = self._gauge.read(self.limit)
        return reading if reading.tells(early=self._stage is Settling.BEGUN) else None

    def _reached(self) -> Settling:
        now, gauge = self._clock.monotonic(), self._gauge
        if self._full_at is None and self._slots.used <= self._slots.limit:
            self._full_at = now
        first = min(gauge.mean_first_seconds, SETTLE_SECONDS_MAX)
        if self._full_at is None or now - self._full_at < first:
            return Settling.CHANGING
        mean = gauge.mean_seconds or SETTLE_SECONDS_MAX
        longest = SETTLE_SECONDS_MAX if gauge.is_of_streams else inf
        return Settling.BEGUN if now - self._full_at < min(mean, longest) else Settling.SETTLED

    @property
    def _is_read(self) -> bool:
        """Return True if the measurement is long enough, and the backend has settled."""
        longest = READ_SECONDS_MAX if self._gauge.is_of_streams else inf
        wanted = max(READ_SECONDS_MIN, min(longest, READ_TASKS * self._gauge.mean_seconds))
        return self._stage is Settling.SETTLED and self._gauge.seconds >= wanted

    def _compare_held(self, reading: Measurement) -> None:
        if self._is_read:
            if self._held is not None and self._is_sure:
                gain = worth(reading, self._held).total
                if abs(gain) > CLEAR:
                    self._search.changed(better=gain > 0)
                    self._rest_seconds, self._rest_until = REST_SECONDS[0], 0.0
                else:
                    reading = reading.after(self._held)
        elif not self._search.is_climbing:
            return
        self._held, self._is_sure, self._trials = reading, self._is_read, 0
        if self._clock.monotonic() >= self._rest_until:
            self._go_on()
        else:
            self._gauge.start()

    def _compare_trial(self, reading: Measurement) -> None:
        assert self._held is not None
        gain = worth(reading, self._held)
        is_clear = abs(gain.total) > CLEAR
        if not (is_clear or self._is_read):
            return
        self._trials += 1
        if reading.slots > self._held.slots:
            self._why = gain.objection
        if self._search.tell(reading.slots, gain.total, clear=is_clear):
            self._held, self._is_sure, self._trials = reading, self._is_read, 0
            self._rest_seconds = REST_SECONDS[0]
            self._go_on()
        elif self._is_sure and self._trials < TRIALS_MAX:
            self._go_on()
        else:
            self._set(None)

    def _go_on(self) -> None:
        """Put the next number on trial, or rest."""
        number = self._search.next()
        if number is None:
            self._rest()
        self._set(number)

    def _rest(self) -> None:
        """Hold the number for a while: its neighbours have been tried."""
        assert self._held is not None
        self._rest_until = self._clock.monotonic() + self._rest_seconds
        self._rest_seconds = min(REST_SECONDS[1], 2 * self._rest_seconds)
        late = self._held.lateness()
        self._search.again(late, up=False if late else None)
        if self._search.held != self._logged:
            why = self._room.reason if self._search.held == self._room.most else self._why
            log.info("Slots: %d, %d before: %s.", self._search.held, self._logged, why)
            self._logged = self._search.held
