"""The pipeline of stages: their order, and the bytes held back at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from inferline.gateway.answer.stages.pipeline import Pipeline
from inferline.tasks.task import Chunk
from tests.support.gateway import MODEL, Taken, running_gateway

EVENTS = [b'data: {"n":%d}\n\n' % number for number in range(6)]
SMOOTHED = {"flush_seconds": 60, "smooth_seconds": 0.01}


class Delay:
    """A stage that holds each piece back until the next."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held: list[bytes] = []

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the pieces held back, marked."""
        out, self._held = self._held, [piece + self._mark for piece in pieces]
        return out

    def end(self) -> list[bytes]:
        """Return what is held back."""
        return self.feed([])


def test_a_stage_is_fed_what_the_one_before_gives_out() -> None:
    pipeline = Pipeline([Delay(b"1"), Delay(b"2")])

    pieces = [*pipeline.feed([b"a"]), *pipeline.feed([b"b"]), *pipeline.feed([b"c"])]

    assert [b"a12"] == pieces


def test_the_end_brings_out_what_every_stage_holds_in_order() -> None:
    pipeline = Pipeline([Delay(b"1"), Delay(b"2")])
    pieces = [*pipeline.feed([b"a"]), *pipeline.feed([b"b"])]

    assert [b"a12", b"b12"] == [*pieces, *pipeline.end()]


async def finish_without_a_head(taken: Taken) -> None:
    """Write chunks without a head, so that only the ended row shows that they are a stream."""
    task, store = taken.task, taken.gateway.store
    for seq, event in enumerate(EVENTS[:-1]):
        await store.write_chunks([Chunk(task.ref, task.attempt, seq, event, task.ttl, None)])
        await asyncio.sleep(0.02)
    ended = {"chunks": len(EVENTS) - 1, "content_type": "text/event-stream"}
    await taken.finish(tail=EVENTS[-1], **ended)


@pytest.mark.parametrize("settings", [{}, SMOOTHED, {"response_model": "requested"}])
async def test_pieces_held_until_an_answer_proves_to_be_a_stream_are_sent_once_and_in_order(
    settings: dict[str, Any],
) -> None:
    async with (
        running_gateway(**settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as client,
    ):
        await gateway.know()
        body = {"model": MODEL, "messages": [], "stream": True}
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        taken = await gateway.take()
        await finish_without_a_head(taken)
        response = await asked
        resumed = await client.get(f"/v1/tasks/{taken.task.ref.id}/stream?after=2")

    assert b"".join(EVENTS) == response.content
    assert b"".join(EVENTS[2:]) == resumed.content
