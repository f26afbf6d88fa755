"""What holds for every answer of a gateway, whatever was asked."""

from __future__ import annotations

import re

from inferline import errors
from inferline.errors import InferLineError
from inferline.streams.reported_error import anthropic_type
from tests.support.fuzzing import log
from tests.support.served import Answer

#: All that the documentation names. What has a status of its own from a backend is not met here.
ERRORS = {
    (error.status, error.type, error.code)
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, InferLineError) and error is not InferLineError
}
#: Those of a server that an input may lead to: a model without a provider, and a client that says
#: that it waits no longer.
SERVER_CODES = frozenset({"no_provider_available", "deadline_exceeded"})
#: Every header there is: no input names another.
HEADERS = frozenset(
    [
        "allow",
        "cache-control",
        "content-length",
        "content-security-policy",
        "content-type",
        "cross-origin-opener-policy",
        "date",
        "etag",
        "last-modified",
        "location",
        "referrer-policy",
        "accept-encoding",
        "request-id",
        "retry-after",
        "upgrade",
        "server",
        "transfer-encoding",
        "connection",
        "vary",
        "x-content-type-options",
        "x-inferline-attempt",
        "x-inferline-provider",
        "x-inferline-queue-ms",
        "x-request-id",
        "x-should-retry",
        "content-encoding",
        "x-accel-buffering",
        "accept-ranges",
    ]
)
REQUEST_ID = re.compile(r"req_[0-9a-f]{32}([0-9a-f]{8})?")
#: What the server says by itself of bytes that are no HTTP.
NO_HTTP = b"Invalid HTTP request received."


def judge(answer: Answer, *, secret: bytes = b"", may_be_no_http: bool = False) -> None:
    """Fail unless it is an answer that the documentation knows, and nothing was logged."""
    assert [] == log.taken()
    assert not secret or (secret not in answer.body and secret not in answer.head)
    if may_be_no_http and (answer.status, answer.body) == (400, NO_HTTP):
        return
    _judge_head(answer)
    if answer.status >= 400:
        error = answer.json()["error"]
        assert {"message", "type", "param", "code"} == set(error)
        assert isinstance(error["message"], str)
        assert error["message"]
        assert error["param"] is None or isinstance(error["param"], str)
        if "request-id" in answer.headers:  # At Anthropic's addresses errors are called otherwise.
            assert error["type"] == anthropic_type(answer.status)
            assert answer.headers["request-id"] == answer.json()["request_id"]
            assert (answer.status, error["code"]) in {(one[0], one[2]) for one in ERRORS}
        else:
            assert (answer.status, error["type"], error["code"]) in ERRORS
        assert answer.status < 500 or error["code"] in SERVER_CODES
        assert "application/json" == answer.headers["content-type"]


def _judge_head(answer: Answer) -> None:
    lines = answer.head.split(b"\r\n")[1:]
    for line in lines:
        assert re.fullmatch(rb"[a-z-]+: [\t -~\x80-\xff]*", line), line
    names = [line.partition(b":")[0].decode() for line in lines]
    assert set(names) <= HEADERS
    assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
    assert 1 == names.count("x-request-id")
