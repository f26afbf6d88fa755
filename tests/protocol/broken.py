"""The protocol with one of its precautions left out. The machine has to notice each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from inferline.errors import Unavailable
from inferline.gateway.answer.reader import Reader
from inferline.memory.tasks import MemoryStore
from inferline.tasks.store import Claimed, Refused, TaskRead, Wanted
from inferline.tasks.task import Chunk, TaskRef
from inferline_provider.serve.attempt import Attempt
from tests.protocol.backend import PROMPT, Backend
from tests.protocol.machine import Protocol
from tests.protocol.worlds import in_memory


class SharedChunks(MemoryStore):
    """All attempts write their chunks to the same keys."""

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        await super().write_chunks([replace(chunk, attempt=0) for chunk in chunks])

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        return await super().read([replace(one, attempt=0) for one in wanted])

    async def attempt_chunks(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        chunks = await super().attempt_chunks(ref, 0)
        return [replace(chunk, attempt=attempt) for chunk in chunks]


class OneAttempt(MemoryStore):
    """A task that is claimed again keeps the number of its attempt."""

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        before = self.task(ref)
        answer = await super().claim(ref, owner, lease_seconds)
        if isinstance(answer, Claimed) and before is not None and before.attempt:
            return Claimed(self._put(answer.task, attempt=before.attempt))
        return answer


class Careless(Attempt):
    """Deletes its message when it has lost the lease."""

    async def _let_go(self) -> None:
        with suppress(Unavailable):
            await self._context.queue.delete([self.delivery])


class Newest(Reader):
    """Reads the newest attempt, whatever it has given out before."""

    def take(self, wanted: Wanted, read: TaskRead) -> list[bytes]:
        if not self.ended and read.task is not None and read.task.attempt > self._attempt:
            self._attempt, self._seq = read.task.attempt, 0
            return []
        return super().take(wanted, read)


class Forgiving(Reader):
    """Goes on with an attempt that does not know of the last chunks that were given out."""

    def _continue(self, after: tuple[tuple[int, int], ...]) -> None:
        given = self._given
        if given and after and len(after) == len(given):
            of, count = after[-1]
            after = (*after[:-1], (of, max(count, given[-1][1])))
        super()._continue(after)


class Forgetful(Backend):
    """Is asked to go on from less than there is."""

    def post(
        self, path: str, body: bytes, silence: float, traceparent: str = "", **forwarded: Any
    ) -> Any:
        asked = json.loads(body)
        words = asked["prompt"].removeprefix(PROMPT).split()
        asked["prompt"] = " ".join([PROMPT, *words[:-1]])
        return super().post(path, json.dumps(asked).encode(), silence, traceparent, **forwarded)


class ChunksOfNoAttempt(Protocol):
    worlds = staticmethod(lambda loop: in_memory(loop, SharedChunks))
    notices = "words|two answers mixed|after the|never got its answer"


class AttemptsOfOneNumber(Protocol):
    worlds = staticmethod(lambda loop: in_memory(loop, OneAttempt))
    notices = "written twice|words|two answers mixed"


class DeletingAtALoss(Protocol):
    notices = "deleted whose task had not ended"

    def __init__(self) -> None:
        self._patch = patch("inferline_provider.pull.runner.Attempt", Careless)
        self._patch.start()
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self._patch.stop()


class ReadingTheNewest(Protocol):
    reader = Newest
    notices = "words|two answers mixed|cut answer"


class TakingInALateChunk(Protocol):
    reader = Forgiving
    notices = "words|two answers mixed|after the"


class GoingOnFromLess(Protocol):
    backend = Forgetful
    notices = "words|two answers mixed"


BROKEN = (
    *(ChunksOfNoAttempt, AttemptsOfOneNumber, DeletingAtALoss, ReadingTheNewest),
    *(TakingInALateChunk, GoingOnFromLess),
)
