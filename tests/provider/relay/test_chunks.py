from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.sim import virtual_time
from inferline.errors import Unavailable
from inferline.tasks.task import CHUNK_BYTES_MAX, TAIL_BYTES_MAX, Task
from inferline_provider.relay.chunk_stream import cut
from inferline_provider.relay.chunks import ChunkWriter
from tests.provider.fakes import CountingStore
from tests.provider.world import until
from tests.support.seams import new_task


@asynccontextmanager
async def writing(store: CountingStore, **changes: Any) -> AsyncIterator[ChunkWriter]:
    terms = {"flush_seconds": 0.05, "flush_bytes": 1000, "patience_seconds": 0.5, **changes}
    writer = ChunkWriter(store, provider="p1", **terms)
    running = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        running.cancel()


def written(store: CountingStore, task: Task) -> list[bytes]:
    return [chunk.data for chunk in store.chunks(task.ref, task.attempt)]


def test_the_first_bytes_go_at_once_and_the_next_gather() -> None:
    async def scene() -> None:
        store = CountingStore()
        async with writing(store) as writer:
            stream = writer.open(task := new_task(store))
            stream.put(b"a")
            await until(lambda: store.writes)
            for piece in (b"b", b"c", b"d"):
                stream.put(piece)
                await asyncio.sleep(0.001)
            assert len(store.writes) == 1

            await until(lambda: len(store.writes) == 2)

            assert written(store, task) == [b"a", b"bcd"]

    virtual_time.run(scene())


async def test_much_does_not_wait() -> None:
    store = CountingStore()
    async with writing(store, flush_seconds=60.0) as writer:
        stream = writer.open(task := new_task(store))
        stream.put(b"a")
        await until(lambda: store.writes)

        stream.put(b"b" * 1000)

        await until(lambda: len(written(store, task)) == 2)


async def test_what_was_not_written_rides_on_the_end() -> None:
    store = CountingStore()
    async with writing(store, flush_seconds=60.0) as writer:
        stream = writer.open(new_task(store))
        stream.put(b"a")
        await until(lambda: store.writes)
        stream.put(b"b")

        assert await stream.close(b"c") == (1, b"bc")


async def test_a_short_answer_needs_no_chunk() -> None:
    store = CountingStore()
    async with writing(store) as writer:
        stream = writer.open(new_task(store))

        assert await stream.close(b"all") == (0, b"all")
        assert not stream.begun


async def test_a_large_answer_is_cut_into_rows() -> None:
    store = CountingStore()
    async with writing(store) as writer:
        stream = writer.open(task := new_task(store))
        body = bytes(range(256)) * 1024

        count, tail = await stream.close(body)

        assert b"".join(written(store, task)) + tail == body
        assert count == 4
        assert len(tail) <= TAIL_BYTES_MAX


async def test_streams_share_a_write() -> None:
    store = CountingStore(write_seconds=0.02)
    async with writing(store) as writer:
        streams = [writer.open(new_task(store)) for _ in range(30)]
        for stream in streams:
            stream.put(b"a")

        await until(lambda: sum(map(len, store.writes)) == 30)

        assert len(store.writes) <= 2


async def test_the_head_rides_on_the_first_chunk_only() -> None:
    store = CountingStore()
    async with writing(store, flush_seconds=0.01) as writer:
        stream = writer.open(task := new_task(store))
        stream.head(200, "text/event-stream")
        stream.put(b"a")
        await until(lambda: store.writes)
        stream.put(b"b")
        await until(lambda: len(store.writes) == 2)

        first, second = store.chunks(task.ref, task.attempt)
        assert first.head is not None
        assert (first.head.content_type, first.head.provider) == ("text/event-stream", "p1")
        assert second.head is None


async def test_a_failed_write_is_tried_again() -> None:
    store = CountingStore()
    store.failures = 1
    async with writing(store) as writer:
        stream = writer.open(task := new_task(store))
        stream.put(b"a")

        await until(lambda: written(store, task) == [b"a"])


async def test_a_write_that_keeps_failing_is_told_to_the_attempt() -> None:
    store = CountingStore()
    store.failures = 1000
    async with writing(store, patience_seconds=0.1) as writer:
        stream = writer.open(new_task(store))
        stream.put(b"a")
        await until(lambda: stream.begun)

        with pytest.raises(Unavailable):
            await stream.close()
        with pytest.raises(Unavailable):
            stream.put(b"b")


async def test_nothing_is_written_after_the_end() -> None:
    store = CountingStore()
    async with writing(store, flush_seconds=0.01) as writer:
        stream = writer.open(new_task(store))
        stream.put(b"a")
        await until(lambda: store.writes)
        stream.put(b"b")
        stream.discard()

        await asyncio.sleep(0.03)

        assert len(store.writes) == 1


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_nothing_is_lost_and_events_are_cut_only_when_too_large(pieces: list[bytes]) -> None:
    blobs = cut(pieces, bytes_max=100)

    assert b"".join(blobs) == b"".join(pieces)
    assert all(0 < len(blob) <= 100 for blob in blobs)
    if all(len(piece) <= 100 for piece in pieces):
        ends = {0}
        for piece in pieces:
            ends.add(max(ends) + len(piece))
        borders = [sum(map(len, blobs[:n])) for n in range(len(blobs) + 1)]
        assert set(borders) <= ends


def test_a_chunk_fits_into_a_row() -> None:
    assert [len(blob) for blob in cut([b"x" * (CHUNK_BYTES_MAX + 1)])] == [CHUNK_BYTES_MAX, 1]


async def test_the_end_waits_for_what_was_taken_as_an_earlier_write_landed() -> None:
    store = CountingStore(write_seconds=0.05)
    async with writing(store, flush_seconds=0.01) as writer:
        stream = writer.open(task := new_task(store))
        stream.put(b"a")
        await until(lambda: stream.begun)
        stream.put(b"b")
        count, tail = await stream.close()

        assert count == len(written(store, task))
        assert b"ab" == b"".join(written(store, task)) + tail
