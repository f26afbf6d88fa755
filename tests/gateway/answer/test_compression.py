"""Compressed answers, for clients that accept them."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest
from starlette.datastructures import Headers

from inferline.gateway.answer.stages.compression import WHOLE_BYTES_MIN, takes_gzip
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": []}
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip, deflate", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("GZIP", True),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
    ],
)
def test_a_client_says_what_it_takes(header: str, takes: bool) -> None:
    assert takes is takes_gzip(Headers({"accept-encoding": header}))


async def asked(gateway: Gateway, *, takes: str, stream: bool, answer: bytes) -> httpx.Response:
    """Return the response to a request, with its body as it came over the wire."""
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        request = client.build_request(
            "POST", PATH, json={**ASKED, "stream": stream}, headers={"accept-encoding": takes}
        )
        sending = asyncio.create_task(client.send(request, stream=True))
        taken = await gateway.take()
        if stream:
            await taken.write(EVENT)
        await taken.finish(tail=answer)
        response = await sending
        response._content = b"".join([piece async for piece in response.aiter_raw()])
        return response


@pytest.mark.parametrize("stream", [False, True])
async def test_who_takes_it_gets_the_same_bytes_in_fewer(stream: bool) -> None:
    async with running_gateway(compression="gzip") as gateway:
        await gateway.know()
        response = await asked(gateway, takes="gzip", stream=stream, answer=EVENT * 100)

    assert "gzip" == response.headers["content-encoding"]
    assert "accept-encoding" in response.headers["vary"]
    assert EVENT * (100 + stream) == gzip.decompress(response.content)
    assert len(response.content) * 5 < len(EVENT * 100)


async def test_who_does_not_take_it_gets_them_as_they_are() -> None:
    async with running_gateway(compression="gzip") as gateway:
        await gateway.know()
        response = await asked(gateway, takes="identity", stream=False, answer=EVENT * 100)

    assert "content-encoding" not in response.headers
    assert EVENT * 100 == response.content


@pytest.mark.parametrize(
    ("compression", "length"), [("none", 100_000), ("gzip", WHOLE_BYTES_MIN - 1)]
)
async def test_nothing_is_compressed_unasked_or_when_it_is_short(
    compression: str, length: int
) -> None:
    async with running_gateway(compression=compression) as gateway:
        await gateway.know()
        response = await asked(gateway, takes="gzip", stream=False, answer=b"x" * length)

    assert "content-encoding" not in response.headers
    assert b"x" * length == response.content


async def test_each_piece_of_a_stream_can_be_read_when_it_is_there() -> None:
    async with (
        running_gateway(compression="gzip") as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        await gateway.know()
        sending = asyncio.create_task(_read(client, got := asyncio.Queue()))
        taken = await gateway.take()
        for number in range(3):
            await taken.write(b"data: %d\n\n" % number)
            assert b"data: %d\n\n" % number == await asyncio.wait_for(got.get(), 10)
        await taken.finish(tail=b"data: [DONE]\n\n")
        assert b"data: [DONE]\n\n" == await got.get()
        await sending


async def _read(client: httpx.AsyncClient, got: asyncio.Queue[bytes]) -> None:
    async with client.stream("POST", PATH, json={**ASKED, "stream": True}) as response:
        async for piece in response.aiter_bytes():
            got.put_nowait(piece)
