"""Whatever a header holds: it lets nobody in, is told to nobody, and breaks nothing."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from inferline.gateway.submit import hints
from tests.support.fuzzing import fuzz
from tests.support.hostile import ANY_BYTES, CHAT, VISIBLE, dumped
from tests.support.judged import judge
from tests.support.served import Served

READ = st.sampled_from(
    [name.encode() for name in (hints.TOTAL_TIMEOUT, hints.READ_TIMEOUT, hints.RETRY_COUNT)]
    + [hints.IDEMPOTENCY_KEY.encode(), b"traceparent", b"authorization", b"x-api-key"]
    + [
        b"api-key",
        b"content-encoding",
        b"upgrade",
        b"connection",
        b"anthropic-version",
        b"accept-encoding",
    ]
    + [b"accept", b"host", b"x-request-id", b"x-forwarded-for", b"x-amzn-request-context"]
    + [b"x-amzn-lambda-context", b"content-type", b"cookie", b"range", b"if-none-match"]
)
VALUES = VISIBLE | st.sampled_from(
    [
        b"1",
        b"0.0",
        b"9" * 5000,
        b"1e9",
        b"-1",
        b"nan",
        b"\xb2",
        b"\xd9\xa1",
        b"gzip;q=0",
        b"gzip, *",
        b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01",
        b"k" * 255,
        b"k" * 256,
        b"[::1",
        b"@:x/",
        b"application/openmetrics-text; version=x",
        b"text/plain; version=1.0.0; escaping=x",
        b"bytes=0-,-1",
        b"\xff",
        b"",
        b"x" * 20000,
    ]
)
WHERE = st.sampled_from(
    [
        ("POST", b"/v1/chat/completions"),
        ("GET", b"/metrics"),
        ("GET", b"/v1/models"),
        ("GET", b"/dashboard/"),
        ("GET", b"/docs"),
        ("DELETE", b"/v1/providers/p9"),
    ]
)


@fuzz(500)
@given(WHERE, st.lists(st.tuples(READ, VALUES), min_size=1, max_size=4), st.booleans())
@example(("GET", b"/metrics"), [(b"accept", b"application/openmetrics-text; version=x")], True)
def test_any_value_of_a_header_is_borne(
    open_gateway: Served,
    where: tuple[str, bytes],
    headers: list[tuple[bytes, bytes]],
    stream: bool,
) -> None:
    method, path = where
    body = dumped({**CHAT, "stream": stream}) if method == "POST" else b""

    answer = open_gateway.ask("headers", method, path, headers=headers, body=body)

    judge(answer)
    assert answer.status in (200, 204, 304, 400, 415, 504)


@fuzz(150)
@given(WHERE, st.tuples(READ | VISIBLE.filter(bool), ANY_BYTES))
@example(("GET", b"/metrics"), (b"x-request-id", b"x\r\nX-Injected: y"))
def test_no_bytes_of_a_header_come_back_as_one(
    open_gateway: Served, where: tuple[str, bytes], header: tuple[bytes, bytes]
) -> None:
    assume(header[0].lower() not in (b"content-length", b"transfer-encoding", b"expect"))
    answer = open_gateway.ask("raw headers", *where, headers=[header])

    judge(answer, may_be_no_http=True)
    assert b"injected" not in answer.head.lower()


PREFIXED = st.sampled_from(
    [b"Bearer ", b"bearer ", b"BEARER\t", b"Basic ", b"", b"Bearer  ", b"il_"]
)


@fuzz(300)
@given(PREFIXED, st.data(), st.sampled_from(["client", "provider", "admin"]))
def test_nothing_but_a_key_lets_anybody_in(
    locked_gateway: Served, prefix: bytes, data: st.DataObject, role: str
) -> None:
    known = KEYS.setdefault(role, locked_gateway.key(role))  # type: ignore[arg-type]
    shown = data.draw(VISIBLE | st.text().map(str.encode) | nearly(known.encode()), "shown")
    shown = bytes(byte for byte in shown if byte > 31 and byte != 127)
    assume(known.encode() not in prefix + shown)

    name = data.draw(st.sampled_from([b"Authorization", b"x-api-key", b"api-key"]), "header")
    for method, path in (
        ("GET", b"/v1/models"),
        ("GET", b"/v1/keys"),
        ("POST", b"/v1/completions"),
    ):
        answer = locked_gateway.ask(
            "keys", method, path, headers=[(name, prefix + shown)], body=b"{}"
        )

        judge(answer, secret=shown if len(shown) > 40 else b"")
        assert (401, "invalid_api_key") == (answer.status, answer.json()["error"]["code"])


#: Made once, by their role.
KEYS: dict[str, str] = {}


@st.composite
def nearly(draw: st.DrawFn, key: bytes) -> bytes:
    """Return a key with one byte more, less or changed."""
    at = draw(st.integers(0, len(key)))
    return key[:at] + draw(st.binary(max_size=1)) + key[at + draw(st.integers(0, 1)) :]
