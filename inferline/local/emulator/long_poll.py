"""Patches of the emulator's long polls: slow waking, and polls without a client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from inferline.background import first_of

AsgiMessage = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[AsgiMessage, AsgiReceive, AsgiSend], Awaitable[None]]

#: The one release whose receive loop `speed_up` was written against.
KNOWN_VERSION = "1.5.33"


class Bell:
    """
    A replacement for MiniStack's event of a queue's change that also wakes sleeping polls.

    MiniStack's receive loop checks every 100 ms. It still does, since a message also becomes
    visible by time alone; but the sleep in between ends early when the bell rings.
    """

    def __init__(self, inner: threading.Event) -> None:
        self._inner = inner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleepers: set[asyncio.Future[None]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set(self) -> None:
        """Pass the signal on and end every sleep; callable from any thread."""
        self._inner.set()
        if self._loop is None:
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            self._ring()
        else:
            self._loop.call_soon_threadsafe(self._ring)

    async def sleep(self, seconds: float) -> None:
        """Sleep until the bell rings, at most `seconds`."""
        self._loop = asyncio.get_running_loop()
        nap: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_later(seconds, _end, nap)
        self._sleepers.add(nap)
        try:
            await nap
        finally:
            timer.cancel()
            self._sleepers.discard(nap)

    def _ring(self) -> None:
        for nap in self._sleepers:
            _end(nap)


def _end(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)


class _AsyncioWithBell:
    """The asyncio module that MiniStack's queue code sees, with another `sleep`."""

    def __init__(self, bell: Bell) -> None:
        self.sleep = bell.sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


def speed_up(sqs: Any, version: str) -> bool:
    """
    Make `sqs`, MiniStack's queue module, wake at once; return False if this release is unknown.
    """
    if version != KNOWN_VERSION:
        return False
    bell = Bell(sqs.esm_wake)
    sqs.esm_wake = bell
    sqs.asyncio = _AsyncioWithBell(bell)
    return True


class EndAbandonedPolls:
    """
    An ASGI middleware that ends a ReceiveMessage whose caller has gone.

    MiniStack goes on polling for a killed provider, and would hand it the next message: that task
    would then wait for a visibility timeout although another provider is free.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http" and _receives_messages(scope):
            await self._serve_while_wanted(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve_while_wanted(
        self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        body = [await receive()]
        while body[-1].get("more_body"):
            body.append(await receive())
        unread = iter(body)

        async def replay() -> AsgiMessage:
            for message in unread:
                return message
            never: asyncio.Future[AsgiMessage] = asyncio.get_running_loop().create_future()
            return await never

        await first_of(self._app(scope, replay, send), receive())


def _receives_messages(scope: AsgiMessage) -> bool:
    return (b"x-amz-target", b"AmazonSQS.ReceiveMessage") in scope["headers"]
