"""Smoothing spreads the events of a chunk over the time until the next chunk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import httpx
from hypothesis import given
from hypothesis import strategies as st

from inferline.gateway.answer.stages.smoothing import Smoother
from inferline.streams.pacing import interval
from tests.support.gateway import MODEL, Taken, running_gateway


def events(*texts: str) -> bytes:
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


def test_a_chunk_goes_out_event_by_event_over_its_time() -> None:
    smoother = Smoother(0.1)

    first = smoother.put(events("a", "b", "c", "d"), 0.4, now=10.0)

    assert events("a") == first
    assert [b"", events("b"), events("c"), events("d")] == [
        smoother.take(at) for at in (10.05, 10.1, 10.25, 10.3)
    ]
    assert smoother.next_at == inf


def test_many_events_go_together_in_steps() -> None:
    smoother = Smoother(0.1)

    first = smoother.put(events(*map(str, range(100))), 1.0, now=0.0)

    assert events(*map(str, range(10))) == first
    assert events(*map(str, range(10, 30))) == smoother.take(0.2)


def test_few_events_are_spread_as_far_apart_as_they_came() -> None:
    smoother = Smoother(0.1)

    assert events("a") == smoother.put(events("a", "b"), 1.0, now=0.0)
    assert 0.5 == smoother.next_at


def test_what_gathered_for_a_step_goes_out_at_once() -> None:
    smoother = Smoother(0.1)
    chunk = events("a", "b", "c")

    assert chunk == smoother.put(chunk, 0.1, now=0.0)
    assert smoother.next_at == inf


def test_what_is_late_goes_before_the_next_chunk() -> None:
    smoother = Smoother(0.1)
    smoother.put(events("a", "b", "c"), 0.3, now=0.0)

    assert events("b", "c", "d") == smoother.put(events("d", "e"), 0.2, now=0.05)


def test_the_rest_can_be_had_at_any_time() -> None:
    smoother = Smoother(0.1)
    smoother.put(events("a", "b", "c"), 0.3, now=0.0)

    assert events("b", "c") == smoother.rest()
    assert b"" == smoother.rest()


chunks = st.lists(
    st.sampled_from([b"data: x\n\n", b"event: e\ndata: y\n\n", b"data: cu", b"t\n\n"])
)


@given(st.lists(st.tuples(chunks, st.floats(0.01, 3), st.floats(0, 3))))
def test_every_byte_goes_out_once_and_in_order(given_chunks: list[object]) -> None:
    smoother, now, put, out = Smoother(0.1), 0.0, b"", b""
    for pieces, seconds, pause in given_chunks:  # type: ignore[misc]
        chunk = b"".join(pieces)
        put += chunk
        out += smoother.put(chunk, seconds, now)
        now += pause
        out += smoother.take(now)

    assert put == out + smoother.rest()


@given(st.integers(1, 200), st.floats(0.11, 3))
def test_nothing_waits_longer_than_its_chunk_gathered(count: int, seconds: float) -> None:
    smoother = Smoother(0.1)
    smoother.put(events(*map(str, range(count))), seconds, now=0.0)

    smoother.take(seconds)

    assert smoother.next_at == inf


async def test_a_client_gets_a_large_chunk_in_steps() -> None:
    texts = ["first", "a", "b", "c", "d"]
    async with asked(flush_seconds=60, smooth_seconds=interval(1, 60) / 4) as (taken, got):
        await taken.write(events("first"))
        await taken.write(events(*texts[1:]))

        async with asyncio.timeout(60):
            assert [events(text) for text in texts] == [await got.get() for _ in texts]

        await taken.finish(tail=events("[DONE]"))
        assert events("[DONE]") == await got.get()


async def test_what_waited_to_be_handed_out_comes_before_an_error() -> None:
    texts = ["first", "second", *"abcdef"]
    async with asked(flush_seconds=60, smooth_seconds=0.01) as (taken, got):
        await taken.write(events("first"))
        await taken.write(events("second"))
        await taken.write(events(*"abcdef"))
        await taken.finish(error={"message": "It broke.", "code": "broken"})

        pieces = [piece async for piece in _until_closed(got)]

    *events_before, last = b"".join(pieces).removesuffix(b"\n\n").split(b"\n\n")
    assert [f"data: {text}".encode() for text in texts] == events_before
    assert "It broke." == json.loads(last.removeprefix(b"data: "))["error"]["message"]


async def test_what_waits_is_sent_when_the_answer_ends_without_another_piece() -> None:
    chunks = [events("first"), events("second"), events("third"), events(*"abcdefgh")]
    async with asked(flush_seconds=60, smooth_seconds=0.05) as (taken, got):
        pieces = []
        for chunk in chunks:
            await taken.write(chunk)
            pieces.append(await got.get())
        assert len(pieces[-1]) < len(chunks[-1])  # Some of it waits while the end is read.
        await taken.finish()

        pieces += [piece async for piece in _until_closed(got)]

    assert b"".join(chunks) == b"".join(pieces)


@asynccontextmanager
async def asked(**settings: float) -> AsyncIterator[tuple[Taken, asyncio.Queue[bytes]]]:
    """
    Yield a stream for the test to write, and a queue of the pieces that its client gets.

    An empty piece marks the end.
    """
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(client: httpx.AsyncClient) -> None:
        body = {"model": MODEL, "messages": [], "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for piece in response.aiter_raw():
                got.put_nowait(piece)
        got.put_nowait(b"")

    async with (
        running_gateway(**settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        reading = asyncio.create_task(read(client))
        yield await gateway.take(), got
        await reading


async def _until_closed(got: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while piece := await got.get():
        yield piece
