"""A reader returns the bytes of an answer in order, whatever the reads show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.errors import ProviderLost
from inferline.gateway.answer.reader import FailedTask, Reader
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import AnswerHead, Chunk, State, Task, TaskRef

REF = TaskRef("m-0", "t")
HEAD = AnswerHead(200, "text/event-stream", "p", 3)


def row(**given_fields: Any) -> Task:
    base = Task(
        ref=REF,
        model="m",
        tier="default",
        tenant="t",
        path="/v1/x",
        body_sha256="",
        created_ms=0,
        deadline_ms=10,
        attempt_limit=3,
        ttl=9,
    )
    return replace(base, **({"state": State.RUNNING, "attempt": 1} | given_fields))


def chunk(seq: int, attempt: int = 1, data: bytes | None = None) -> Chunk:
    body = b"%d;" % seq if data is None else data
    return Chunk(REF, attempt, seq, body, 9, HEAD if seq == 0 else None)


class World:
    """All rows of a task, of which a read may show an earlier state."""

    def __init__(self) -> None:
        self.rows = [row(state=State.QUEUED, attempt=0)]
        self.chunks: dict[tuple[int, int], Chunk] = {}

    def read(self, wanted: Wanted, age: int, blind: frozenset[int]) -> TaskRead:
        """Return a read that is ``age`` rows behind and misses the chunks in ``blind``."""
        seqs = range(wanted.seq, wanted.seq + wanted.count)
        chunks = [self.chunks.get((wanted.attempt, seq)) for seq in seqs if seq not in blind]
        seen = self.rows[max(0, len(self.rows) - 1 - age)]
        return TaskRead(seen, tuple(chunk for chunk in chunks if chunk is not None))


@given(st.data(), st.integers(1, 40), st.booleans(), st.booleans())
def test_stale_and_partial_reads_change_nothing_of_the_answer(
    data: st.DataObject, count: int, streamed: bool, tail: bool
) -> None:
    world, reader = World(), Reader(REF, streamed=streamed)
    world.rows.append(row())
    out = b""
    for seq in range(count):
        world.chunks[1, seq] = chunk(seq)
        if seq == count - 1:
            end = {"state": State.DONE, "chunks": count, "tail": b"tail" if tail else b""}
            world.rows.append(row(status=200, content_type="x", **end))
        for _ in range(data.draw(st.integers(0, 2))):
            wanted = reader.wanted()
            blind = data.draw(st.frozensets(st.integers(0, count)))
            out += b"".join(
                reader.take(wanted, world.read(wanted, data.draw(st.integers(0, 2)), blind))
            )
    for _ in range(count + 3):
        if not reader.ended:
            wanted = reader.wanted()
            out += b"".join(reader.take(wanted, world.read(wanted, 0, frozenset())))

    assert reader.ended
    assert b"".join(b"%d;" % seq for seq in range(count)) + (b"tail" if tail else b"") == out


def test_a_reader_that_gave_out_nothing_follows_the_newest_attempt() -> None:
    reader = Reader(REF, streamed=True)

    assert [] == reader.take(reader.wanted(), TaskRead(row(attempt=2), (chunk(0, 1),)))

    wanted = reader.wanted()
    assert 2 == wanted.attempt
    reader.take(wanted, TaskRead(row(attempt=2), (chunk(0, 2),)))
    assert [b"0;"] == reader.take(wanted, TaskRead(row(attempt=2), (chunk(0, 2),)))


def test_a_reader_that_gave_out_bytes_never_follows_an_attempt_that_begins_anew() -> None:
    reader = Reader(REF, streamed=True)
    reader.take(reader.wanted(), TaskRead(row(), (chunk(0),)))
    reader.take(reader.wanted(), TaskRead(row(attempt=2), ()))

    assert (2, 0) == (reader.wanted().attempt, reader.wanted().seq)
    with pytest.raises(ProviderLost):
        reader.take(reader.wanted(), TaskRead(row(attempt=2), (chunk(0, 2),)))


def test_of_a_short_answer_that_begins_anew_the_row_alone_tells() -> None:
    reader = Reader(REF, streamed=True)
    done = row(attempt=2, state=State.DONE, status=200, content_type="x", tail=b"whole")
    reader.take(reader.wanted(), TaskRead(done, ()))

    assert reader.behind
    assert [] == reader.take(reader.wanted(), TaskRead(done, ()))
    assert [b"whole"] == reader.take(reader.wanted(), TaskRead(done, ()))


def test_an_ended_row_whose_chunks_are_not_there_is_not_looked_at_without_a_pause() -> None:
    """A row that claims a million chunks must not make the gateway read without a pause."""
    reader = Reader(REF, streamed=True)
    done = TaskRead(row(state=State.DONE, status=200, chunks=10**6), ())
    reader.take(reader.wanted(), done)

    wanted = reader.wanted()

    assert [] == reader.take(wanted, done)
    assert not reader.behind


def test_a_begun_stream_whose_next_attempt_fails_ends_with_its_error() -> None:
    reader = Reader(REF, streamed=True)
    reader.take(reader.wanted(), TaskRead(row(), (chunk(0),)))
    failed = row(attempt=2, state=State.FAILED, error={"message": "gone", "code": "provider_lost"})
    reader.take(reader.wanted(), TaskRead(failed, ()))

    with pytest.raises(FailedTask, match="gone"):
        reader.take(reader.wanted(), TaskRead(failed, ()))


@given(st.data(), st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_an_answer_of_many_attempts_is_read_whole_and_once(
    data: st.DataObject, counts: list[int]
) -> None:
    world, reader = World(), Reader(REF, streamed=True)
    out = whole = b""
    after: tuple[tuple[int, int], ...] = ()
    for attempt, count in enumerate(counts, start=1):
        world.rows.append(row(attempt=attempt))
        for seq in range(count):
            head = replace(HEAD, after=after) if seq == 0 else None
            piece = b"%d.%d;" % (attempt, seq)
            world.chunks[attempt, seq] = Chunk(REF, attempt, seq, piece, 9, head)
            whole += piece
            out += few_reads(data, world, reader, max(1, attempt))
        after += ((attempt, count),) if count else ()
    end: dict[str, Any] = {"state": State.DONE, "status": 200, "content_type": "x"}
    last = len(counts)
    if not counts[-1]:  # An attempt that continues another writes a chunk.
        head = replace(HEAD, after=after)
        world.chunks[last, 0] = Chunk(REF, last, 0, b"end;", 9, head)
        whole += b"end;"
    world.rows.append(row(attempt=last, chunks=max(1, counts[-1]), **end))
    while not reader.ended:
        wanted = reader.wanted()
        out += b"".join(reader.take(wanted, world.read(wanted, 0, frozenset())))

    assert whole == out


def test_what_a_lost_provider_still_writes_is_never_taken_in() -> None:
    reader = Reader(REF, streamed=True)
    reader.take(reader.wanted(), TaskRead(row(), (chunk(0),)))
    reader.take(reader.wanted(), TaskRead(row(), (chunk(1),)))
    reader.take(reader.wanted(), TaskRead(row(attempt=2), ()))
    late = replace(chunk(0, 2), head=replace(HEAD, after=((1, 1),)))

    with pytest.raises(ProviderLost):
        reader.take(reader.wanted(), TaskRead(row(attempt=2), (late,)))


def few_reads(data: st.DataObject, world: World, reader: Reader, age_max: int) -> bytes:
    """Return the bytes of a few reads that are stale or miss chunks."""
    out = b""
    for _ in range(data.draw(st.integers(0, 3))):
        wanted = reader.wanted()
        blind = data.draw(st.frozensets(st.integers(0, 20), max_size=3))
        read = world.read(wanted, data.draw(st.integers(0, age_max)), blind)
        out += b"".join(reader.take(wanted, read))
    return out


def test_an_unstreamed_reader_gives_nothing_of_an_attempt_that_is_not_done() -> None:
    reader = Reader(REF, streamed=False)

    assert [] == reader.take(reader.wanted(), TaskRead(row(), (chunk(0),)))
    done = row(attempt=2, state=State.DONE, status=201, content_type="y", tail=b"whole")
    assert [] == reader.take(reader.wanted(), TaskRead(done, ()))
    assert [b"whole"] == reader.take(reader.wanted(), TaskRead(done, ()))
    assert reader.head is not None
    assert (201, "y") == (reader.head.status, reader.head.content_type)


def test_an_unstreamed_reader_hears_of_a_failure_however_much_was_written() -> None:
    reader = Reader(REF, streamed=False)
    failed = row(state=State.FAILED, chunks=3, error={"message": "no", "code": "x", "status": 502})

    with pytest.raises(FailedTask):
        reader.take(reader.wanted(), TaskRead(failed, ()))
