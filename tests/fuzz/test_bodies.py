"""Whatever the body is: an answer, or a refusal in words."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from inferline.gateway.routes.endpoints import ENDPOINTS
from tests.support.forms import FORM, field, file, form
from tests.support.fuzzing import fuzz
from tests.support.gateway import MODEL
from tests.support.hostile import CHAT, bodies, dumped
from tests.support.judged import judge
from tests.support.served import Served

paths = st.sampled_from([one.path.encode() for one in ENDPOINTS if one.method == "POST"])
CONTROL = {
    b"/keys": {"name": "a", "models": ["a*"], "tiers": ["flex"], "expires_seconds": 60},
    b"/keys/0123456789A/rotate": {"overlap_seconds": 60},
    b"/providers": {
        "id": "p2",
        "version": "1",
        "slots": 0,
        "models": [{"id": "a", "created": 1, "context_length": 4096}],
        "speeds": {"a": {"task_seconds": 0.5, "tokens_per_second": 20.0}},
    },
}
TYPES = st.sampled_from(
    [
        b"application/json",
        b"application/x+json",
        b"text/plain",
        b"application/json; charset=utf-16",
        b"multipart/form-data; boundary=",
        b"application/json\xff",
        b"",
    ]
)


@fuzz(500)
@given(paths, bodies(CHAT), TYPES)
@example(b"/chat/completions", dumped({**CHAT, "stream": False}), b"")
@example(b"/chat/completions", dumped({"model": MODEL, "x": [[]] * 5000}), b"")
def test_any_body_of_a_request_is_answered_or_refused(
    open_gateway: Served, path: bytes, body: bytes, kind: bytes
) -> None:
    answer = open_gateway.ask(
        "bodies of requests", "POST", b"/v1" + path, headers=[(b"Content-Type", kind)], body=body
    )

    judge(answer)
    assert answer.status in (200, 400, 404, 429)


#: Names that mean something, as text and as a client may write them, and values of both kinds.
NAMES = st.sampled_from(["model", "stream", "file", "n", "model[]", "options"]) | st.text(
    max_size=9
)
WORDS = st.sampled_from([MODEL, "true", "1", '{"a": [1]}', "[[", "http://192.0.2.1/a"])
PARTS = st.builds(field, NAMES, WORDS) | st.builds(file, NAMES, st.binary(max_size=40))


@fuzz(300)
@given(st.lists(PARTS, max_size=6), st.binary(max_size=3), st.integers(0, 400))
@example([field("model", MODEL), file()], b"", 0)
def test_any_form_is_answered_or_refused(
    open_gateway: Served, parts: list[bytes], noise: bytes, at: int
) -> None:
    sent = form(*parts)
    sent = sent[:at] + noise + sent[at + len(noise) :]

    answer = open_gateway.ask(
        "forms",
        "POST",
        b"/v1/audio/transcriptions",
        headers=[(b"Content-Type", FORM.encode())],
        body=sent,
    )

    judge(answer)
    assert answer.status in (200, 400, 404, 429)


@fuzz(300)
@given(st.data(), st.sampled_from(sorted(CONTROL)), TYPES)
def test_any_body_of_a_control_route_is_taken_or_refused(
    locked_gateway: Served, data: st.DataObject, path: bytes, kind: bytes
) -> None:
    body = data.draw(bodies(CONTROL[path]))
    key = KEYS.setdefault(path, locked_gateway.key("admin" if b"keys" in path else "provider"))
    headers = [(b"Content-Type", kind), (b"Authorization", b"Bearer " + key.encode())]

    answer = locked_gateway.ask(
        "bodies of control routes", "POST", b"/v1" + path, headers=headers, body=body
    )

    judge(answer, secret=key.encode())
    assert answer.status in (200, 400, 404)


#: Made once, by where they are for.
KEYS: dict[bytes, str] = {}
