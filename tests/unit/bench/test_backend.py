"""The scripted backend speaks by the clock, says whole answers, and notes when it worked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bench.harness.backend import PATH, SWAY_STEPS, Backend, Connection, Script
from bench.harness.client import DONE, TOKEN
from bench.sim import virtual_time
from tests.support.wire import Wire


def post(*, stream: bool, more: bytes = b"") -> bytes:
    chat = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "stream": stream}
    body = json.dumps(chat).encode()
    return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (PATH, more, len(body)) + body


def received(backend: Backend, request: bytes, seconds: float = 60.0) -> Wire:
    """Return what a client gets that is connected for some seconds of virtual time."""
    wire = Wire()

    async def ask() -> None:
        connection = Connection(backend)
        connection.connection_made(wire)
        connection.data_received(request)
        await asyncio.sleep(seconds)
        connection.connection_lost(None)

    virtual_time.run(ask())
    return wire


def test_each_token_comes_at_its_moment() -> None:
    backend = Backend(Script(first=0.05, per_second=25.0, tokens=4))

    wire = received(backend, post(stream=True))

    assert [0.05, 0.09, 0.13, 0.17] == pytest.approx([at for at, _ in wire.written])
    assert [1, 1, 1, 1] == [len(TOKEN.findall(data)) for _, data in wire.written]
    assert DONE in wire.written[-1][1]


def test_the_first_token_sways_in_equal_steps() -> None:
    backend = Backend(Script(first=0.05, sway=0.03, per_second=0.0, tokens=1))

    firsts = [received(backend, post(stream=True)).written[0][0] for _ in range(SWAY_STEPS + 1)]

    assert [0.05, 0.06, 0.07, 0.08, 0.05] == pytest.approx(firsts)


def test_an_answer_that_is_not_streamed_comes_when_its_last_token_is_due() -> None:
    backend = Backend(Script(first=0.1, per_second=10.0, tokens=11))

    ((moment, data),) = received(backend, post(stream=False)).written

    head, _, text = data.partition(b"\r\n\r\n")
    answer: dict[str, Any] = json.loads(text)
    assert (1.1, b"HTTP/1.1 200 OK") == (pytest.approx(moment), head.split(b"\r\n")[0])
    assert 11 == answer["usage"]["completion_tokens"]


def test_lengths_vary_around_their_mean() -> None:
    backend = Backend(Script(first=0.0, per_second=0.0, tokens=20, vary=0.5))

    streams = [received(backend, post(stream=True)).written for _ in range(200)]
    lengths = [len(TOKEN.findall(data)) for ((_, data),) in streams]

    assert (10, 30) == (min(lengths), max(lengths))
    assert 20 == pytest.approx(sum(lengths) / len(lengths), abs=1)


def test_a_client_that_leaves_ends_its_answer() -> None:
    backend = Backend(Script(first=0.0, per_second=1.0, tokens=100))

    wire = received(backend, post(stream=True), seconds=2.5)

    assert 3 == len(wire.written)
    assert 1 == len(backend.spans)


def test_a_connection_that_is_to_be_closed_is_closed() -> None:
    backend = Backend(Script(first=0.0, per_second=0.0, tokens=1))

    wires = [
        received(backend, post(stream=True, more=more)) for more in (b"Connection: close\r\n", b"")
    ]

    assert [True, False] == [wire.closed for wire in wires]


def test_it_tells_when_it_worked_once() -> None:
    backend = Backend(Script(first=0.0, per_second=0.0, tokens=1))
    received(backend, post(stream=True))
    look = b"GET /_bench/spans HTTP/1.1\r\n\r\n"

    looks = [
        json.loads(received(backend, look).written[0][1].split(b"\r\n\r\n")[1]) for _ in range(2)
    ]

    assert [1, 0] == [len(spans) for spans in looks]
