"""Clients that offer another protocol, as they may, are served in the one that is spoken."""

from __future__ import annotations

import asyncio
import json
import shutil
from itertools import product
from typing import Any

import httpx
import pytest

from tests.support.gateway import MODEL, Gateway

PATH = "/v1/chat/completions"
OFFER = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
}
#: More than a socket takes at once, and more than the server reads before it is asked for.
LARGE = 300_000


def body_of(chars: int) -> bytes:
    return json.dumps({"model": MODEL, "messages": [], "user": "u" * chars}).encode()


def request(body: bytes, framing: str, headers: dict[str, str]) -> tuple[bytes, bytes]:
    """The head of a request, and its body on the wire."""
    told = {"Host": "gateway", "Content-Type": "application/json", **headers}
    if framing == "chunked":
        half = len(body) // 2
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:half], body[half:], b""))
        told, body = {**told, "Transfer-Encoding": "chunked"}, pieces
    else:
        told["Content-Length"] = str(len(body))
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode(), body


async def exchange(
    gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *sent: bytes
) -> tuple[bytes | None, bytes]:
    """The body that reached the task, and the answer's head; the pieces go out one by one."""
    for piece in sent:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.02)
    taken = await asyncio.wait_for(gateway.take(), 60)
    body = taken.body or await gateway.bodies.get(taken_key(taken))
    await taken.finish(tail=b"{}")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    while head.startswith(b"HTTP/1.1 100"):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b"{}" == await reader.readexactly(2)
    return body, head


def taken_key(taken: Any) -> str:
    from inferline.tasks.queue import Message

    key = Message.loads(taken.delivery.text).body_key
    assert key is not None
    return key


@pytest.mark.parametrize(
    ("framing", "chars", "split"),
    list(product(("length", "chunked"), (0, LARGE), ("whole", "after the head", "in the offer"))),
)
async def test_a_post_that_offers_h2c_keeps_its_body(
    gateway: Gateway, framing: str, chars: int, split: str
) -> None:
    reader, writer = await asyncio.open_connection(*gateway.url[7:].split(":"))
    body = body_of(chars)
    head, sent = request(body, framing, OFFER)
    at = {"whole": 0, "after the head": len(head), "in the offer": head.index(b"h2c") + 1}[split]
    whole = head + sent

    got = [
        await exchange(gateway, reader, writer, *filter(None, (whole[:at], whole[at:])))
        for _ in range(3)
    ]
    writer.close()

    assert [body] * 3 == [found for found, _ in got]
    assert all(head.startswith(b"HTTP/1.1 200 OK\r\n") for _, head in got)


@pytest.mark.parametrize(
    "offer",
    [
        OFFER | {"Expect": "100-continue"},
        {name.upper(): value.upper() for name, value in OFFER.items()},
        {"Connection": "keep-alive, upgrade", "Upgrade": "TLS/1.0, HTTP/2.0"},
        {"Connection": "Upgrade", "Upgrade": "websocket"},
    ],
    ids=["expecting", "in capitals", "of another", "of WebSocket"],
)
async def test_whatever_a_post_offers_it_keeps_its_body(
    gateway: Gateway, offer: dict[str, str]
) -> None:
    reader, writer = await asyncio.open_connection(*gateway.url[7:].split(":"))
    body = body_of(10)

    offered = await exchange(gateway, reader, writer, *request(body, "length", offer))
    plain = await exchange(gateway, reader, writer, *request(body, "chunked", {}))
    writer.close()

    assert body == offered[0] == plain[0]


async def test_requests_one_behind_the_other_are_told_apart(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection(*gateway.url[7:].split(":"))
    look = "\r\n".join(
        ["GET /health HTTP/1.1", "Host: gateway", *(f"{k}: {v}" for k, v in OFFER.items()), "", ""]
    ).encode()
    posted = b"".join(request(b"{}", "length", OFFER))
    writer.write(look + posted + look + posted)

    statuses = []
    for _ in range(4):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        statuses.append(int(head.split()[1]))
    writer.close()

    assert [200, 400, 200, 400] == statuses


async def test_a_body_that_ends_too_soon_is_no_request(gateway: Gateway) -> None:
    _, writer = await asyncio.open_connection(*gateway.url[7:].split(":"))
    head, body = request(body_of(10), "length", OFFER)
    writer.write(head + body[:-5])
    await writer.drain()
    writer.close()
    await asyncio.sleep(0.1)

    assert {} == await gateway.store.live_by_slug(10)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_that_would_rather_speak_http_2_is_answered(gateway: Gateway) -> None:
    body = body_of(2000)
    command = ["curl", "-sS", "--http2", "-d", "@-", gateway.url + PATH]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    asked = asyncio.create_task(process.communicate(body))
    taken = await gateway.take()
    await taken.finish(tail=b'{"ok": 1}')

    out, _ = await asked
    assert (body, b'{"ok": 1}', 0) == (taken.body, out, process.returncode)


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses/"])
async def test_who_asks_for_a_websocket_is_told_to_post_instead(
    client: httpx.AsyncClient, path: str
) -> None:
    asked = {"Connection": "Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13"}

    response = await client.get(path, headers=asked)
    again = await client.get("/health")

    assert (426, "upgrade_refused") == (response.status_code, response.json()["error"]["code"])
    assert ("HTTP/1.1", "Upgrade") == (response.headers["upgrade"], response.headers["connection"])
    assert "false" == response.headers["x-should-retry"]
    assert 200 == again.status_code


async def test_who_reads_responses_without_one_is_told_what_the_address_takes(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/v1/responses")

    assert (405, "POST") == (response.status_code, response.headers["allow"])
