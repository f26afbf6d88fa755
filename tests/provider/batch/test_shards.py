"""Shards, as a provider runs them: each line's result is in exactly one of the two files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferline.clock import SystemClock
from inferline.errors import Unavailable
from inferline.memory.objects import MemoryObjects
from inferline.tasks.shard import Segment, Shard, segment_key
from inferline.tasks.task import State, Task
from tests.provider.batch.shards import BATCH, custom_ids, line, named, results, submit
from tests.provider.world import World, until, world
from tests.support.backend import Backend
from tests.support.script import Script

#: Answers at once.
QUICK = Script(first=0.01, interval=0, tokens=2)


class Hasty(SystemClock):
    """A clock by which a minute passes in a second."""

    def monotonic(self) -> float:
        return 60 * super().monotonic()

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 60)


def shard_of(around: World, task: Task) -> Shard:
    """Return the shard as the task's row has it now."""
    shard = around.row(task).shard
    assert shard is not None
    return shard


async def test_a_shards_lines_are_answered_and_its_task_ends() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await submit(around, [line(number) for number in range(10)])

        row = await around.ended(task)

        listed = await results(around, task)
        assert (row.state, row.status) == (State.DONE, 200)
        assert row.shard is not None
        assert (row.shard.completed, row.shard.failed, row.shard.begun) == (10, 0, 0)
        assert custom_ids(listed["output"]) == named(*range(10))
        assert row.shard.usage["completion_tokens"] == 20


async def test_a_result_has_the_answer_as_openais_files_have_it() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await submit(around, [line(0)])

        await around.ended(task)

        [result] = (await results(around, task))["output"]
        response = result.pop("response")
        assert result.pop("id").startswith("batch_req_")
        assert result == {"custom_id": "c0", "error": None}
        assert response["status_code"] == 200
        assert response["request_id"]
        assert response["body"]["object"] == "chat.completion"


async def test_a_result_is_one_line_to_clients_that_end_lines_at_other_characters_too() -> None:
    async with world(Backend(script=QUICK)) as around:
        # Two choices are asked plainly, so that the answer is written as the backend wrote it.
        said = {"n": 2, "x_script": {"emoji": True, "tokens": 64}}
        task = await submit(around, [line(0, said)])

        row = await around.ended(task)

        assert row.shard is not None
        [segment] = row.shard.segments
        key = segment_key(task.ref.slug, BATCH, row.shard.number, segment)
        [text] = (await around.objects.get(key)).decode().splitlines()
        contents = [
            choice["message"]["content"]
            for choice in json.loads(text)["response"]["body"]["choices"]
        ]
        assert {"\x85", "\u2028"} <= set("".join(contents))


async def test_what_the_backend_refuses_is_an_error_with_its_answer() -> None:
    async with world(Backend(script=QUICK)) as around:
        refused = {"x_script": {"status": 400}}
        task = await submit(around, [line(0), line(1, refused)])

        row = await around.ended(task)

        listed = await results(around, task)
        assert row.shard is not None
        assert (row.shard.completed, row.shard.failed) == (1, 1)
        assert custom_ids(listed["output"]) == named(0)
        [error] = listed["error"]
        assert (error["custom_id"], error["error"]) == ("c1", None)
        assert error["response"]["status_code"] == 400
        assert error["response"]["body"]["error"]["message"] == "scripted 400"


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"eof_after_tokens": 1}])
async def test_a_line_that_fails_is_tried_again(fault: dict[str, Any]) -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await submit(around, [line(0, {"x_script": {**fault, "times": 1}})])

        await around.ended(task)

        assert custom_ids((await results(around, task))["output"]) == named(0)


@pytest.mark.parametrize(
    ("fault", "status"),
    [({"status": 500}, 500), ({"status": 429}, 429), ({"body": "no JSON"}, 502)],
)
async def test_a_line_that_fails_again_and_again_is_an_error(
    fault: dict[str, Any], status: int
) -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await submit(around, [line(0, {"x_script": fault}), line(1)])

        row = await around.ended(task)

        listed = await results(around, task)
        [error] = listed["error"]
        assert row.state is State.DONE
        assert error["response"]["status_code"] == status
        assert error["response"]["body"]["error"]
        assert custom_ids(listed["output"]) == named(1)


async def test_a_client_sees_the_name_of_the_model_that_it_asked_for() -> None:
    backend = Backend(models=["inner"], script=QUICK)
    async with world(backend, aliases={"outer": "inner"}) as around:
        task = await submit(around, [line(0, model="outer")], model="outer")

        await around.ended(task)

        [result] = (await results(around, task))["output"]
        assert result["response"]["body"]["model"] == "outer"
        assert json.loads(backend.bodies[0])["model"] == "inner"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/v1/rerank"])
async def test_lines_of_other_endpoints_are_asked_as_they_are(path: str) -> None:
    backend = Backend(script=QUICK)
    async with world(backend) as around:
        fields = {"input": "x", "query": "q", "documents": ["d"]}
        task = await submit(around, [line(0, fields)], path=path)

        await around.ended(task)

        [result] = (await results(around, task))["output"]
        assert result["response"]["status_code"] == 200
        assert json.loads(line(0, fields))["body"] == json.loads(backend.bodies[0])


async def test_a_damaged_input_ends_the_task_as_failed() -> None:
    async with world(Backend(script=QUICK)) as around:
        task = await submit(around, [line(0)], sha256="0" * 64)

        row = await around.ended(task)

        assert (row.state, row.error["code"]) == (State.FAILED, "damaged_request")


async def test_results_are_committed_while_other_lines_run() -> None:
    async with world(Backend(script=QUICK, slots=8), clock=Hasty()) as around:
        slow = {"x_script": {"first": 60}}
        task = await submit(around, [line(0), line(1), line(2, slow)])

        await until(lambda: shard_of(around, task).completed == 2)

        assert shard_of(around, task).begun == 0b100
        assert custom_ids((await results(around, task))["output"]) == named(0, 1)


async def test_a_shard_that_stops_is_handed_back_with_its_results() -> None:
    async with world(Backend(script=QUICK), drain_seconds=0.2) as around:
        slow = {"x_script": {"first": 60}}
        task = await submit(around, [line(0), line(1), line(2, slow), line(3)])
        await until(lambda: around.backend.calls.total() >= 4 and around.backend.running == 1)

        around.stopping.ask()
        await around.running

        row = around.row(task)
        assert (row.state, row.lease_ms, row.attempt_limit) == (State.RUNNING, 0, 21)
        assert (shard_of(around, task).completed, shard_of(around, task).begun) == (3, 0)
        assert custom_ids((await results(around, task))["output"]) == named(0, 1, 3)


async def test_a_provider_that_stops_lets_lines_end_and_begins_no_other() -> None:
    backend = Backend(script=Script(first=0.3, interval=0, tokens=1), slots=2)
    async with world(backend) as around:
        task = await submit(around, [line(number) for number in range(10)])
        await until(lambda: backend.running == 2)

        around.stopping.ask()
        await around.running

        assert shard_of(around, task).completed == backend.calls["/v1/chat/completions"] == 2


async def test_a_cancelled_shard_stops_and_its_message_goes() -> None:
    async with world(Backend(script=Script(first=60)), clock=Hasty()) as around:
        task = await submit(around, [line(0)])
        await until(lambda: around.backend.running == 1)

        await around.store.cancel(task.ref)
        row = await around.ended(task)

        assert row.state is State.CANCELLED
        await until(lambda: around.backend.running == 0)


async def test_a_shard_of_a_cancelled_batch_commits_what_is_done_and_ends() -> None:
    async with world(Backend(script=QUICK, slots=8), clock=Hasty()) as around:
        task = await submit(around, [line(0), line(1), line(2, {"x_script": {"first": 60}})])
        await until(lambda: around.backend.running == 1)

        assert await around.store.bring_deadline_forward(task.ref, task.deadline_ms - 1)
        row = await around.ended(task)

        assert row.state is State.CANCELLED
        assert custom_ids((await results(around, task))["output"]) == named(0, 1)
        await until(lambda: around.backend.running == 0)


async def test_a_shard_past_its_window_keeps_what_is_done() -> None:
    async with world(Backend(script=QUICK)) as around:
        slow = {"x_script": {"first": 60}}
        task = await submit(around, [line(0), line(1, slow)], seconds=1.5)

        row = await around.ended(task)

        assert row.state is State.EXPIRED
        assert custom_ids((await results(around, task))["output"]) == named(0)


async def test_lines_with_a_result_are_not_run_again() -> None:
    backend = Backend(script=QUICK)
    async with world(backend) as around:
        segment = Segment("output", 1, 0, 2)
        done = {"done": 0b101, "completed": 2, "segments": (segment,)}
        task = await submit(around, [line(number) for number in range(4)], **done)

        row = await around.ended(task)

        assert row.shard is not None
        assert (row.shard.done, row.shard.completed) == (0b1111, 4)
        asked = sorted(json.loads(body)["messages"][0]["content"] for body in backend.bodies)
        assert asked == ["line 1", "line 3"]
        assert row.shard.segments[0] == segment


class Refusing(MemoryObjects):
    """Objects that can't be written for some tries."""

    def __init__(self, tries: int) -> None:
        super().__init__()
        self.refusals = tries

    async def put(self, key: str, body: bytes) -> None:
        if "output" in key and self.refusals:
            self.refusals -= 1
            raise Unavailable("scripted")
        await super().put(key, body)


async def test_results_wait_while_the_bucket_refuses_them() -> None:
    objects = Refusing(8)
    async with world(Backend(script=QUICK), clock=Hasty(), objects=objects) as around:
        task = await submit(around, [line(number) for number in range(4)])

        row = await around.ended(task)

        assert (row.state, objects.refusals, row.attempt) == (State.DONE, 0, 1)
        assert custom_ids((await results(around, task))["output"]) == named(0, 1, 2, 3)


async def test_a_late_commit_of_a_lost_attempt_is_nowhere_to_be_seen() -> None:
    async with world(Backend(script=QUICK), clock=Hasty()) as around:
        slow = {"x_script": {"first": 60}}
        task = await submit(around, [line(0), line(1, slow)])
        await until(lambda: around.backend.running == 1)
        # Another provider has taken it over: this one has been too slow.
        around.store._put(around.row(task), attempt=2, owner="p2")

        await until(lambda: around.backend.running == 0)

        shard = shard_of(around, task)
        assert (shard.done, shard.segments) == (0, ())
        assert around.row(task).owner == "p2"


async def test_a_provider_without_room_leaves_a_shard_to_others() -> None:
    backend = Backend(script=Script(first=60), slots=1)
    async with world(backend, clock=Hasty(), peers={"test-model": 1}) as around:
        task = await submit(around, [line(0)])
        await until(lambda: shard_of(around, task) and backend.running == 1)
        await around.submit()

        await until(lambda: around.row(task).attempt and not around.row(task).lease_ms)

        assert around.row(task).attempt_limit == 21


async def test_a_provider_that_stops_hands_back_what_it_can_not_write() -> None:
    async with world(Backend(script=QUICK), drain_seconds=0.2, objects=Refusing(1000)) as around:
        slow = {"x_script": {"first": 60}}
        task = await submit(around, [line(0), line(1, slow)])
        await until(lambda: around.backend.calls.total() >= 2 and around.backend.running == 1)

        around.stopping.ask()
        await around.running

        assert (around.row(task).lease_ms, shard_of(around, task).segments) == (0, ())
