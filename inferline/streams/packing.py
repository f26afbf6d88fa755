"""
Compression of stored answers: DynamoDB charges by the kilobyte, and events repeat each other.
"""

from __future__ import annotations

import zlib
from typing import Final

#: Data up to this length stays as it is: with its row it fits the first kilobyte, the smallest
#: charge.
PLAIN_BYTES_MAX: Final = 800
#: A window and tables that are quick to set up: 6 KB of events take 30 us and become 300 bytes.
_LEVEL: Final = 6
_WINDOW: Final = -15
_TABLES: Final = 6


def pack(data: bytes) -> bytes:
    """Return ``data`` as a raw deflate stream."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _TABLES)
    return packer.compress(data) + packer.flush()


def unpack(packed: bytes, bytes_max: int) -> bytes:
    """
    Return the data that was packed; empty if it is invalid or longer than ``bytes_max``.

    Its writer is not trusted: a few bytes may unpack to a billion.
    """
    unpacker = zlib.decompressobj(_WINDOW)
    try:
        data = unpacker.decompress(packed, bytes_max)
    except zlib.error:
        return b""
    return data if unpacker.eof else b""
