"""The load generator's client finds the tokens of an answer, however its bytes come apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bench.harness.backend import Prepared, Script
from bench.harness.client import Broken, Connection, post
from bench.harness.load import rounded, thinned
from tests.support.wire import Wire

BODY = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "stream": True}


def answer_of(tokens: int) -> list[bytes]:
    """Return a stream as the scripted backend sends it, one piece for each token."""
    said = Prepared(BODY, tokens)
    return [*said.steps[: tokens - 1], said.last(tokens)]


def connected(clock: Iterator[float]) -> Connection:
    connection = Connection(now=lambda: next(clock))
    connection.connection_made(Wire())
    return connection


async def test_gaps_are_between_the_reads_that_bring_tokens() -> None:
    connection = connected(iter([10.0, 10.5, 10.9, 11.0]))
    end = connection.begin(b"")

    for piece in answer_of(3):
        connection.data_received(piece)

    answer = connection.answer
    assert end.done()
    assert (0.5, 1.0) == (answer.first - answer.sent, answer.ended - answer.sent)
    assert [0.4, 0.1] == pytest.approx(answer.gaps)
    assert {1: 3} == answer.bursts


async def test_tokens_of_one_read_came_at_once() -> None:
    connection = connected(iter([0.0, 1.0, 3.0]))
    connection.begin(b"")
    pieces = answer_of(5)

    connection.data_received(b"".join(pieces[:4]))
    connection.data_received(pieces[4])

    assert ({4: 1, 1: 1}, [2.0], 5) == (
        connection.answer.bursts,
        connection.answer.gaps,
        connection.answer.tokens,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_no_token_is_lost_where_reads_cut_through_it(size: int) -> None:
    connection = Connection()
    connection.connection_made(Wire())
    end = connection.begin(b"")
    data = b"".join(answer_of(8))

    for at in range(0, len(data), size):
        connection.data_received(data[at : at + size])

    assert end.done()
    assert (200, 8, True) == (
        connection.answer.status,
        connection.answer.tokens,
        connection.answer.done,
    )


async def test_a_connection_is_asked_again_once_it_has_answered() -> None:
    connection = Connection()
    connection.connection_made(Wire())
    data = b"".join(answer_of(2))

    for _ in range(2):
        end = connection.begin(b"")
        # The last line end comes late, with the next answer.
        connection.data_received(data[:-2])
        assert end.done()
        connection.data_received(b"\r\n")
    end = connection.begin(b"")
    connection.data_received(b"\r\n" + data)

    assert end.done()
    assert 2 == connection.answer.tokens


async def test_an_answer_that_breaks_off_is_none() -> None:
    connection = Connection()
    connection.connection_made(Wire())
    end = connection.begin(b"")
    connection.data_received(answer_of(3)[0])

    connection.connection_lost(None)

    with pytest.raises(Broken):
        await end
    assert not connection.is_open


async def test_what_is_no_http_is_told_as_such() -> None:
    connection = Connection()
    connection.connection_made(Wire())
    end = connection.begin(b"")

    connection.data_received(b"nonsense\r\n\r\n")

    with pytest.raises(Broken):
        await end


async def test_client_and_backend_speak_over_a_real_connection() -> None:
    from bench.harness.backend import Backend
    from bench.harness.backend import Connection as Served

    backend = Backend(Script(first=0.0, per_second=0.0, tokens=4))
    server = await asyncio.get_running_loop().create_server(lambda: Served(backend), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        connection = await Connection.to(url)
        body = b'{"model": "m", "messages": [], "stream": %b}'

        streamed = await connection.ask(post(url, body % b"true"))
        whole = await connection.ask(post(url, body % b"false"))
        connection.close()

    assert (200, 4, True) == (streamed.status, streamed.tokens, streamed.done)
    assert (200, 1) == (whole.status, whole.tokens)
    assert 2 == len(backend.spans)


def test_gaps_are_told_as_fine_as_they_are_worth() -> None:
    assert [0.0, 40.5, 100.0, 334.0, 1240.0] == [
        rounded(ms) for ms in (0.1, 40.6, 99.9, 333.3, 1234.0)
    ]


def test_of_many_samples_some_are_told_from_first_to_last() -> None:
    samples = [(float(at), float(at)) for at in range(10)]

    assert [0.0, 2.0, 5.0, 7.0] == [first for first, _ in thinned(samples, 4)]
    assert samples == thinned(samples, 99)
    assert [] == thinned([], 4)
