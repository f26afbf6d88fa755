"""What is sent: bodies, headers and addresses that are nearly right, or hardly."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

from inferline.validation import fields, guard
from inferline.validation.payload import SERVICE_TIERS
from tests.support.gateway import MODEL

CHAT: dict[str, Any] = {
    "model": MODEL,
    "stream": True,
    "service_tier": "flex",
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": [{"type": "text", "text": "é\u2028\U0001f980"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "temperature": 0.7,
    "seed": 2**63,
}
#: Every name that is read, and some that are not.
NAMES = st.sampled_from(
    sorted({*CHAT, *fields._ROLES, *guard._LOWER, "Model", "STREAM", "", "\\", "a", ":"})
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**64, -(2**63), 10**400, 1e308, 5e-324])
TEXTS = st.text(max_size=20) | st.sampled_from([MODEL, *SERVICE_TIERS, "\ud800", "\x00", "x" * 300])
values = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXTS, inner, max_size=4),
    max_leaves=8,
)
PIECES = st.sampled_from(
    [
        b"",
        b'"',
        b"{",
        b"}",
        b"[",
        b",",
        b":",
        b"null",
        b"1e999",
        b"\\ud800",
        b"\xff",
        b"\x00",
        b"NaN",
        b"9" * 5000,
    ]
)


def dumped(document: Any) -> bytes:
    """JSON as Python writes it, that of NaN, Infinity and lone surrogates too."""
    return json.dumps(document, default=str).encode()


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """Return a document of which some bytes are others."""
    raw = bytearray(dumped(document))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(PIECES | st.binary(max_size=3))
    return bytes(raw)


@st.composite
def replaced(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """Return a document of which some fields are others, or there twice."""
    changed = {**document, **draw(st.dictionaries(NAMES, values, max_size=3))}
    raw = dumped(changed)
    if draw(st.booleans()):
        raw = b"{" + dumped(draw(NAMES)) + b":" + dumped(draw(values)) + b"," + raw[1:]
    return raw


def nested(depth: int) -> bytes:
    """Return a chat with an array so deep."""
    return b'{"model":"%s","x":' % MODEL.encode() + b"[" * depth + b"]" * depth + b"}"


def bodies(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Return bodies for who expects ``document``."""
    return (
        st.binary(max_size=200)
        | values.map(dumped)
        | mutated(document)
        | replaced(document)
        | st.integers(1, 20_000).map(nested)
    )


#: What may stand in a header's value, and what no HTTP has there.
VISIBLE = st.binary(max_size=80).map(lambda raw: bytes(b for b in raw if b > 31 and b != 127))
ANY_BYTES = st.binary(max_size=40)


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    """Return a part of a path, percent-encoded wholly, partly or wrongly."""
    raw = draw(st.binary(max_size=30) | TEXTS.map(lambda t: t.encode(errors="replace")))
    encoded = quote_from_bytes(raw, safe="/:@.~!$&'()*+,;=").encode()
    special = st.sampled_from(
        [
            b"..",
            b"%2e%2e",
            b"%00",
            b"%0d%0aX-Injected:%20y",
            b"%2f",
            b"//",
            b"%",
            b"%zz",
            b"%ff%fe",
            b"a" * 5000,
            b"%F0%9F%A6%80" * 300,
            b".",
            b"{task_id}",
            b"keys",
            b"stream",
        ]
    )
    return draw(st.just(encoded) | special)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Return a query string, or none."""
    named = st.sampled_from(
        [b"after", b"since", b"until", b"by", b"limit", b"role", b"model", b"x"]
    )
    values = st.sampled_from(
        [
            b"0",
            b"-1",
            b"1e9",
            b"9" * 5000,
            b"24h",
            b"999999d",
            b"0001-01-01",
            b"9999-12-31T23:59:59-23:59",
            b"tenant,key,hour",
            b"client",
            b"+",
            b"%00",
            b"%ff",
            b"nan",
            b"2026-W01",
            b"a&a=b",
        ]
    )
    pairs = draw(st.lists(st.tuples(named, values | segments()), max_size=3))
    return b"?" + b"&".join(b"%s=%s" % pair for pair in pairs) if pairs else b""
