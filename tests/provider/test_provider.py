from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inferline.errors import Unavailable
from inferline.memory.queue import MemoryQueue
from inferline.memory.tasks import MemoryStore
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.store import AttemptOutcome, TaskStatus
from inferline.tasks.task import TIERS, State, Task, TaskRef
from inferline_provider import provider
from inferline_provider.backend import health
from inferline_provider.enrolment import EnrolmentRefused, ProviderQuarantined
from inferline_provider.settings import ProviderSettings
from tests.provider.world import TERMS, World, until, world
from tests.support.backend import Backend, serving
from tests.support.script import Script

QUICK = Script(first=0.01, interval=0.005, tokens=4)


async def test_a_task_is_answered_and_its_message_goes() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit()

        row = await around.ended(task)

        assert (row.state, row.status, row.attempt, row.chunks) == (State.DONE, 200, 1, 0)
        assert json.loads(row.tail)["choices"][0]["message"]["content"]
        assert row.content_type.startswith("application/json")


async def test_a_stream_is_written_as_it_comes() -> None:
    async with world(Backend(script=Script(first=0.01, interval=0.1, tokens=4))) as around:
        task = await around.submit({"stream": True})
        await until(lambda: around.store.chunks(task.ref, 1))

        assert around.row(task).state is State.RUNNING
        row = await around.ended(task)

        assert row.state is State.DONE
        assert row.chunks >= 3
        head = around.store.chunks(task.ref, 1)[0].head
        assert head is not None
        assert (head.status, head.provider) == (200, "p1")
        assert head.content_type.startswith("text/event-stream")
        assert around.answer(task).endswith(b"data: [DONE]\n\n")


async def test_a_cancel_frees_the_backend_within_a_second() -> None:
    class Store(MemoryStore):
        looks = 0

        async def statuses(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
            self.looks += 1
            return await super().statuses(refs)

    backend, store = Backend(script=Script(first=0.01, interval=1.0, tokens=600)), Store()
    async with world(backend, store=store) as around:
        task = await around.submit({"stream": True})
        await until(lambda: backend.running)

        await store.cancel(task.ref)
        seen = store.looks
        await until(lambda: not backend.running)

        # One may have been under way as it was cancelled; each is 0.4 s after the one before.
        assert 1 <= store.looks - seen <= 2
        assert 0.4 == around.terms.cancel_seconds
        row = await around.ended(task)
        assert row.state is State.CANCELLED


async def test_a_provider_tells_what_it_is_and_leaves() -> None:
    async with world(Backend(models=["a", "b"], slots=3), token="secret") as around:
        enrolment = around.gateway.enrolments[0]

        assert (enrolment["id"], enrolment["slots"], enrolment["healthy"]) == ("p1", 3, True)
        assert [model["id"] for model in enrolment["models"]] == ["a", "b"]
        assert around.gateway.tokens[0] == "Bearer secret"

    assert around.gateway.left == ["p1"]
    assert around.running.exception() is None


async def test_it_enrols_again_as_its_heartbeat() -> None:
    async with world(terms={"enrol_seconds": 0.5}) as around:
        await until(lambda: len(around.gateway.enrolments) >= 3)


async def test_it_touches_its_file_with_each_enrolment(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    async with world(terms={"enrol_seconds": 0.5}, alive_file=alive):
        await until(alive.exists)
        os.utime(alive, (0, 0))

        await until(lambda: alive.stat().st_mtime > 0)


async def test_a_file_that_cannot_be_touched_stops_no_work(tmp_path: Path) -> None:
    alive = tmp_path / "nowhere" / "alive"
    async with world(Backend(script=QUICK), alive_file=alive) as around:
        row = await around.ended(await around.submit())

        assert row.state is State.DONE


async def test_a_gateway_that_is_away_stops_no_work() -> None:
    async with world(Backend(script=QUICK), terms={"enrol_seconds": 0.4}) as around:
        around.gateway.status = 500
        await until(lambda: len(around.gateway.enrolments) >= 3)

        row = await around.ended(await around.submit())

        assert row.state is State.DONE


async def test_a_provider_that_is_not_wanted_says_why_and_ends() -> None:
    backend = Backend()
    around = World(backend)
    around.gateway.status = 401
    async with serving(backend) as port, around.gateway.serving() as base_url:
        settings = ProviderSettings(base_url=base_url, backend=f"http://127.0.0.1:{port}", id="p1")

        with pytest.raises(EnrolmentRefused, match="scripted refusal"):
            await provider.run(settings, around.open_stores, around.stopping)


async def test_a_provider_that_is_quarantined_ends_at_its_next_heartbeat() -> None:
    backend = Backend(script=QUICK)
    around = World(backend)
    around.gateway.terms = TERMS.model_copy(update={"enrol_seconds": 0.3})
    async with serving(backend) as port, around.gateway.serving() as base_url:
        settings = ProviderSettings(base_url=base_url, backend=f"http://127.0.0.1:{port}", id="p1")
        running = asyncio.create_task(provider.run(settings, around.open_stores, around.stopping))
        await until(lambda: around.gateway.enrolments)
        around.gateway.status, around.gateway.code = 403, "provider_quarantined"

        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(running, 60)

    assert ended.value.subgroup(ProviderQuarantined)


async def test_a_backend_that_is_down_is_told_and_waited_for() -> None:
    backend = Backend()
    backend.healthy = False
    around = World(backend)
    async with serving(backend) as port, around.gateway.serving() as base_url:
        settings = ProviderSettings(base_url=base_url, backend=f"http://127.0.0.1:{port}", id="p1")
        running = asyncio.create_task(provider.run(settings, around.open_stores, around.stopping))
        await until(lambda: around.gateway.enrolments)
        enrolment = around.gateway.enrolments[0]
        assert (enrolment["healthy"], enrolment["models"]) == (False, [])
        assert enrolment["reason"] == health.UNWELL.format(503)

        backend.healthy = True
        await until(lambda: around.gateway.enrolments[-1]["models"])

        assert around.gateway.enrolments[-1]["healthy"]
        task = await around.submit({"x_script": {"first": 0.01, "interval": 0.0}})
        assert State.DONE is (await around.ended(task)).state
        around.stopping.ask()
        around.stopping.ask()
        await running


async def test_a_stop_while_waiting_ends_at_once() -> None:
    around = World(Backend())
    settings = ProviderSettings(
        base_url="http://127.0.0.1:9", backend="http://127.0.0.1:9", id="p1"
    )
    running = asyncio.create_task(provider.run(settings, around.open_stores, around.stopping))
    await asyncio.sleep(0.05)

    around.stopping.ask()

    async with asyncio.timeout(60):
        await running


async def test_an_unhealthy_backend_gets_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferline_provider.backend.health.CHECK_SECONDS", 0.1)
    async with world(Backend(script=QUICK)) as around:
        around.backend.healthy = False
        await until(lambda: not around.gateway.enrolments[-1]["healthy"])

        task = await around.submit()
        await asyncio.sleep(0.3)
        assert around.row(task).state is State.QUEUED

        around.backend.healthy = True
        assert (await around.ended(task)).state is State.DONE


async def test_new_models_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferline_provider.backend.health.CHECK_SECONDS", 0.1)
    async with world(Backend(models=["a"], script=QUICK), refresh_seconds=0.2) as around:
        around.backend.models.append("b")
        task = await around.submit(model="b")

        assert (await around.ended(task)).status == 200


async def test_no_more_run_at_once_than_there_are_slots() -> None:
    script = Script(first=0.02, interval=0.0, tokens=1)
    async with world(Backend(slots=3, models=["a", "b"], script=script)) as around:
        tasks = [await around.submit(model=name) for name in ("a", "b") * 15]

        for task in tasks:
            assert (await around.ended(task)).status == 200

        assert around.backend.running_max == 3
        assert {around.row(task).attempt for task in tasks} == {1}


async def test_every_tier_is_served() -> None:
    async with world(Backend(slots=1, script=QUICK)) as around:
        tasks = [await around.submit(tier=tier) for tier in TIERS]

        assert [(await around.ended(task)).status for task in tasks] == [200, 200, 200]


async def test_a_message_of_a_task_that_has_ended_goes_without_work() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await around.submit()
        await around.ended(task)
        url = (await around.queue.make(task.model))[task.tier]
        around.queue.put(url, Message(ref=task.ref, body=b"{}").dumps())
        around.queue.put(url, Message(ref=TaskRef(task.ref.slug, "forged"), body=b"{}").dumps())

        await until(lambda: not around.queue.messages(url))

        assert around.backend.calls.total() == 1


async def test_a_second_message_of_a_running_task_waits() -> None:
    async with world(Backend(script=Script(first=0.3, interval=0.01, tokens=2))) as around:
        task = await around.submit()
        await until(lambda: around.backend.running)
        url = (await around.queue.make(task.model))[task.tier]
        around.queue.put(url, around.queue.messages(url)[0])

        await until(lambda: around.row(task).state.terminal)

        assert around.backend.calls.total() == 1
        assert around.row(task).attempt == 1


async def test_a_strange_message_is_left_alone() -> None:
    async with world(Backend(script=QUICK)) as around:
        url = (await around.queue.make("test-model"))["default"]
        around.queue.put(url, '{"v": 99, "task": "from a later release"}')
        around.queue.put(url, "[[[")
        task = await around.submit()

        assert (await around.ended(task)).status == 200
        assert len(around.queue.messages(url)) == 2


async def test_a_stop_lets_running_tasks_finish() -> None:
    async with world(Backend(script=Script(first=0.1, interval=0.1, tokens=4))) as around:
        task = await around.submit({"stream": True})
        await until(lambda: around.backend.running)

        around.stopping.ask()
        async with asyncio.timeout(60):
            await around.running

        assert around.row(task).state is State.DONE
        assert around.gateway.left == ["p1"]


async def test_a_stop_pulls_nothing_more() -> None:
    async with world(Backend(script=Script(first=0.5, interval=0.0, tokens=1))) as around:
        first = await around.submit()
        await until(lambda: around.backend.running)

        around.stopping.ask()
        second = await around.submit()
        await around.running

        assert around.row(first).state is State.DONE
        assert around.row(second).state is State.QUEUED
        url = (await around.queue.make("test-model"))["default"]
        assert (await around.queue.depth(url)).waiting == 1


async def test_what_does_not_finish_in_time_is_handed_back_and_not_counted() -> None:
    script = Script(first=600.0)
    async with world(Backend(script=script), drain_seconds=0.2) as around:
        task = await around.submit()
        await until(lambda: around.backend.running)

        around.stopping.ask()
        await around.running

        row = around.row(task)
        assert (row.state, row.lease_ms, row.attempts_left) == (State.RUNNING, 0, 3)
        url = (await around.queue.make("test-model"))["default"]
        assert (await around.queue.depth(url)).waiting == 1


async def test_a_second_stop_does_not_wait() -> None:
    class Patient(MemoryQueue):
        async def receive(self, url: str, *, wait_seconds: float, **more: Any) -> list[Delivery]:
            return await super().receive(url, wait_seconds=60 * wait_seconds, **more)

    backend = Backend(script=Script(first=600.0))
    async with world(backend, queue=Patient(), poll_seconds=20, drain_seconds=600) as around:
        task = await around.submit()
        await until(lambda: around.backend.running)

        around.stopping.ask()
        around.stopping.ask()
        async with asyncio.timeout(60):
            await around.running

        assert around.row(task).lease_ms == 0


async def test_a_begun_answer_that_is_stopped_and_cannot_go_on_elsewhere_fails_for_good() -> None:
    script = Script(first=0.01, interval=1.0, tokens=600)
    async with world(Backend(script=script), drain_seconds=0.2) as around:
        task = await around.submit({"stream": True, "logprobs": True})
        await until(lambda: around.store.chunks(task.ref, 1))

        around.stopping.ask()
        await around.running

        row = around.row(task)
        assert (row.state, row.error["code"]) == (State.FAILED, "provider_lost")


async def test_a_lost_attempt_writes_no_end_and_keeps_the_message() -> None:
    async with world(Backend(script=Script(first=0.01, interval=1.0, tokens=600))) as around:
        task = await around.submit({"stream": True})
        await until(lambda: around.store.chunks(task.ref, 1))
        await around.store.hand_back(around.row(task), counts=False)
        await around.store.claim(task.ref, "another", 30)

        await until(lambda: not around.backend.running)
        await asyncio.sleep(0.1)

        row = around.row(task)
        assert (row.state, row.owner, row.attempt) == (State.RUNNING, "another", 2)
        url = (await around.queue.make("test-model"))["default"]
        assert len(around.queue.messages(url)) == 1


async def test_the_row_ends_before_its_message_goes() -> None:
    order: list[str] = []

    class Store(MemoryStore):
        async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
            await super().finish(task, outcome)
            order.append("finish")

    class Queue(MemoryQueue):
        async def delete(self, deliveries: Sequence[Delivery]) -> None:
            await super().delete(deliveries)
            order.append("delete")

    async with world(Backend(script=QUICK), store=Store(), queue=Queue()) as around:
        await around.ended(await around.submit())

        assert order == ["finish", "delete"]


async def test_an_end_that_can_not_be_written_is_written_later() -> None:
    class Store(MemoryStore):
        failures = 3

        async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
            if self.failures:
                self.failures -= 1
                raise Unavailable
            await super().finish(task, outcome)

    async with world(Backend(script=QUICK), store=Store()) as around:
        row = await around.ended(await around.submit())

        assert (row.state, row.attempt) == (State.DONE, 1)
        assert around.backend.calls.total() == 1


async def test_a_provider_that_can_not_renew_stops_its_backend() -> None:
    class Store(MemoryStore):
        async def renew(self, task: Task, lease_seconds: float) -> Task:
            raise Unavailable

        async def statuses(self, refs: object) -> dict[TaskRef, TaskStatus]:
            raise Unavailable

    backend = Backend(script=Script(first=600.0))
    async with world(backend, terms={"lease_seconds": 1.0}, store=Store()) as around:
        task = await around.submit()
        await until(lambda: backend.running)

        await until(lambda: backend.disconnects)

        assert around.row(task).state is State.RUNNING


async def test_a_slot_is_filled_again_at_once() -> None:
    script = Script(first=0.0, interval=0.0, tokens=1)
    async with world(Backend(slots=1, script=script), poll_seconds=20) as around:
        tasks = [await around.submit() for _ in range(50)]
        begun_at = asyncio.get_running_loop().time()

        for task in tasks:
            await around.ended(task)

        # A slot that waited for the next poll would wait for twenty seconds.
        assert (asyncio.get_running_loop().time() - begun_at) / 50 < 1


async def test_what_fails_at_once_says_nothing_of_how_long_a_task_takes() -> None:
    async with world() as around:
        await around.ended(await around.submit())
        await until(lambda: around.gateway.enrolments[-1]["service_seconds"])
        seconds = around.gateway.enrolments[-1]["service_seconds"]
        for _ in range(5):
            await around.ended(await around.submit({"x_script": {"status": 500}}))
        count = len(around.gateway.enrolments)
        await until(lambda: len(around.gateway.enrolments) > count)

        assert seconds == around.gateway.enrolments[-1]["service_seconds"]


async def test_a_part_that_dies_ends_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(self: object) -> None:
        raise RuntimeError("a fault of ours")

    async with world() as around:
        monkeypatch.setattr("inferline_provider.serve.leases.Leases.check", check)

        async with asyncio.timeout(60):
            with pytest.raises(ExceptionGroup):
                await around.running
