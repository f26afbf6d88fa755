"""A host of the simulated fleet: how it answers, and how fast it says that it is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench.sim.virtual_line import HealthyServer, Response
from inferline.fleet.enrolment import OfferedModel, ToldSpeed

ANSWER = (
    b'{"choices": [{"message": {"content": "An answer."}}], "usage": {"completion_tokens": 50}}'
)
#: How long an answer takes, seconds.
ANSWER_SECONDS = (8.0, 12.0)
#: Output tokens a second of the hosts, one kind after the other, and by what share they sway.
TOKENS_PER_SECOND = (25.0, 50.0, 100.0)
SWAY = 0.05


class Server(HealthyServer):
    """The LLM server of one provider."""

    def __init__(self, models: Sequence[str], chance: random.Random) -> None:
        super().__init__(*(OfferedModel(id=name, context_length=32768) for name in models))
        self._chance = chance

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *_: object, **__: object) -> AsyncIterator[Any]:
        await asyncio.sleep(self._chance.uniform(*ANSWER_SECONDS))
        yield Response(ANSWER)


def speeds(models: Sequence[str], number: int, chance: random.Random) -> dict[str, ToldSpeed]:
    """
    Return what a provider tells that has run tasks of all its models, each time a little different.
    """
    tokens = TOKENS_PER_SECOND[number % len(TOKENS_PER_SECOND)]
    return {
        name: ToldSpeed(
            task_seconds=10.0,
            tokens_per_second=tokens * chance.uniform(1 - SWAY, 1 + SWAY),
        )
        for name in models
    }
