from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.streams.sse import (
    Event,
    EventParser,
    EventTooLarge,
    Rest,
    comment,
    data_event,
    is_done,
)


def feed_all(parser: EventParser, feeds: Iterable[bytes]) -> list[Event]:
    return [event for data in feeds for event in parser.feed(data)]


def parse(*feeds: bytes) -> list[Event]:
    parser = EventParser()
    return feed_all(parser, feeds) + parser.close()


X = (None, b"x", b"data: x\n\n")
Y = (None, b"y", b"data: y\n\n")
DONE = (None, b"[DONE]", b"data: [DONE]\n\n")

#: A stream and the (name, data, forwarded bytes) of its events.
CORPUS = {
    "plain": (b'data: {"a":1}\n\n', [(None, b'{"a":1}', b'data: {"a":1}\n\n')]),
    "no space": (b"data:x\n\n", [(None, b"x", b"data:x\n\n")]),
    "one space is syntax, two are data": (b"data:  x\n\n", [(None, b" x", b"data:  x\n\n")]),
    "named": (b"event: e\ndata: x\n\n", [(b"e", b"x", b"event: e\ndata: x\n\n")]),
    "named last": (b"data: x\nevent: e\n\n", [(b"e", b"x", b"data: x\nevent: e\n\n")]),
    "crlf": (b"event: e\r\ndata: x\r\n\r\n", [(b"e", b"x", b"event: e\ndata: x\n\n")]),
    "cr": (b"data: x\r\rdata: y\r\r", [X, Y]),
    "mixed": (b"data: x\n\r\ndata: y\r\n\n", [X, Y]),
    "lines": (b"data: x\ndata:y\n\n", [(None, b"x\ny", b"data: x\ndata:y\n\n")]),
    "empty line of data": (b"data: x\ndata\n\n", [(None, b"x\n", b"data: x\ndata\n\n")]),
    "bom": (b"\xef\xbb\xbfdata: x\n\n", [X]),
    "bom later is text": (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [X]),
    "no blank line at the end": (b"data: x\n\ndata: [DONE]", [X, DONE]),
    "half a blank line at the end": (b"data: x\r\n", [X]),
    "dropped lines": (b": c\nid: 1\ndata: x\nretry: 5\nother: y\n\n", [X]),
    "comments only": (b": ping\n\n:\n\n: ping\n\n", []),
    "nothing to say": (b"event: ping\n\ndata:\n\ndata\n\ndata: \n\nid: 7\n\n", []),
    "similar names": (b"dataset: x\n\ndata : x\n\n data: x\n\n", []),
    "many blank lines": (b"\n\n\n\ndata: x\n\n\n\n\ndata: y\n\n", [X, Y]),
    "not UTF-8": (b"data: \xff\xfe\n\n", [(None, b"\xff\xfe", b"data: \xff\xfe\n\n")]),
    "empty": (b"", []),
    "spaces alone": (b"data:   \n\n", []),
    "spaces around the end": (b"data:  [DONE] \n\n", [DONE]),
    "no space before the end": (b"data:[DONE]\n\n", [DONE]),
    "error field": (
        b'error: {"message":"m"}\n\n',
        [(None, b'{"error":{"message":"m"}}', b'data: {"error":{"message":"m"}}\n\n')],
    ),
    "error field with its own name in it": (
        b'error:{"error":"m"}\n\n',
        [(None, b'{"error":"m"}', b'data: {"error":"m"}\n\n')],
    ),
    "error field in words": (
        b"error: no memory\n\n",
        [(None, b'{"error":"no memory"}', b'data: {"error":"no memory"}\n\n')],
    ),
    "bare JSON": (b'{"a":1}\n\n', [(None, b'{"a":1}', b'data: {"a":1}\n\n')]),
    "bare JSON over lines": (
        b'{\n "a": {}\n}\n\n',
        [(None, b'{  "a": {} }', b'data: {  "a": {} }\n\n')],
    ),
    "JSON a line": (
        b'{"a":1}\n{"b":2}\n',
        [(None, b'{"a":1}', b'data: {"a":1}\n\n'), (None, b'{"b":2}', b'data: {"b":2}\n\n')],
    ),
    "no blank lines": (
        b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n',
        [
            (None, b'{"a":1}', b'data: {"a":1}\n\n'),
            (None, b'{"b":2}', b'data: {"b":2}\n\n'),
            DONE,
        ],
    ),
    "no blank lines between named ones": (
        b'event: a\ndata: {"a":1}\nevent: b\ndata: {"b":2}\n',
        [
            (b"a", b'{"a":1}', b'event: a\ndata: {"a":1}\n\n'),
            (b"b", b'{"b":2}', b'event: b\ndata: {"b":2}\n\n'),
        ],
    ),
    "JSON over lines of data": (
        b'data: {"a":{}\ndata: }\n\n',
        [(None, b'{"a":{}\n}', b'data: {"a":{}\ndata: }\n\n')],
    ),
}


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_read_as_written_down(name: str) -> None:
    stream, expected = CORPUS[name]

    assert [Event(*event) for event in expected] == parse(stream)


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_read_alike_byte_by_byte(name: str) -> None:
    stream, _ = CORPUS[name]

    assert parse(stream) == parse(*(bytes([byte]) for byte in stream))


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_forwarded_reads_as_what_came(name: str) -> None:
    events = parse(CORPUS[name][0])

    assert events == parse(b"".join(event.raw for event in events))


#: Text with every character that some splitter takes for a line end, and some of many bytes.
texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"),
        st.sampled_from("\u2028\u2029\x85\x0b\x0c\x1c\U0001f980é:"),
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip(" \t"))
line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
junk = st.lists(st.sampled_from([b": ping", b":", b"id: 1", b"retry: 9"]), max_size=2)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """Return the bytes of some events, and the events themselves."""
    stream = b""
    events = []
    for name, lines in draw(
        st.lists(st.tuples(st.none() | texts, st.lists(texts, min_size=1, max_size=3)), max_size=5)
    ):
        fields = [b"data: " + line.encode() for line in lines]
        if name is not None:
            fields.insert(0, b"event: " + name.encode())
        end = draw(line_ends)
        stream += end.join([*draw(junk), *fields, b"", b""])
        data = b"\n".join(line.encode() for line in lines)
        known = None if name is None else name.encode()
        events.append(Event(known, data, b"\n".join([*fields, b"", b""])))
    return stream, events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(edges)]


@given(streams(), st.lists(st.integers(min_value=0), max_size=20))
def test_events_come_out_as_they_went_in_however_they_are_cut(
    stream_and_events: tuple[bytes, list[Event]], places: list[int]
) -> None:
    stream, events = stream_and_events

    assert events == parse(*cut(stream, places))


@given(st.binary(max_size=80), st.lists(st.integers(min_value=0), max_size=10))
def test_any_bytes_are_read_alike_however_they_are_cut(stream: bytes, places: list[int]) -> None:
    assert parse(stream) == parse(*cut(stream, places))


@given(
    st.lists(
        st.sampled_from([b"data: x", b"data:", b"event: e", b"\xef\xbb\xbf", b"\r", b"\n", b":"])
    ),
    st.lists(st.integers(min_value=0), max_size=10),
)
def test_any_order_of_syntax_is_read_alike_however_it_is_cut(
    parts: list[bytes], places: list[int]
) -> None:
    stream = b"".join(parts)

    assert parse(stream) == parse(*cut(stream, places))


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\n\r", b"\n\r"])
def test_an_event_comes_out_with_the_first_byte_that_ends_it(end: bytes) -> None:
    assert [event.data for event in EventParser().feed(b"data: x" + end)] == [b"x"]


def test_the_longest_event_passes_and_one_byte_more_does_not() -> None:
    fits = data_event(b"x" * 94)
    too_long = data_event(b"x" * 95)

    assert [fits] == [event.raw for event in EventParser(event_bytes_max=100).feed(fits)]
    for size in (1, 7, len(too_long)):
        parser = EventParser(event_bytes_max=100)
        cuts = [too_long[start : start + size] for start in range(0, len(too_long), size)]
        with pytest.raises(EventTooLarge, match="100 bytes"):
            feed_all(parser, cuts)


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    parser = EventParser(event_bytes_max=100)

    with pytest.raises(EventTooLarge):
        feed_all(parser, [b": never ends"] * 200)


def test_a_comment_is_one_line_whatever_its_text() -> None:
    assert comment("ping") == b": ping\n\n"
    assert comment("a\n\ndata: b\r\n") == b": a data: b\n\n"
    assert parse(comment("ping")) == []


def test_only_done_is_done() -> None:
    [done] = parse(data_event(b"[DONE]"))
    [text] = parse(data_event(b'{"text":"[DONE]"}'))

    assert is_done(done)
    assert not is_done(text)


@given(st.lists(st.sampled_from([b"1", b"\xf0\x9f\x98\x80", b"x" * 40]), max_size=8), st.data())
def test_the_rest_of_a_stream_is_all_but_its_first_events_however_it_was_cut(
    texts: list[bytes], data: st.DataObject
) -> None:
    events = [b"event: e\n" + data_event(text) for text in texts]
    stream, count = b"".join(events), data.draw(st.integers(0, 10))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)) | {0, len(stream)})

    rest = Rest(count)
    pieces = [rest.feed([stream[a:b]]) for a, b in pairwise(cuts)]

    assert b"".join(events[count:]) == b"".join(b"".join(piece) for piece in pieces)
