"""Canaries: words that nobody else says, looked for in all that was written, in whatever way."""

from __future__ import annotations

import base64
import re
import secrets
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

#: How many ways of writing may be one inside the other.
NESTED_MAX = 3
#: What is taken out of something compressed, bytes.
UNPACKED_MAX = 16 * 1024 * 1024

_ESCAPED = re.compile(rb"\\u([0-9a-fA-F]{4})")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){12,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
#: How gzip, zlib and a raw deflate stream begin, and what zlib calls them.
_COMPRESSED = ((b"\x1f\x8b\x08", 31), (b"\x78\x01", 15), (b"\x78\x9c", 15), (b"\x78\xda", 15))
_RAW = -15


@dataclass(frozen=True, slots=True)
class Canary:
    """A word, what it stands for, and the places where it may be seen."""

    text: str
    what: str
    may: frozenset[str] = frozenset()


@dataclass(slots=True)
class Aviary:
    """All canaries that were let fly, and what was written in each place."""

    canaries: list[Canary] = field(default_factory=list)
    places: dict[str, list[bytes]] = field(default_factory=dict)

    def fly(self, what: str, *may: str) -> str:
        """
        Return a new word for ``what``, which may be seen in some places. Letters and digits alone.
        """
        return self.guard(f"kanari{secrets.token_hex(10)}", what, *may)

    def guard(self, text: str, what: str, *may: str) -> str:
        """Return the same for a word that is there."""
        self.canaries.append(Canary(text, what, frozenset(may)))
        return text

    def saw(self, place: str, data: bytes | str) -> None:
        """Note what was written in a place."""
        raw = data if isinstance(data, bytes) else data.encode()
        self.places.setdefault(place, []).append(raw)

    def sightings(self) -> dict[str, set[str]]:
        """Return the places where each canary was seen, by what it stands for."""
        places: dict[str, set[str]] = {one.what: set() for one in self.canaries}
        for place, texts in self.places.items():
            for canary in seen(self.canaries, b"\n".join(texts)):
                places[canary.what].add(place)
        return places

    def strays(self) -> set[tuple[str, str]]:
        """Return what was seen where it may not be."""
        may = {one.what: one.may for one in self.canaries}
        return {
            (what, place)
            for what, places in self.sightings().items()
            for place in places - may[what]
        }


def seen(canaries: Collection[Canary], data: bytes) -> set[Canary]:
    """Return those of which something is written in ``data``, in whatever way."""
    by_text = {one.text.encode(): one for one in canaries}
    wanted = re.compile(b"|".join(re.escape(text) for text in by_text))
    return {by_text[match] for view in views(data) for match in wanted.findall(view)}


def views(data: bytes, nested: int = NESTED_MAX) -> Iterator[bytes]:
    """Return ``data``, and what it says when read in another way."""
    yield data
    if nested:
        for inner in _readings(data):
            yield from views(inner, nested - 1)


def _readings(data: bytes) -> Iterator[bytes]:
    if b"%" in data and (plain := unquote_to_bytes(data)) != data:
        yield plain
    if b"\\u" in data:
        yield _ESCAPED.sub(lambda m: chr(int(m[1], 16)).encode("utf-8", "replace"), data)
    if b"\0" in data:
        yield data.replace(b"\0", b"")  # Text in UTF-16.
    if digits := b"\n".join(bytes.fromhex(m[0].decode()) for m in _HEX.finditer(data)):
        yield digits
    for begin in range(4):
        if texts := b"\n".join(_decoded(m[0][begin:]) for m in _BASE64.finditer(data)):
            yield texts
    yield from filter(None, _unpacked(data))


def _decoded(text: bytes) -> bytes:
    plain = text.translate(bytes.maketrans(b"-_", b"+/"))
    whole = plain[:-1] if len(plain) % 4 == 1 else plain
    return base64.b64decode(whole + b"=" * (-len(whole) % 4))


def _unpacked(data: bytes) -> Iterator[bytes]:
    for begins, kind in _COMPRESSED:
        at = data.find(begins)
        while at >= 0:
            yield _inflated(data[at:], kind)
            at = data.find(begins, at + 1)
    yield _inflated(data, _RAW)


def _inflated(data: bytes, kind: int) -> bytes:
    try:
        return zlib.decompressobj(kind).decompress(data, UNPACKED_MAX)
    except zlib.error:
        return b""
