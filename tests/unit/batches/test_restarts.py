"""
Work on a batch is broken off at every call, and done twice: each line has one result all the same.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest

from inferline.batches.batch import Batch
from inferline.batches.lifecycle import advance, cancel
from inferline.batches.parts import BatchParts
from inferline.batches.work import LEASE_TIMES
from inferline.errors import Unavailable
from inferline.memory.stores import memory_stores
from tests.support.batches import (
    ScriptedProvider,
    advanced,
    answered,
    created,
    jsonl,
    know,
    line,
    lines_of,
    parts_on,
)
from tests.support.clocks import StandingClock

LINES = 250
STORES = ("batches", "files", "objects", "store", "queue", "registry")

#: What happens to a batch before the process at issue works on it.
Before = Callable[[BatchParts, ScriptedProvider, Batch], Awaitable[None]]


class Killed(BaseException):
    """The end of a process."""


@dataclass(slots=True)
class Fate:
    """An event that a process meets at one of its calls to a store."""

    #: The number of that call, and whether it is still made.
    at: int
    after: bool
    happens: Callable[[], Awaitable[None]]
    calls: int = 0
    #: The names of the calls, for the test's output.
    made: list[str] = field(default_factory=list)


class Watched:
    """A store whose calls a fate counts."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        method, fate = getattr(self._store, name), self._fate
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **named: Any) -> Any:
            fate.calls += 1
            fate.made.append(name)
            is_now = fate.calls == fate.at
            if is_now and not fate.after:
                await fate.happens()
            result = await method(*args, **named)
            if is_now and fate.after:
                await fate.happens()
            return result

        return call


async def nothing(parts: BatchParts, provider: ScriptedProvider, batch: Batch) -> None:
    """Leave the batch to be validated."""


async def run(parts: BatchParts, provider: ScriptedProvider, batch: Batch) -> None:
    """Leave the batch to be finalized."""
    await advanced(parts, batch)
    await provider.run()


async def cancelled(parts: BatchParts, provider: ScriptedProvider, batch: Batch) -> None:
    """Leave the batch to be cancelled, partly done."""
    batch = await advanced(parts, batch)
    await provider.run(1)
    await cancel(parts, batch)


@dataclass(slots=True)
class Story:
    """A batch, a process that works on it and meets its fate, and one that goes on."""

    clock: StandingClock
    parts: BatchParts
    provider: ScriptedProvider
    batch: Batch

    @classmethod
    async def begin(cls, before: Before) -> Story:
        clock = StandingClock()
        stores = memory_stores(clock)
        parts = parts_on(stores, clock)
        provider = ScriptedProvider(stores, await know(stores), answered)
        batch = await created(parts, jsonl([line(n) for n in range(LINES)]))
        await before(parts, provider, batch)
        clock.now += 10
        return cls(clock, parts, provider, batch)

    async def meet(self, fate: Fate) -> None:
        """Let a process work on the batch, to which something happens."""
        watched = {name: Watched(getattr(self.parts, name), fate) for name in STORES}
        named = {each.name: getattr(self.parts, each.name) for each in fields(self.parts)}
        with suppress(Killed, Unavailable):
            await advance(BatchParts(**named | watched), self.batch.tenant, self.batch.id)

    async def finish(self) -> Batch:
        """Let another process and the provider do all that is left."""
        for _ in range(5):
            self.clock.now += LEASE_TIMES * self.parts.settings.lease_seconds + 1
            batch = await advanced(self.parts, self.batch)
            if batch.is_terminal:
                return batch
            await self.provider.run()
        raise AssertionError(batch.status)

    async def check(self, batch: Batch) -> None:
        """Check that each line has one result, and that nothing ran twice."""
        ids: Counter[str] = Counter()
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            ids.update(
                each["custom_id"] for each in await lines_of(self.parts, batch.tenant, file_id)
            )
        assert ids == Counter(f"line-{n}" for n in range(LINES))
        assert max(Counter(self.provider.ran).values()) == 1
        assert (batch.completed, batch.failed) == (len(self.provider.ran), 0)
        files = await self.parts.files.files(batch.tenant, limit=10, purpose="batch_output")
        wanted = {file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id}
        assert wanted == {file.id for file in files}


async def died() -> None:
    raise Killed


CASES = [(nothing, "completed"), (run, "completed"), (cancelled, "cancelled")]
CASE_IDS = ["validating", "finalizing", "cancelling"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("before", "status"), CASES, ids=CASE_IDS)
async def test_a_process_may_die_at_any_call(before: Before, status: str, after: bool) -> None:
    at = 0
    while True:
        at += 1
        story = await Story.begin(before)
        fate = Fate(at, after, died)
        await story.meet(fate)
        if fate.calls < at:
            break
        batch = await story.finish()
        assert batch.status == status, fate.made
        await story.check(batch)
    assert at > 8


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("before", "status"), CASES, ids=CASE_IDS)
async def test_a_process_may_be_suspended_until_others_have_ended_the_batch(
    before: Before, status: str, after: bool
) -> None:
    at = 0
    while True:
        at += 1
        story = await Story.begin(before)
        ended: list[Batch] = []

        async def others_finish(story: Story = story, ended: list[Batch] = ended) -> None:
            ended.append(await story.finish())

        fate = Fate(at, after, others_finish)
        await story.meet(fate)
        if fate.calls < at:
            break
        batch = await story.parts.batches.batch(story.batch.tenant, story.batch.id)
        assert batch is not None
        assert (batch.status, replace(batch, version=0)) == (status, replace(ended[0], version=0))
        await story.check(batch)


async def test_a_cancellation_ends_a_validation_at_once() -> None:
    story = await Story.begin(nothing)

    async def cancels() -> None:
        await cancel(story.parts, await _row(story))

    await story.meet(Fate(8, after=False, happens=cancels))
    batch = await _row(story)

    assert (batch.status, batch.worker_until_ms) == ("cancelled", 0)


async def _row(story: Story) -> Batch:
    row = await story.parts.batches.batch(story.batch.tenant, story.batch.id)
    assert row is not None
    return row
