"""The feed: which line begins, which makes room, and which goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from inferline.tasks.shard import Shard
from inferline.tasks.task import Task, TaskRef
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.slots import Slots
from inferline_provider.batch.feed import LineFeed
from inferline_provider.batch.line_run import LineRun
from inferline_provider.batch.lines import Line, LineResult
from inferline_provider.batch.progress import ShardProgress
from inferline_provider.batch.room import QUIET_SECONDS, LineRoom
from inferline_provider.batch.victims import AGAIN_SECONDS
from inferline_provider.batch.work import ShardWork
from tests.provider.fakes import FakeClock

CHAT = "/v1/chat/completions"


def task_of(lines: int, path: str = CHAT, number: int = 0) -> Task:
    """Return the task of a shard."""
    return Task(
        ref=TaskRef("m", f"b-{number}"),
        model="m",
        tier="batch",
        tenant="t",
        path=path,
        body_sha256="",
        created_ms=0,
        deadline_ms=10**15,
        attempt_limit=10,
        ttl=10**12,
        shard=Shard(batch="b", number=number, lines=lines),
    )


class Answers:
    """A backend that answers a line when a test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.suspended: list[int] = []
        self._ends: dict[int, asyncio.Event] = {}

    async def serve(self, run: LineRun) -> None:
        self.begun.append(run.number)
        run.begin_anew(folds=True)
        end = self._ends[run.number] = asyncio.Event()
        await end.wait()
        result = LineResult(number=run.number, ending="answered", text=b"{}\n")
        run.work.end(run, result)

    def give_up(self, run: LineRun) -> None:
        raise NotImplementedError

    def note_suspended(self, run: LineRun) -> None:
        self.suspended.append(run.number)

    def answer(self, number: int) -> None:
        self._ends[number].set()


class Scene:
    """A feed with some slots, on a clock that a test moves."""

    def __init__(self, slots: int) -> None:
        self.clock = FakeClock()
        self.slots = Slots(slots, self.clock, lambda: None)
        self.answers = Answers()
        breakers = Breakers(self.slots, self.clock, lambda: None)
        room = LineRoom(self.slots, self.clock)
        self.feed = LineFeed(room, breakers, self.clock, self.answers)
        self.slots.on_requests = self.feed.requests_changed
        room.look()
        self.clock.advance(1)
        self.feed.set_open(True)

    def add(self, lines: int, *, path: str = CHAT, number: int = 0, **body: Any) -> ShardWork:
        """Add a shard."""
        task = task_of(lines, path, number)
        assert task.shard is not None
        request = {"model": "m", "messages": [{"role": "user", "content": "?"}], **body}
        work = ShardWork(
            task,
            [
                Line(number=at, custom_id=str(at), body=json.dumps(request).encode())
                for at in range(lines)
            ],
            ShardProgress(task.shard, 1, is_after_loss=False),
            lambda: None,
            is_careful=False,
        )
        self.feed.add(work)
        return work

    async def pass_time(self, seconds: float = 0.0) -> None:
        """Move the clock, and let everything happen that then does."""
        self.clock.advance(seconds)
        for _ in range(20):
            await asyncio.sleep(0)


def stream(run: LineRun, tokens: int) -> None:
    """Let so many tokens of a line's answer come."""
    assert run.folding is not None
    for _ in range(tokens):
        delta = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
        run.folding.put(b"data: " + json.dumps({"choices": [delta]}).encode() + b"\n\n")


@asynccontextmanager
async def feeding(slots: int) -> AsyncIterator[Scene]:
    """Run a feed."""
    scene = Scene(slots)
    running = asyncio.create_task(scene.feed.run())
    try:
        yield scene
    finally:
        running.cancel()


def numbers(runs: set[LineRun]) -> set[int]:
    return {run.number for run in runs}


async def test_a_line_begins_as_soon_as_another_ends() -> None:
    async with feeding(2) as scene:
        scene.add(3)
        await scene.pass_time()
        assert scene.answers.begun == [0, 1]

        scene.answers.answer(0)
        await scene.pass_time()

        assert scene.answers.begun == [0, 1, 2]


async def test_a_request_suspends_the_line_with_the_least_text() -> None:
    async with feeding(3) as scene:
        work = scene.add(3)
        await scene.pass_time()
        for run in work.running:
            stream(run, tokens=3 - run.number)

        scene.slots.take(1)
        await scene.pass_time()

        assert numbers(work.suspended) == {2}
        assert scene.answers.suspended == [2]
        assert scene.feed.running == 2


async def test_suspended_lines_go_on_the_newest_first() -> None:
    async with feeding(2) as scene:
        work = scene.add(4)
        await scene.pass_time()
        for run in work.running:
            stream(run, tokens=1 + run.number)
        scene.slots.take(1)
        scene.slots.take(1)
        await scene.pass_time()
        assert numbers(work.suspended) == {0, 1}

        scene.slots.release()
        await scene.pass_time()
        assert scene.answers.begun == [0, 1]
        await scene.pass_time(2 * QUIET_SECONDS)

        assert scene.answers.begun == [0, 1, 1]
        assert numbers(work.suspended) == {0}


async def test_no_line_is_suspended_that_is_nearly_done() -> None:
    async with feeding(1) as scene:
        work = scene.add(1, max_tokens=10)
        await scene.pass_time()
        [run] = work.running
        stream(run, tokens=10)

        scene.slots.take(1)
        await scene.pass_time()

        assert not work.suspended
        assert scene.slots.requests + scene.feed.running == 2


async def test_a_line_is_suspended_twice_in_a_row_only_if_there_is_no_other() -> None:
    async with feeding(2) as scene:
        work = scene.add(2)
        await scene.pass_time()
        scene.slots.take(1)
        [first] = work.suspended
        scene.slots.release()
        await scene.pass_time(2 * QUIET_SECONDS)
        [second] = work.running - {first}
        stream(second, tokens=5)

        scene.slots.take(1)
        assert work.suspended == {second}
        scene.slots.take(1)

        assert work.suspended == {first, second}
        assert AGAIN_SECONDS > QUIET_SECONDS


async def test_a_line_that_can_not_go_on_is_suspended_last() -> None:
    async with feeding(2) as scene:
        embedding = scene.add(1, path="/v1/embeddings")
        chat = scene.add(1, number=1)
        await scene.pass_time()
        for run in chat.running:
            stream(run, tokens=5)

        scene.slots.take(1)
        await scene.pass_time()

        assert (len(chat.suspended), len(embedding.suspended)) == (1, 0)


async def test_a_shard_that_is_removed_leaves_its_slots() -> None:
    async with feeding(2) as scene:
        work, other = scene.add(3), scene.add(3, number=1)
        await scene.pass_time()
        scene.slots.take(1)

        scene.feed.remove(work)
        scene.slots.release()
        await scene.pass_time(2 * QUIET_SECONDS)

        assert numbers(other.running) == {0, 1}
        assert scene.feed.running == 2
