from __future__ import annotations

import json
from typing import Any

import pytest

from inferline.streams.reported_error import (
    ErrorFormat,
    error_event,
    error_of,
    in_shape,
    is_in_shape,
    status_of,
)
from inferline.streams.sse import EventParser


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"error": ["m", {"msg": "n"}]}, "m; n"),
        ({"error": {"error": {"message": "m"}}}, "m"),
        ({"error": {"detail": "m"}}, "m"),
        ({"error": True, "message": "m"}, "m"),
        ({"type": "error", "message": "m", "code": 400}, "m"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "m"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": [{"loc": ["body", "n"], "msg": "m", "type": "t"}]}, "body.n: m"),
        ({"errors": [{"message": "m"}]}, "m"),
        ({"message": "m", "code": 50001}, "m"),
        ({"text": "m", "error_code": 50001}, "m"),
        ({"error": "m", "error_type": "validation"}, "m"),
        ([{"error": {"message": "m"}}], "m"),
        ({"success": False, "msg": "m", "code": 500}, "m"),
    ],
)
def test_an_error_is_read_in_every_form(document: Any, message: str) -> None:
    error = error_of(document)

    assert error is not None
    assert message == in_shape(error)["message"]
    assert {"message", "type", "param", "code"} <= in_shape(error).keys()


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        {"error": None, "choices": []},
        {"choices": [], "usage": {}},
        {"message": {"role": "assistant"}, "type": "message_start"},
        {"type": "ping"},
        {"message": "done", "code": 0},
        {"message": "done"},
        {"text": "done", "error_code": 0},
        [{"index": 0}],
        {"prompt": "a", "detail": "x"},
    ],
)
def test_what_tells_of_no_error_is_none(document: Any) -> None:
    assert error_of(document) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400}, 400),
        ({"code": "404"}, 404),
        ({"status_code": 422, "code": "x"}, 422),
        ({"code": "insufficient_quota", "type": "x"}, 429),
        ({"type": "invalid_request_error"}, 400),
        ({"type": "exceed_context_size_error"}, 400),
        ({"code": "context_length_exceeded"}, 400),
        ({"type": "NotFoundError"}, 404),
        ({"type": "overloaded_error"}, 503),
        ({"detail": [{"msg": "m"}]}, 422),
        ({"error_type": "validation"}, 422),
        ({"code": 200}, 500),
        ({"message": "m"}, 500),
    ],
)
def test_an_error_means_a_status(error: dict[str, Any], status: int) -> None:
    assert status == status_of(error)


def test_what_an_error_says_besides_stays() -> None:
    error = {"message": "m", "type": "t", "param": "p", "code": 7, "n_ctx": 512}

    assert error == in_shape(error)


def test_an_error_without_words_says_that() -> None:
    assert "did not say" in in_shape({"code": 500})["message"]


@pytest.mark.parametrize("kind", ["choices", "responses", "messages", "other"])
def test_an_error_event_is_in_the_shape_of_its_stream(kind: ErrorFormat) -> None:
    (event,) = EventParser().feed(error_event(kind, {"message": "m"}))

    document = json.loads(event.data)
    assert is_in_shape(kind, document, event.event)
    assert "m" == document["error"]["message"]
    assert ("messages" == kind) == (event.event is not None)
    assert ("error" if kind in ("responses", "messages") else None) == document.get("type")
