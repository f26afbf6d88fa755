"""A queue that is quiet is listened to even while another keeps every slot busy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.provider.world import world
from tests.support.backend import Backend
from tests.support.script import Script

#: Sixty of these keep one slot busy for about three seconds.
BUSY = Script(first=0.05, interval=0, tokens=1)


@pytest.mark.parametrize("late", [{"model": "b"}, {"tier": "priority"}, {"tier": "flex"}])
async def test_work_that_comes_to_a_quiet_queue_does_not_wait_for_a_busy_one(
    late: dict[str, Any],
) -> None:
    backend = Backend(models=("a", "b"), slots=1, script=BUSY)
    async with world(backend, poll_seconds=1) as around:
        load = [await around.submit(model="a") for _ in range(60)]
        # Longer than a poll: what waited at the quiet queue from the beginning has come back.
        await asyncio.sleep(1.5)
        task = await around.submit(**{"model": "a", **late})

        await around.ended(task)

        waiting = [one for one in load if not around.row(one).state.terminal]
        assert len(waiting) > 5
