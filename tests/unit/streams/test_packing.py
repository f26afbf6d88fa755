"""Packing makes answers shorter, and unpacking is safe with any bytes."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from inferline.streams.packing import pack, unpack


@given(st.binary(max_size=5000))
def test_what_was_packed_is_unpacked(data: bytes) -> None:
    assert data == unpack(pack(data), 5000)


def test_a_streams_events_take_a_tenth() -> None:
    event = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{}}]}\n\n'
    )
    words = [event.replace(b"{}", b'{"content":" word%d"}' % number) for number in range(25)]

    assert len(pack(b"".join(words))) * 10 < len(b"".join(words))


@given(st.binary(max_size=500))
def test_whatever_the_bytes_there_is_no_error_and_no_more_than_the_limit(packed: bytes) -> None:
    assert len(unpack(packed, 100)) <= 100


def test_few_bytes_that_say_they_are_many_are_nothing() -> None:
    bomb = pack(bytes(100 * 1024 * 1024))
    assert len(bomb) < 512 * 1024

    assert b"" == unpack(bomb, 64 * 1024)


def test_what_was_cut_short_is_nothing() -> None:
    packed = pack(b"some text " * 100)

    assert b"" == unpack(packed[:-1], 5000)


def test_what_other_tools_deflate_is_read() -> None:
    other = zlib.compressobj(wbits=-15)

    assert b"text" == unpack(other.compress(b"text") + other.flush(), 100)
