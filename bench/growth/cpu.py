"""What the gateway's own work costs in CPU, by how many providers there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

from bench.growth.line import PATH, World
from bench.growth.scene import Scene
from bench.sim import virtual_time
from inferline.accounts.caller import ANYONE
from inferline.fleet.aggregation import FleetAggregator
from inferline.gateway.answer.answer import Answer
from inferline.gateway.answer.request_log import RequestLog
from inferline.settings import Settings
from inferline.validation import payload

#: How often each is done, and the shorter ones in a row for one sample.
TIMES = 200
FEW_TIMES = 5
ROW = 20
#: Between two censuses: then one more may be, and all providers are still live.
TURN_SECONDS = 12.0


def cpu(scene: Scene, settings: Settings) -> dict[str, list[float]]:
    """Return the milliseconds that some things take, with the tables in memory that they ask."""
    return virtual_time.run(_cpu(World(scene, settings)))


async def _cpu(world: World) -> dict[str, list[float]]:
    await world.prepare()
    process = await world.process()
    gateway, name = process.gateway, world.served[0][0]
    parts, submitter = gateway.parts, gateway.submitter
    model = await parts.catalogue.model(name)
    read = payload.Payload(model=name)
    submission = await submitter.prepare(f"req_{0:032}", PATH, read, b"{}")
    task = submission.task
    answer = Answer(parts, task, RequestLog(parts, PATH, ANYONE), streamed=False)
    await parts.catalogue.depth_now(model.queues["default"])

    async def beat(number: int) -> None:
        await gateway.enrolments.enrol(world.beat(number % world.scene.providers), ANYONE)

    async def start(_: int) -> None:
        await world.process()

    async def check(_: int) -> None:
        for _ in range(ROW):
            await answer._transfer._limits.check_served(0.0, task)

    async def admit(_: int) -> None:
        for _ in range(ROW):
            await submitter.admission.check(model, "default", inf)

    async def census(_: int) -> None:
        await asyncio.sleep(TURN_SECONDS)
        assert await FleetAggregator(parts.registry, 0.0).aggregate_change()

    return {
        "a heartbeat": await _taken(beat, TIMES),
        "a process's start": await _taken(start, FEW_TIMES),
        "a look whether anybody serves": [ms / ROW for ms in await _taken(check, TIMES)],
        "whether a request is let in": [ms / ROW for ms in await _taken(admit, TIMES)],
        "a census": await _taken(census, FEW_TIMES),
    }


async def _taken(work: Callable[[int], Awaitable[None]], times: int) -> list[float]:
    seconds = []
    for number in range(times):
        begun = time.process_time()
        await work(number)
        seconds.append(round((time.process_time() - begun) * 1000, 4))
    return seconds
