"""
Request bodies that come compressed: unpacked before anybody reads them, and never beyond the limit
of a body.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from starlette.types import Message, Receive

from inferline.errors import BodyTooLarge, EncodingNotSupported, InvalidRequest

#: Of zlib: the header says whether it is gzip's or zlib's own.
_ANY_WINDOW: Final = 47
#: Deflate without either header, as some clients write it.
_RAW_WINDOW: Final = -15
#: Of zstd, as the base 2 logarithm: decoders of HTTP need not take a larger one (RFC 9659), and it
#: is the memory that a body can ask for.
_ZSTD_WINDOW_LOG_MAX: Final = 23
#: Of how many pieces a body may be put together, each compressed alone: a client sends one, and to
#: step from one to the next copies all that follow.
MEMBERS_MAX: Final = 16


class _Unpacker(Protocol):
    """One member or frame on its way, as `zlib` and `compression.zstd` have it."""

    @property
    def eof(self) -> bool:
        """Return whether its end has been seen."""

    @property
    def unused_data(self) -> bytes:
        """Return what follows its end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return the next bytes, ``max_length`` at the most."""


def unpacked(receive: Receive, encoding: str, bytes_max: int) -> Receive:
    """
    ``receive``, whose body is in the ``encoding`` that `encoding_of` tells, with the body as it was
    meant.

    It raises EncodingNotSupported, InvalidRequest for damaged data, and BodyTooLarge.
    """
    is_read = False

    async def receive_unpacked() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        packed, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return message
            packed += message.get("body", b"")
            more = message.get("more_body", False)
            if len(packed) > bytes_max:
                raise BodyTooLarge
        is_read = True
        body = unpack(bytes(packed), encoding, bytes_max) if packed else b""
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_unpacked


def encoding_of(encoding: str) -> str:
    """
    Return what a Content-Encoding tells of a body, without what changes nothing; empty for nothing.
    """
    codings = (coding.strip().lower() for coding in encoding.split(","))
    return ", ".join(coding for coding in codings if coding not in ("", "identity"))


def unpack(packed: bytes, encoding: str, bytes_max: int) -> bytes:
    """Return what ``packed`` was made of; raises as `unpacked` does."""
    begin = _UNPACKERS.get(encoding)
    if begin is None:
        raise EncodingNotSupported
    pieces: list[bytes] = []
    room = bytes_max + 1
    for _ in range(MEMBERS_MAX):
        if not packed:
            return b"".join(pieces)
        member = begin(packed)
        try:
            piece = member.decompress(packed, room)
        # Each library has an error of its own, and all of them mean the same.
        except Exception:  # noqa: BLE001
            break
        room -= len(piece)
        if room <= 0:
            raise BodyTooLarge(f"Unpacked, a body may have {bytes_max} bytes at most. Send less.")
        if not member.eof:
            break
        pieces.append(piece)
        packed = member.unused_data
    raise InvalidRequest(f"The body is not valid {encoding}, though Content-Encoding says so.")


def _gzip(packed: bytes) -> _Unpacker:
    return zlib.decompressobj(_ANY_WINDOW)


def _deflate(packed: bytes) -> _Unpacker:
    has_header = packed[0] & 15 == zlib.DEFLATED and int.from_bytes(packed[:2], "big") % 31 == 0
    return zlib.decompressobj(_ANY_WINDOW if has_header else _RAW_WINDOW)


def _zstd(packed: bytes) -> _Unpacker:
    """Load the module. Raises EncodingNotSupported where this Python was built without it."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise EncodingNotSupported from None
    limit = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG_MAX}
    return zstd.ZstdDecompressor(options=limit)


_UNPACKERS: Final[Mapping[str, Callable[[bytes], _Unpacker]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
