"""A gateway in a thread, for tests that know no loop, with a provider that answers at once."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, NoReturn, TypeVar, cast

from inferline.accounts.caller import Role
from inferline.accounts.keys import new_key
from inferline.errors import LeaseLost
from inferline.fleet.registry import ProviderRecord
from inferline.names import NAME_BYTES_MAX
from inferline.tasks.queue import Message
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import AnswerHead, Chunk, Task
from tests.support.fuzzing import log, tried
from tests.support.gateway import MODEL, Gateway, running_gateway

#: An answer that has not come within so long hangs, however busy the machine is, seconds.
ANSWER_SECONDS_MAX = 60.0
#: Between two heartbeats of the provider, seconds: whoever has it leave is not to be noticed.
HEARTBEAT_SECONDS = 0.1
PROVIDER = ProviderRecord(id="p1", models=(MODEL,), slots=100, running=0, healthy=True, version="1")

EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[{"message":{"content":"x"}}],"usage":{"total_tokens":1}}'

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: all up to its body as it came, and its body."""

    head: bytes
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON, of which Infinity and NaN are no part."""
        return json.loads(self.body, parse_constant=_refuse)


class Served:
    """A gateway that a thread serves. Hypothesis would tell of all the fields of a dataclass."""

    def __init__(self, gateway: Gateway, loop: asyncio.AbstractEventLoop) -> None:
        self.gateway = gateway
        self.loop = loop

    @property
    def url(self) -> str:
        """Return where it is."""
        return self.gateway.url

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine gives that runs beside the gateway."""
        return asyncio.run_coroutine_threadsafe(asked, self.loop).result(ANSWER_SECONDS_MAX)

    def key(self, role: Role) -> str:
        """Return the text of a new key."""
        key, text = new_key(role, "fuzz", tenant="fuzz", now_ms=self.gateway.store.now_ms())
        self.run(self.gateway.keys.put_key(key))
        return text

    def ask(
        self,
        what: str,
        method: str,
        target: bytes,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
    ) -> Answer:
        """Return the answer to one request on a connection of its own, whatever its bytes are."""
        tried[what] += 1
        head = [(b"Host", b"x"), (b"Connection", b"close"), *headers]
        if not {b"content-length", b"transfer-encoding"} & {name.lower() for name, _ in head}:
            head.append((b"Content-Length", b"%d" % len(body)))
        lines = [b"%s %s HTTP/1.1" % (method.encode(), target)]
        lines += [b"%s: %s" % header for header in head]
        return _parsed(self.exchange(b"\r\n".join([*lines, b"", body])), method)

    def exchange(self, raw: bytes, *, ends: bool = False) -> bytes:
        """
        Return all that is answered to some bytes until the connection is closed, which must be
        soon.

        With ``ends`` the gateway is told that nothing follows them.
        """
        host, port = self.url.removeprefix("http://").split(":")
        end, received = time.monotonic() + ANSWER_SECONDS_MAX, bytearray()
        connection = socket.create_connection((host, int(port)), ANSWER_SECONDS_MAX)
        # It may be closed on bytes that nobody wants to read.
        with connection, suppress(ConnectionError):
            connection.sendall(raw)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                received += more
                connection.settimeout(max(0.001, end - time.monotonic()))
        return bytes(received)


@contextmanager
def served(**settings: Any) -> Iterator[Served]:
    """Yield a gateway that knows one model, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()
    entering = stack.enter_async_context(_answering(**settings))
    try:
        gateway = asyncio.run_coroutine_threadsafe(entering, loop).result(ANSWER_SECONDS_MAX)
        log.watch()
        yield Served(gateway, loop)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(ANSWER_SECONDS_MAX)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def _answering(**settings: Any) -> AsyncIterator[Gateway]:
    async with running_gateway(**{"no_provider_seconds": 2.0, **settings}) as gateway:
        _strict(gateway.registry, "model")
        _strict(gateway.keys, "key")
        _strict(gateway.tenants, "tenant")
        await gateway.know(provider=False)
        await _beat(gateway)
        parts = [asyncio.create_task(part(gateway)) for part in (_live, _work)]
        yield gateway
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


def _strict(store: Any, method: str) -> None:
    """Have a store in memory refuse what is no key to DynamoDB, such as a name that is too long."""
    look: Callable[[str], Awaitable[Any]] = getattr(store, method)

    async def looked(name: str) -> Any:
        assert 0 < len(name.encode()) <= NAME_BYTES_MAX
        return await look(name)

    setattr(store, method, looked)


async def _beat(gateway: Gateway) -> None:
    await gateway.registry.put_provider(PROVIDER)
    await gateway.counted()


async def _live(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        await _beat(gateway)


async def _work(gateway: Gateway) -> None:
    """Answer whatever is asked for, of any model."""
    news: asyncio.Queue[str] = asyncio.Queue()
    put = gateway.queue.put

    def noted(queue: str, text: str) -> None:
        put(queue, text)
        news.put_nowait(queue)

    gateway.queue.put = noted  # type: ignore[method-assign]
    while True:
        queue = await news.get()
        deliveries = await gateway.queue.receive(
            queue, limit=1, wait_seconds=0, visibility_timeout_seconds=30
        )
        for delivery in deliveries:
            message = Message.loads(delivery.text)
            claim = await gateway.store.claim(message.ref, PROVIDER.id, 30)
            if isinstance(claim, Claimed):
                body = message.body
                if body is None:
                    body = await gateway.bodies.get(message.body_key or "")
                is_stream = message.is_json and json.loads(body).get("stream") is True
                with suppress(LeaseLost):  # Its client is gone.
                    await _answer(gateway, claim.task, is_stream)
            await gateway.queue.delete([delivery])


async def _answer(gateway: Gateway, task: Task, is_stream: bool) -> None:
    if not is_stream:
        outcome = AttemptOutcome(status=200, content_type="application/json", chunks=0, tail=WHOLE)
    else:
        head = AnswerHead(200, "text/event-stream", PROVIDER.id, task.queue_ms)
        chunk = Chunk(task.ref, task.attempt, 0, EVENT, task.ttl, head)
        await gateway.store.write_chunks([chunk])
        outcome = AttemptOutcome(status=200, content_type="text/event-stream", chunks=1, tail=DONE)
    await gateway.store.finish(task, outcome)


def _parsed(raw: bytes, method: str) -> Answer:
    assert raw, "the connection was closed without an answer"
    response = HTTPResponse(cast("Any", _Received(raw)), method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(raw.partition(b"\r\n\r\n")[0], response.status, headers, response.read())


class _Received:
    """Bytes in place of the socket that they came from."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> BytesIO:
        """See `socket.makefile`."""
        return BytesIO(self._raw)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
