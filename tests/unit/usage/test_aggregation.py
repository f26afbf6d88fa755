"""Usage is counted once for each task, whenever who counts it dies, and however many count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from inferline.errors import Unavailable
from inferline.memory.minutes import MemoryMinutes
from inferline.memory.tasks import MemoryStore
from inferline.memory.usage import MemoryUsage
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import Task
from inferline.usage.aggregation import (
    CHECK_SECONDS,
    FINAL_PASS_MS,
    FIRST_PASS_MS,
    UsageAggregator,
    share,
)
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteMetrics
from inferline.usage.report import Report
from inferline.usage.usage import (
    DAY,
    DAY_MS,
    HOUR,
    HOUR_MS,
    SLICE_MS,
    Parts,
    Resolution,
    TaskUsage,
    Usage,
    UsageKey,
    UsageRow,
    Watermarks,
)
from tests.support.seams import new_task

#: Ten minutes before midnight, so that what happens next is of two days.
START_MS = 20_000 * DAY_MS - 10 * MINUTE_MS
#: The latest that a write may be seen after it was dated: who signed it was suspended meanwhile.
LATE_MS = 25 * MINUTE_MS


class DatedStore(MemoryStore):
    """A store whose clock stands still until it is set."""

    date_ms = START_MS

    def now_ms(self) -> int:
        return self.date_ms


class Killed(Exception):
    """The death of a process that counts."""


class Step:
    """A point at which another process may run."""

    def __await__(self) -> Generator[None]:
        yield


@dataclass
class Death:
    """After how many steps somebody dies: before that step is done, half-way, or after it."""

    step: int
    done: float = 0.0


@dataclass
class Mortal:
    """A usage ledger whose every method is a step, for one who counts and may die."""

    usage: MemoryUsage
    visible_ms: Mapping[str, int]
    death: Death | None = None
    _step: int = 0

    async def _dies(self) -> Death | None:
        await Step()
        self._step += 1
        death = self.death if self.death and self.death.step == self._step else None
        if death and not death.done:
            raise Killed
        return death

    def now_ms(self) -> int:
        return self.usage.now_ms()

    async def ended(self, slice_number: int) -> AsyncIterator[TaskUsage]:
        if await self._dies():
            raise Killed
        async for usage in self.usage.ended(slice_number):
            if self.visible_ms[usage.task_id] <= self.now_ms():
                yield usage

    async def parts(
        self, resolution: Resolution, number: int, usage_keys: Collection[UsageKey]
    ) -> dict[UsageKey, Parts]:
        if await self._dies():
            raise Killed
        return await self.usage.parts(resolution, number, usage_keys)

    async def put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        death = await self._dies()
        number_put = len(sums) if death is None else round(len(sums) * death.done)
        some = dict(sorted(sums.items())[:number_put])
        await self._put(resolution, number, part, some)
        if death:
            raise Killed

    async def _put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        await self.usage.put(resolution, number, part, sums)

    async def watermarks(self) -> Watermarks:
        if await self._dies():
            raise Killed
        return await self.usage.watermarks()

    async def advance(self, progress: Watermarks) -> None:
        death = await self._dies()
        await self.usage.advance(progress)
        if death:
            raise Killed

    async def rows(
        self, tenant: str | None, resolution: Resolution, first: int, end: int
    ) -> AsyncIterator[UsageRow]:
        if await self._dies():
            raise Killed
        async for row in self.usage.rows(tenant, resolution, first, end):
            yield row


def driven(runs: list[Coroutine[Any, None, Any]], turns: Iterable[int]) -> None:
    """Take all to their end or death, each time one step of the one whose turn it is."""
    turn = iter(turns)
    try:
        while runs:
            run = runs[next(turn, 0) % len(runs)]
            try:
                run.send(None)
            except (StopIteration, Killed):
                runs.remove(run)
    finally:
        for run in runs:
            run.close()


def at_once(work: Coroutine[Any, None, Any]) -> Any:
    """Run something that waits for nobody, and return its result."""
    while True:
        try:
            work.send(None)
        except StopIteration as stop:
            return stop.value


@dataclass
class World:
    """Tasks that end, and what is told of them."""

    mortal: type[Mortal] = Mortal
    settlement: type[UsageAggregator] = UsageAggregator
    store: DatedStore = field(default_factory=DatedStore)
    minutes: MemoryMinutes = field(default_factory=MemoryMinutes)
    truth: dict[UsageKey, Usage] = field(default_factory=dict)
    visible_ms: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.usage = MemoryUsage(self.store)

    def end(self, usage_key: UsageKey, late_ms: int = 0, **changes: Any) -> None:
        """End a task now; the index shows it ``late_ms`` later."""
        tenant, key_id, model, provider = usage_key
        task = replace(new_task(self.store, model=model), tenant=tenant, key_id=key_id)
        task = replace(task, ttl=self.store.now_ms() // 1000 + 24 * 3600, **changes)
        at_once(self.store.submit(task))
        claim = at_once(self.store.claim(task.ref, provider, 30))
        assert isinstance(claim, Claimed)
        at_once(
            self.store.finish(claim.task, AttemptOutcome(status=200, usage={"input_tokens": 3}))
        )
        self.visible_ms[task.ref.id] = self.store.now_ms() + late_ms
        ended = self.store.task(task.ref)
        assert isinstance(ended, Task)
        usage = TaskUsage.from_row(task.ref.id, {n: getattr(ended, n) for n in Task.__slots__})
        assert usage is not None
        self.truth.setdefault(usage_key, Usage()).note(usage)

    def count(self, *deaths: Death | None, turns: Iterable[int] = ()) -> None:
        """Count, in one process or several."""
        ledgers = [self.mortal(self.usage, self.visible_ms, death) for death in deaths or (None,)]
        driven([self.settlement(usage=one, minutes=self.minutes).run() for one in ledgers], turns)

    def forget(self, each: int) -> None:
        """
        Delete one in so many of the counted tasks before their time.

        Only where all of a slice were seen by then: of others nobody could know the sum any more.
        """
        counted = at_once(self.usage.watermarks()).first_pass
        late = {
            task.ended_ms // SLICE_MS
            for task in self.store._tasks.values()
            if self.visible_ms[task.ref.id]
            > (task.ended_ms // SLICE_MS + 1) * SLICE_MS + FIRST_PASS_MS
        }
        for ref, task in list(self.store._tasks.items())[::each]:
            if task.ended_ms // SLICE_MS not in late and task.ended_ms // SLICE_MS < counted:
                del self.store._tasks[ref]

    def kept(self, resolution: Resolution) -> dict[UsageKey, Usage]:
        """Return what is stored, without calls."""

        async def read() -> dict[UsageKey, Usage]:
            sums: dict[UsageKey, Usage] = {}
            async for row in self.usage.rows(None, resolution, 0, 10**9):
                for usage in row.parts.values():
                    sums.setdefault(row.usage_key, Usage()).add(usage)
            return {one: replace(usage, aws_calls=0) for one, usage in sums.items()}

        kept: dict[UsageKey, Usage] = at_once(read())
        return kept

    def reported(self) -> list[dict[str, Any]]:
        """Return a report of everything."""
        until = self.store.now_ms() + 1
        by = ("tenant", "key", "model", "provider")
        report = Report(tenant=None, by=by, since_ms=START_MS - DAY_MS, until_ms=until)
        at_once(report.make(Mortal(self.usage, self.visible_ms)))
        return report.rows()

    def check_nothing_twice(self) -> None:
        for kept in (self.kept(HOUR), self.kept(DAY)):
            for usage_key, usage in kept.items():
                assert usage.requests <= self.truth[usage_key].requests, "counted twice"
        requests = sum(usage.requests for usage in self.truth.values())
        assert sum(row["requests"] for row in self.reported()) <= requests, "told twice"

    def check_all(self) -> None:
        self.store.date_ms += LATE_MS + FINAL_PASS_MS + HOUR_MS
        self.count()
        assert self.kept(HOUR) == self.truth, "hours"
        assert self.kept(DAY) == self.truth, "days"
        reported = {
            UsageKey(*(row[n] for n in ("tenant", "key", "model", "provider"))): row["requests"]
            for row in self.reported()
        }
        assert reported == {one: usage.requests for one, usage in self.truth.items()}, "report"


ACCOUNTS = [
    UsageKey(*names) for names in (("a", "k", "m", "p"), ("a", "", "m", "q"), ("b", "", "n", "p"))
]
deaths = st.none() | st.builds(Death, st.integers(1, 25), st.sampled_from([0.0, 0.4, 1.0]))
#: What happens: tasks end, time passes, or one or two count.
events = st.one_of(
    st.tuples(
        st.just("end"),
        st.sampled_from(ACCOUNTS),
        st.sampled_from([0, 0, LATE_MS]) | st.integers(0, LATE_MS),
        st.integers(1, 3),
    ),
    st.tuples(
        st.just("pass"),
        st.sampled_from([SLICE_MS, SLICE_MS + FIRST_PASS_MS, FINAL_PASS_MS])
        | st.integers(1, HOUR_MS),
    ),
    st.tuples(st.just("forget"), st.integers(1, 2)),
    st.tuples(
        st.just("count"),
        st.lists(deaths, min_size=1, max_size=2),
        st.lists(st.integers(0, 1), max_size=60),
    ),
)


def happens(world: World, history: list[Any]) -> None:
    world.count()  # The first to count begins where nothing has ended.
    for kind, *arguments in history:
        if kind == "end":
            usage_key, late_ms, number = arguments
            for _ in range(number):
                world.end(usage_key, late_ms)
        elif kind == "pass":
            world.store.date_ms += arguments[0]
        elif kind == "forget":
            world.forget(*arguments)
        else:
            world.count(*arguments[0], turns=arguments[1])
            world.check_nothing_twice()
    world.check_all()


OPTIONS = hypothesis.settings(
    max_examples=400,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@hypothesis.seed(20261127)
@OPTIONS
@hypothesis.given(history=st.lists(events, max_size=40))
def test_nothing_is_lost_and_nothing_counted_twice(history: list[Any]) -> None:
    happens(World(), history)


class Adding(Mortal):
    """Adds to what is there."""

    async def _put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        kept = await self.usage.parts(resolution, number, sums)
        for usage_key, usage in sums.items():
            usage.add(kept.get(usage_key, {}).get(part, Usage()))
        await self.usage.put(resolution, number, part, sums)


class Overwriting(Mortal):
    """Lets who saw less have the last word."""

    async def _put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        for usage_key, usage in sums.items():
            self.usage._kept.setdefault((resolution, number, usage_key), {})[part] = usage


class Hasty(UsageAggregator):
    """Says that a slice is counted before it is."""

    async def _count(self, first: int, end: int, *, again: bool) -> int:
        if first < end:
            await self.usage.advance(
                Watermarks(final_pass=end) if again else Watermarks(first_pass=end)
            )
        for number in range(first, end):
            await self._settle(number, again=again)
        return 0


class Careless(UsageAggregator):
    """Counts each slice once, and then closes its hour."""

    async def _count(self, first: int, end: int, *, again: bool) -> int:
        return 0 if again else await super()._count(first, end, again=again)

    async def _settle(self, number: int, *, again: bool) -> None:
        await super()._settle(number, again=False)
        await super()._close(number // HOUR.parts)


@pytest.mark.parametrize(
    ("mortal", "settlement", "notices"),
    [
        (Adding, UsageAggregator, "twice|hours|days"),
        (Overwriting, UsageAggregator, "hours|days"),
        (Mortal, Hasty, "hours|days"),
        (Mortal, Careless, "hours"),
    ],
)
def test_a_precaution_left_out_is_noticed(mortal: Any, settlement: Any, notices: str) -> None:
    @hypothesis.seed(20261127)
    @hypothesis.settings(OPTIONS, max_examples=1000, phases=[hypothesis.Phase.generate])
    @hypothesis.given(history=st.lists(events, min_size=10, max_size=40))
    def broken(history: list[Any]) -> None:
        happens(World(mortal, settlement), history)

    with pytest.raises(AssertionError, match=notices):
        broken()


def test_a_slice_is_counted_a_while_after_its_end() -> None:
    world = World()
    world.count()
    world.end(ACCOUNTS[0])

    world.store.date_ms = START_MS + SLICE_MS + FIRST_PASS_MS - 1
    world.count()
    before = world.kept(HOUR)
    world.store.date_ms += 1
    world.count()

    assert ({}, world.truth) == (before, world.kept(HOUR))


def test_what_is_seen_late_is_counted_the_second_time() -> None:
    world = World()
    world.count()
    world.end(ACCOUNTS[0])
    world.end(ACCOUNTS[0], late_ms=LATE_MS)

    world.store.date_ms += SLICE_MS + FIRST_PASS_MS
    world.count()
    once = world.kept(HOUR)[ACCOUNTS[0]].requests
    world.store.date_ms = START_MS + SLICE_MS + FINAL_PASS_MS
    world.count()

    assert (1, 2) == (once, world.kept(HOUR)[ACCOUNTS[0]].requests)


def test_an_hour_goes_into_its_day_also_when_nobody_counted_for_days() -> None:
    world = World()
    world.count()
    world.end(ACCOUNTS[0])
    world.store.date_ms += SLICE_MS + FIRST_PASS_MS
    world.count()
    world.store._tasks.clear()

    world.store.date_ms += 3 * DAY_MS
    world.count()

    assert world.truth == world.kept(DAY)


def calls_told(world: World, *calls: int) -> None:
    for number, count in enumerate(calls):
        metrics = MinuteMetrics()
        metrics.note_calls({("dynamodb", "Query"): count, ("sqs", "SendMessage"): count})
        minute = Minute(START_MS // MINUTE_MS + number, "m", metrics)
        at_once(world.minutes.add(minute))


def test_calls_to_aws_are_shared_by_the_time_that_requests_were_under_way() -> None:
    world = World()
    world.count()
    world.end(ACCOUNTS[0], created_ms=START_MS - 3000)
    world.end(ACCOUNTS[1], created_ms=START_MS - 1000)
    calls_told(world, 30, 0, 0, 0, 20, 99)  # The last is of the next slice.

    world.store.date_ms += SLICE_MS + FIRST_PASS_MS
    world.count()

    parts = at_once(world.usage.parts(HOUR, START_MS // HOUR_MS, ACCOUNTS))
    [one], [other] = (parts[usage_key].values() for usage_key in ACCOUNTS[:2])
    assert (75, 25) == (one.aws_calls, other.aws_calls)


def test_shares_that_were_told_stay_when_calls_are_told_late() -> None:
    world = World()
    world.count()
    world.end(ACCOUNTS[0], created_ms=START_MS - 3000)
    calls_told(world, 5)
    world.store.date_ms += SLICE_MS + FIRST_PASS_MS
    world.count()
    calls_told(world, 7)
    world.end(ACCOUNTS[0])

    world.store.date_ms += FINAL_PASS_MS
    world.count()

    kept = at_once(world.usage.parts(HOUR, START_MS // HOUR_MS, ACCOUNTS))
    assert 10 == kept[ACCOUNTS[0]][START_MS // SLICE_MS % HOUR.parts].aws_calls


@hypothesis.given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
def test_all_shares_together_are_all_calls(calls: int, taken: list[int]) -> None:
    usage_keys = {UsageKey("t", "", "m", f"p{n}"): Usage(run_ms=ms) for n, ms in enumerate(taken)}

    share(calls, usage_keys)

    assert (calls if sum(taken) else 0) == sum(usage.aws_calls for usage in usage_keys.values())
    assert all(usage.aws_calls >= 0 for usage in usage_keys.values())


class Rarely(MemoryUsage):
    """Does not answer the first time."""

    asked = 0

    async def watermarks(self) -> Watermarks:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable
        return await super().watermarks()


async def test_counting_goes_on_after_a_store_that_does_not_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slept: list[float] = []
    usage, looked_twice = Rarely(DatedStore()), asyncio.Event()

    class Clock:
        def monotonic(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                looked_twice.set()
                await asyncio.Event().wait()

    async with UsageAggregator(usage=usage, minutes=MemoryMinutes()).running(Clock()):
        await looked_twice.wait()

    assert [CHECK_SECONDS] * 2 == slept
    assert (await usage.watermarks()).first_pass > 0
    assert "could not count usage: service_unavailable" in caplog.text
