"""A response, whose body is read as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Protocol

from inferline.background import first_of
from inferline.http.errors import HttpError, Silence

#: Unread bytes of a response; with more, its sender has to wait.
UNREAD_BYTES_MAX: Final = 256 * 1024

#: Says, when nothing has come for too long, whether to wait for as long again.
Outlasts = Callable[[], Awaitable[bool]]


class Source(Protocol):
    """The connection that a response arrives on."""

    def go_on(self) -> None:
        """Resume reading: everything received so far has been consumed."""

    def abort(self) -> None:
        """Close it at once."""


class Response:
    """
    A response, whose body is read as it arrives.

    ``silence_seconds``, which may be changed, bounds each wait for data, unless ``outlasts`` says
    to wait on. Data that does not come in that time, or before the connection ends, raises
    HttpError.
    """

    __slots__ = (
        "_ended",
        "_error",
        "_outlasts",
        "_pieces",
        "_size",
        "_source",
        "_waiter",
        "headers",
        "method",
        "received_bytes",
        "silence_seconds",
        "status",
    )

    def __init__(
        self,
        source: Source,
        method: str,
        silence_seconds: float,
        outlasts: Outlasts | None = None,
    ) -> None:
        self.silence_seconds = silence_seconds
        self._outlasts = outlasts
        self.status = 0
        #: How much of the body has come so far.
        self.received_bytes = 0
        #: By name in lower case. Of lines with the same name the last counts.
        self.headers: dict[str, str] = {}
        self.method = method
        self._source = source
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._error: HttpError | None = None
        self._waiter: asyncio.Future[bool] | None = None

    async def begun(self) -> None:
        """Return once the headers are here."""
        try:
            while not self.status:
                await self._wait()
        except BaseException:
            self.close()
            raise

    async def read(self) -> bytes:
        """Read the rest of the body."""
        pieces: list[bytes] = []
        try:
            while True:
                pieces += self._taken()
                if self._ended:
                    return b"".join(pieces)
                await self._wait()
        finally:
            self.close()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the rest of the body, as it arrives."""
        try:
            while True:
                if taken := self._taken():
                    yield b"".join(taken)
                elif self._ended:
                    return
                else:
                    await self._wait()
        finally:
            self.close()

    def _taken(self) -> list[bytes]:
        taken, self._pieces, self._size = self._pieces, [], 0
        if taken:
            self._source.go_on()
        return taken

    def close(self) -> None:
        """Stop reading. A connection with unread data is closed."""
        if not self._ended:
            self._ended = True
            self._source.abort()

    # Called by the connection.

    def headed(self, status: int) -> None:
        """Set the status; the headers are complete."""
        self.status = status
        self._wake()

    def came(self, data: bytes) -> bool:
        """Add a piece of the body; return False to pause the sender."""
        self._pieces.append(data)
        self._size += len(data)
        self.received_bytes += len(data)
        self._wake()
        return self._size < UNREAD_BYTES_MAX

    def end(self) -> None:
        """Note that the body is complete."""
        self._ended = True
        self._wake()

    def fail(self, error: HttpError) -> None:
        """Note that nothing more will come."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def _wait(self) -> None:
        """Wait until something may have come. Raises Silence, or the connection's error."""
        if self._error is not None:
            raise self._error
        if not (await self._is_woken() or await self._is_worth_waiting()):
            self.fail(Silence(f"Nothing came in {self.silence_seconds:g} s."))
        if self._error is not None and not self._pieces:
            raise self._error

    async def _is_woken(self) -> bool:
        """Wait for data; return False after too long."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(self.silence_seconds, _give_up, self._waiter)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def _is_worth_waiting(self) -> bool:
        """Ask whether to wait on; data that comes meanwhile says yes."""
        if self._outlasts is None:
            return False
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            waits = await first_of(self._outlasts(), waiter)
            return waits or not waiter.cancelled()
        finally:
            self._waiter = None


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
