"""Rate counters whose gateways do everything at once, in whatever order, and die of it."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from inferline.accounts.limits import Limits
from inferline.accounts.rate_counters import (
    DAY_MS,
    MARGIN_SECONDS,
    MINUTE_MS,
    ConditionalUpdate,
    CounterRow,
    LimitOwner,
    RateCounters,
    RawRow,
    Reservation,
)
from inferline.memory.rate_counters import MemoryRateCounters

KEY = LimitOwner("key", "k1")
#: A generation is no number of minutes.
SECONDS = 130.0
GENERATION_MS = round((SECONDS + MARGIN_SECONDS) * 1000)
#: Shortly before a day ends, so that one ends in most runs.
NOW_MS = 20_000 * DAY_MS - 4 * MINUTE_MS
#: Before the end of a window, so that what is under way goes on behind it.
EDGE_MS = 600
#: Longer than what is under way takes.
WRITES_MS = 5_000
LIMITS = Limits(
    requests_per_minute=6, tokens_per_minute=60, tokens_per_day=200, concurrent_requests=4
)
#: By how much the gateways' clocks are wrong.
SKEWS_MS = (0, -900, 700)


class Turn:
    """Suspends a coroutine until the machine goes on with it."""

    def __await__(self) -> Generator[None]:
        yield


@dataclass(slots=True)
class Skewed:
    """One gateway's way to the store: with a clock of its own, and never at once."""

    store: MemoryRateCounters
    machine: CounterMachine
    skew_ms: int

    def now_ms(self) -> int:
        return self.machine.now_ms + self.skew_ms

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        await Turn()
        return await self.store.change(owner, change, write_id)


@dataclass(slots=True, eq=False)
class Request:
    """One that was let in, as the test knows it."""

    reservation: Reservation
    opened_ms: int
    tokens: int
    #: Until its gateway has closed it; of a dead one for ever.
    is_open: bool = True
    #: Whether it is about to be closed, or its gateway is dead.
    is_left: bool = False
    is_undone: bool = False


@dataclass(slots=True, eq=False)
class Move:
    """A gateway's move, which another one may interrupt."""

    steps: Coroutine[Any, Any, Any]
    tokens: int = 0
    request: Request | None = None
    began_ms: int = 0


asking = st.lists(st.sampled_from(range(3)), min_size=1, max_size=3)


class CounterMachine(RuleBasedStateMachine):
    """Requests come, run, end and die at three gateways while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = NOW_MS
        self.store = MemoryRateCounters()
        self.gateways = [RateCounters(Skewed(self.store, self, skew), SECONDS) for skew in SKEWS_MS]
        self.moves: list[Move] = []
        self.requests: list[Request] = []

    @property
    def row(self) -> CounterRow:
        return CounterRow.from_row(self.store._rows.get(KEY, {}))

    @rule(gateways=asking, data=st.data(), at_once=st.booleans())
    def ask(self, gateways: list[int], data: st.DataObject, at_once: bool) -> None:
        for gateway in gateways:
            self._ask(gateway, data.draw(st.integers(0, 20)))
        if at_once:
            self._finish()

    @precondition(lambda self: self.open_ones)
    @rule(data=st.data(), gateway=st.sampled_from(range(3)), share=st.floats(0, 1))
    def end(self, data: st.DataObject, gateway: int, share: float) -> None:
        request = self._one_of_the_open(data)
        used = round(request.tokens * share)
        steps = self.gateways[gateway].settle(request.reservation, used)
        self._begin(Move(steps, used, request))

    @precondition(lambda self: self.open_ones)
    @rule(data=st.data(), gateway=st.sampled_from(range(3)))
    def come_to_nothing(self, data: st.DataObject, gateway: int) -> None:
        request = self._one_of_the_open(data)
        request.is_undone = True
        self._begin(Move(self.gateways[gateway].undo(request.reservation), 0, request))

    @precondition(lambda self: self.open_ones)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self._one_of_the_open(data)

    @precondition(lambda self: self.moves)
    @rule(data=st.data(), times=st.integers(1, 8))
    def go_on(self, data: st.DataObject, times: int) -> None:
        for _ in range(times):
            if self.moves:
                self._step(data.draw(st.sampled_from(self.moves)))

    @rule(ms=st.sampled_from([700, 20_000, 50_000]))
    def wait(self, ms: int) -> None:
        if ms > WRITES_MS:
            self._finish()
        self.now_ms += ms

    @rule(
        window=st.sampled_from([MINUTE_MS, DAY_MS, GENERATION_MS, 2 * GENERATION_MS]),
        before=asking,
        after=asking,
        ends=st.integers(0, 2),
        in_time=st.booleans(),
        data=st.data(),
    )
    def meet_at_an_edge(
        self,
        window: int,
        before: list[int],
        after: list[int],
        ends: int,
        in_time: bool,
        data: st.DataObject,
    ) -> None:
        """End a window while requests are between their read and their write."""
        self._finish()
        begin_ms = 0 if window in (MINUTE_MS, DAY_MS) else self.row.since_ms or self.now_ms
        passed_ms = (self.now_ms - begin_ms) % window
        self.now_ms += window - passed_ms - EDGE_MS
        for gateway in before:
            self._ask(gateway, data.draw(st.integers(0, 20)))
        for _ in range(min(ends, len(self.open_ones))):
            self.end(data, data.draw(st.sampled_from(range(3))), 0.5)
        if in_time:
            self._finish()
        self.now_ms += 2 * EDGE_MS
        for gateway in after:
            self._ask(gateway, data.draw(st.integers(0, 20)))

    @property
    def open_ones(self) -> list[Request]:
        """Return the requests that somebody may still close."""
        return [one for one in self.requests if one.is_open and not one.is_left]

    def _ask(self, gateway: int, tokens: int) -> None:
        steps = self.gateways[gateway].reserve(KEY, LIMITS, tokens)
        self._begin(Move(steps, tokens, began_ms=self.now_ms))

    def _finish(self) -> None:
        while self.moves:
            self._step(self.moves[0])

    def _one_of_the_open(self, data: st.DataObject) -> Request:
        request: Request = data.draw(st.sampled_from(self.open_ones))
        request.is_left = True
        return request

    def _begin(self, move: Move) -> None:
        self.moves.append(move)
        self._step(move)

    def _step(self, move: Move) -> None:
        """Go on until the next write has been made, or to the end."""
        try:
            move.steps.send(None)
        except StopIteration as ended:
            self.moves.remove(move)
            self._ended(move, ended.value)

    def _ended(self, move: Move, got: object) -> None:
        if move.request is not None:
            move.request.is_open = False
            move.request.tokens = move.tokens
        elif isinstance(got, Reservation):
            self.requests.append(Request(got, move.began_ms, move.tokens))

    def _overdue(self, request: Request) -> bool:
        return self.now_ms - request.opened_ms >= SECONDS * 1000

    @invariant()
    def no_window_holds_more_than_its_limit(self) -> None:
        for minute in {one.reservation.counters.minute for one in self.requests}:
            counted = [r for r in self.let_in if r.reservation.counters.minute == minute]
            assert len(counted) <= 6
            assert sum(one.tokens for one in counted) <= 60
        for day in {one.reservation.counters.day for one in self.requests}:
            counted = [r for r in self.let_in if r.reservation.counters.day == day]
            assert sum(one.tokens for one in counted) <= 200

    @invariant()
    def the_row_forgets_nothing_of_its_windows(self) -> None:
        row = self.row
        of_minute = [r for r in self.let_in if r.reservation.counters.minute == row.minute]
        of_day = [r for r in self.let_in if r.reservation.counters.day == row.day]
        assert len(of_minute) <= row.requests
        assert sum(one.tokens for one in of_minute) <= row.tokens
        assert sum(one.tokens for one in of_day) <= row.day_tokens

    @property
    def let_in(self) -> list[Request]:
        """
        Return the requests that count; of others it is unknown whether they were taken out in time.
        """
        return [one for one in self.requests if not one.is_undone]

    @invariant()
    def no_more_are_open_than_may_be(self) -> None:
        under_way = [r for r in self.requests if r.is_open and not self._overdue(r)]
        assert len(under_way) <= 4

    @invariant()
    def the_row_counts_the_open_ones_of_two_generations(self) -> None:
        row = self.row
        opened = [
            r
            for r in self.requests
            if r.is_open and r.reservation.counters.since_ms == row.since_ms
        ]
        before = [
            r
            for r in self.requests
            if r.is_open and r.reservation.counters.since_ms == row.before_ms
        ]
        assert (len(opened), len(before)) == (row.opened, row.before)
        assert row.open == row.opened + row.before <= 4
        assert min(row.requests, row.tokens, row.day_tokens) >= 0

    def teardown(self) -> None:
        self._finish()
        self.now_ms += 2 * GENERATION_MS + DAY_MS
        self._ask(0, 1)
        self._finish()
        row = self.row
        assert (1, 1, 1, 1) == (row.requests, row.tokens, row.day_tokens, row.open)


def test_whatever_happens_no_limit_is_passed_and_what_the_dead_held_is_given_up() -> None:
    options = settings(
        max_examples=300,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],  # On a machine that others use too.
    )

    run_state_machine_as_test(CounterMachine, settings=options)
