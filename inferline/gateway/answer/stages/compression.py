"""
Compression of answers on their way to a client: where traffic is paid for, a stream's events are
most of it, and they repeat each other.
"""

from __future__ import annotations

import zlib
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

#: A stream is compressed piece by piece: a higher level saves little more.
_LEVEL: Final = 5
#: zlib's code for the gzip format with the largest window.
_WINDOW: Final = 31
#: Content types that are compressed already.
_PACKED: Final = ("audio/", "application/octet-stream")
#: Smallest whole answer that is compressed, bytes: a smaller one fits one packet anyway.
WHOLE_BYTES_MIN: Final = 1024


def takes_gzip(headers: Headers) -> bool:
    """Return True if the client accepts gzip."""
    for coding in headers.get("accept-encoding", "").split(","):
        name, _, quality = coding.partition(";")
        if name.strip().lower() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class Gzipped:
    """A `Send` that compresses the body; each piece can be read as soon as it is there."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW)
        self._packs = True

    async def __call__(self, message: Message) -> None:
        """Send a message of the response."""
        if message["type"] == "http.response.start":
            message = self._started(message)
        elif self._packs:
            message = {**message, "body": self._packed(message)}
        await self._send(message)

    def _started(self, message: Message) -> Message:
        headers = MutableHeaders(raw=list(message["headers"]))
        headers.add_vary_header("accept-encoding")
        length = headers.get("content-length")
        is_packed = headers.get("content-type", "").startswith(_PACKED)
        self._packs = (length is None or int(length) >= WHOLE_BYTES_MIN) and not is_packed
        if self._packs:
            headers["content-encoding"] = "gzip"
            del headers["content-length"]
        return {**message, "headers": headers.raw}

    def _packed(self, message: Message) -> bytes:
        is_last = not message.get("more_body", False)
        packed = self._packer.compress(message.get("body", b""))
        return packed + self._packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)
