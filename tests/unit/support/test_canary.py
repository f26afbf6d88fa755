"""The search for canaries finds them in whatever way they are written, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import pytest

from inferline.streams.packing import pack
from tests.support.canary import Aviary, Canary, seen

CANARY = Canary("kanari0123456789abcdef", "a prompt")
OTHER = Canary("kanarifedcba9876543210", "another")


def percent(data: bytes) -> bytes:
    return "".join(f"%{byte:02X}" for byte in data).encode()


def escaped(data: bytes) -> bytes:
    return "".join(f"\\u{byte:04x}" for byte in data).encode()


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "as JSON": lambda data: json.dumps({"é": data.decode()}).encode(),
    "as JSON in JSON": lambda data: json.dumps(json.dumps({"é": data.decode()})).encode(),
    "escaped letter by letter": escaped,
    "percent-encoded": percent,
    "percent-encoded where needed": lambda data: quote_from_bytes("ü ".encode() + data).encode(),
    "in UTF-16": lambda data: data.decode().encode("utf-16"),
    "in hexadecimal": lambda data: data.hex().encode(),
    "in base64": base64.b64encode,
    "in base64, one byte later": lambda data: base64.b64encode(b"x" + data),
    "in base64, two bytes later": lambda data: base64.b64encode(b"xy" + data),
    "in base64 behind a path": lambda data: b"a/" + base64.b64encode(data),
    "in base64 for addresses": lambda data: base64.urlsafe_b64encode(b"\xff\xfe" + data),
    "by gzip": gzip.compress,
    "by zlib": zlib.compress,
    "as chunks are packed": pack,
    "by gzip, in base64": lambda data: base64.b64encode(gzip.compress(data)),
    "in base64, by gzip": lambda data: gzip.compress(base64.b64encode(data)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_canary_is_found_however_it_is_written(way: str) -> None:
    before = "" if way == "as chunks are packed" else "a line: "
    written = before.encode() + WAYS[way](f"<{CANARY.text}>".encode())

    assert {CANARY} == seen([CANARY, OTHER], written)


def test_what_is_not_there_is_not_found() -> None:
    noise = b"\n".join(way(b"kanari of somebody else") for way in WAYS.values())

    assert set() == seen([CANARY, OTHER], noise)


def test_a_canary_strays_where_it_may_not_be() -> None:
    aviary = Aviary()
    text = aviary.fly("a prompt", "queue")
    for place in ("queue", "log"):
        aviary.saw(place, f"something of {text}")
    aviary.saw("metrics", "nothing")

    assert {"a prompt": {"queue", "log"}} == aviary.sightings()
    assert {("a prompt", "log")} == aviary.strays()
