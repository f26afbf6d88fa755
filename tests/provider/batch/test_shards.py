"""Shards, as a provider runs them: each line's result is in exactly one of the two files."""

from __future__ import annotations

from inferline.tasks.task import State
from tests.provider.batch.shards import custom_ids, line, named, results, submit
from tests.provider.world import world
from tests.support.backend import Backend
from tests.support.script import Script

#: Answers at once.
QUICK = Script(first=0.01, interval=0, tokens=2)


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
