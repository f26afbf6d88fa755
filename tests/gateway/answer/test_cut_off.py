"""Every way in which a stream may break after its beginning: its client gets an error event."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from starlette.types import Message, Scope

from inferline.errors import Unavailable
from inferline.gateway.app import create_app
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
FIRST = b'event: x\ndata: {"n": 1}\n\n'


class Call:
    """A request to the app itself, as a server makes it; the server may cut it off."""

    def __init__(
        self, gateway: Gateway, path: str, body: Any = None, *, headers: Any = (), **state: Any
    ) -> None:
        sent = json.dumps(body).encode()
        self._received = asyncio.Queue[Message]()
        self._received.put_nowait({"type": "http.request", "body": sent, "more_body": False})
        self.status = 0
        self.got = b""
        self.ended = False
        self.flows = asyncio.Event()
        method = "GET" if body is None else "POST"
        scope: Scope = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http"}
        scope |= {
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": list(headers),
        }
        app = create_app(gateway.parts)
        serving: Coroutine[Any, Any, None] = app(
            scope | {"state": state}, self._received.get, self._send
        )
        self.task = asyncio.create_task(serving)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        assert not self.ended
        self.got += message["body"]
        self.ended = not message.get("more_body", False)
        self.flows.set()

    @property
    def error(self) -> dict[str, Any]:
        """Return the error in the last event."""
        assert self.ended
        error: dict[str, Any] = json.loads(self.got.strip().rpartition(b"data: ")[2])["error"]
        return error


@pytest.fixture(params=[CHAT, MESSAGES])
async def begun(gateway: Gateway, request: Any) -> AsyncIterator[tuple[Call, Taken]]:
    """Yield a stream whose first event is out."""
    call = Call(gateway, request.param, {"model": MODEL, "messages": [], "stream": True})
    taken = await gateway.take()
    await taken.write(FIRST)
    await call.flows.wait()
    yield call, taken
    call.task.cancel()


async def test_when_the_server_cuts_it_off(gateway: Gateway, begun: tuple[Call, Taken]) -> None:
    call, taken = begun
    call.task.cancel()
    await asyncio.wait({call.task})

    assert call.got.startswith(FIRST)
    assert "gateway_stopping" == call.error["code"]
    row = gateway.store.task(taken.task.ref)
    assert row is not None
    assert not row.state.terminal


async def test_when_nobody_foresaw_what_happened(
    gateway: Gateway, begun: tuple[Call, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    call, _ = begun

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(gateway.parts.watch, "next_change", fail)
    await call.task

    assert "internal_error" == call.error["code"]


async def test_when_the_store_is_gone(
    gateway: Gateway, begun: tuple[Call, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    call, _ = begun

    async def fail(*_: Any, **__: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(gateway.parts.watch, "next_change", fail)
    await call.task

    assert "service_unavailable" == call.error["code"]


async def test_when_the_gateway_stops(gateway: Gateway, begun: tuple[Call, Taken]) -> None:
    call, _ = begun
    gateway.parts.closing.set()
    await call.task

    assert "gateway_stopping" == call.error["code"]


async def test_when_the_function_that_reads_it_nears_its_end_though_it_flows(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferline.gateway.answer.wait_limits.DEADLINE_GRACE_SECONDS", 0.0)
    asked = Call(gateway, CHAT, {"model": MODEL, "messages": [], "stream": True})
    taken = await gateway.take()
    await taken.write(FIRST)
    await asked.flows.wait()
    resumed = Call(gateway, f"/v1/tasks/{taken.task.ref.id}/stream", seconds_max=0.2)
    while not resumed.task.done():
        await taken.write(FIRST)
        await asyncio.sleep(0.01)

    assert "gateway_stopping" == resumed.error["code"]
    asked.task.cancel()


async def test_what_has_said_its_last_word_says_no_more(gateway: Gateway) -> None:
    call = Call(gateway, CHAT, {"model": MODEL, "messages": [], "stream": True})
    taken = await gateway.take()
    await taken.write(FIRST + b"data: [DONE]\n\n")
    await call.flows.wait()
    call.task.cancel()
    await asyncio.wait({call.task})

    assert call.got == FIRST + b"data: [DONE]\n\n"


async def test_a_compressed_stream_is_told_in_its_compression() -> None:
    async with running_gateway(compression="gzip") as gateway:
        await gateway.know()
        asked = {"model": MODEL, "messages": [], "stream": True}
        call = Call(gateway, CHAT, asked, headers=[(b"accept-encoding", b"gzip")])
        await (await gateway.take()).write(FIRST)
        await call.flows.wait()
        call.task.cancel()
        await asyncio.wait({call.task})

    call.got = gzip.decompress(call.got)
    assert "gateway_stopping" == call.error["code"]
