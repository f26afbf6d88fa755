"""Whatever is asked for: what is there, or a refusal."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from inferline.gateway.prefixes import PREFIXES
from tests.support.fuzzing import fuzz, log
from tests.support.gateway import MODEL
from tests.support.hostile import CHAT, dumped, queries, segments
from tests.support.judged import judge
from tests.support.served import Served

ROUTES = st.sampled_from(
    [
        b"/models/%s",
        b"/tasks/%s",
        b"/tasks/%s/stream",
        b"/tasks/%s/cancel",
        b"/providers/%s",
        b"/keys/%s",
        b"/keys/%s/rotate",
        b"/overview/hour",
        b"/usage",
        b"/usage/requests",
        b"/keys",
        b"/models",
        b"/health",
        b"/queue/stats",
        b"/overview",
        b"/%s",
        b"/chat/completions",
        b"/",
    ]
)
OTHERS = st.sampled_from([b"/metrics", b"/dashboard/%s", b"/dashboard", b"/docs", b"/openapi.json"])
METHODS = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE"])
prefixes = st.sampled_from([prefix.encode() for prefix in PREFIXES])


@fuzz(500)
@given(METHODS, st.tuples(prefixes, ROUTES).map(b"".join) | OTHERS, segments(), queries())
def test_any_address_is_found_or_refused(
    open_gateway: Served, method: str, route: bytes, segment: bytes, query: bytes
) -> None:
    target = route.replace(b"%s", segment) + query

    answer = open_gateway.ask("addresses", method, target)

    if method != "HEAD":  # Its answer has no body to look at.
        judge(answer, may_be_no_http=True)
    assert answer.status < 500
    assert "location" not in answer.headers or not answer.headers["location"].startswith("http://x")
    if answer.status == 405 and not route.startswith(b"/dashboard"):
        assert answer.headers["allow"]


@fuzz(200)
@given(st.data(), st.sampled_from([b"", b"/stream"]), queries())
def test_an_id_that_is_nearly_right_is_no_tasks(
    open_gateway: Served, data: st.DataObject, route: bytes, query: bytes
) -> None:
    asked = open_gateway.ask("addresses", "POST", b"/v1/chat/completions", body=dumped(CHAT))
    known = asked.headers["x-request-id"].encode()
    at = data.draw(st.integers(0, len(known)))
    changed = known[:at] + data.draw(segments() | st.just(b"")) + known[at + 1 :]

    right = open_gateway.ask("addresses", "GET", b"/v1/tasks/" + known + route)
    answer = open_gateway.ask("addresses", "GET", b"/v1/tasks/" + changed + route + query)

    judge(right)
    judge(answer, may_be_no_http=True)
    assert 200 == right.status
    assert answer.status in (400, 404) or changed == known


@fuzz(150)
@given(
    st.binary(max_size=300)
    | st.tuples(
        st.sampled_from([b"POST /v1/completions HTTP/1.1\r\n", b"GET /v1/health HTTP/1.0\r\n"]),
        st.sampled_from([b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]),
        st.sampled_from(
            [b"", b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"]
        ),
        st.sampled_from([b"\r\n", b"\n", b""]),
        st.binary(max_size=50),
    ).map(b"".join)
)
def test_after_any_bytes_the_next_request_is_answered(open_gateway: Served, raw: bytes) -> None:
    open_gateway.exchange(raw, ends=True)
    assert [] == log.taken()

    answer = open_gateway.ask("bytes", "GET", b"/v1/health")
    judge(answer)

    assert "ok" == answer.json()["status"]


def test_afterwards_a_request_is_answered_as_ever(open_gateway: Served) -> None:
    body = json.dumps({"model": MODEL, "messages": []}).encode()

    answer = open_gateway.ask("addresses", "POST", b"/v1/chat/completions", body=body)

    judge(answer)
    assert (200, "x") == (answer.status, answer.json()["choices"][0]["message"]["content"])
