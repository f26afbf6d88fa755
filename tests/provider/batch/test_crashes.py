"""Providers that end at any moment, and zombies of them: each line has exactly one result."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from inferline.tasks.task import State
from inferline_provider import provider
from inferline_provider.settings import ProviderSettings
from inferline_provider.stopping import Stopping
from tests.provider.batch.shards import custom_ids, line, named, results, submit
from tests.provider.world import BRIEF, TERMS, World, until
from tests.support.backend import Backend, serving
from tests.support.script import Script

LINES = 40
#: A shard's is four times as long, seconds.
LEASE_SECONDS = 0.2


@pytest.mark.parametrize("seed", range(3))
async def test_each_line_has_one_result_however_often_providers_are_lost(seed: int) -> None:
    chance = random.Random(seed)
    backend = Backend(script=Script(first=0.05, interval=0.01, tokens=5), slots=4)
    around = World(backend, terms=TERMS.model_copy(update={"lease_seconds": LEASE_SECONDS}))
    async with serving(backend) as port, around.gateway.serving() as base_url:
        tasks = [
            await submit(around, [line(number) for number in range(LINES)], number=shard)
            for shard in range(3)
        ]
        for life in range(6):
            await live(around, base_url, port, f"p{life}", chance.uniform(0.3, 1.2))
        last = asyncio.create_task(live(around, base_url, port, "last", 60))
        await until(lambda: all(around.row(task).state.terminal for task in tasks))
        last.cancel()

        for task in tasks:
            listed = await results(around, task)
            shard = around.row(task).shard
            assert shard is not None
            assert around.row(task).state is State.DONE
            everything = custom_ids([*listed["output"], *listed["error"]])
            assert everything == named(*range(LINES))
            assert (shard.completed, shard.failed) == (len(listed["output"]), len(listed["error"]))


async def live(around: World, base_url: str, port: int, name: str, seconds: float) -> None:
    """Run a provider that is lost after some time: its attempts go on, and nobody knows of it."""
    settings: dict[str, Any] = {"poll_seconds": 1, "backend": f"http://127.0.0.1:{port}"}
    chosen = ProviderSettings(base_url=base_url, id=name, **settings)
    running = asyncio.create_task(
        provider.run(chosen, around.open_stores, Stopping(), pauses=BRIEF)
    )
    try:
        await asyncio.sleep(seconds)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
