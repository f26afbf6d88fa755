"""What the app is told of a request is AWS's word, never the client's."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest

from functions import _edge
from functions._edge import AtEdge, EdgeContext, caller, from_adapter, from_mangum
from functions._wiring import Opened
from inferline.accounts.caller import Caller
from inferline.errors import Unavailable

NOW = 1_795_348_800.0
AUTHORIZER = {"keyId": "k1", "tenant": "acme", "role": "provider", "models": "a-* b/*"}


class Context:
    """A function's context with so many milliseconds left."""

    def __init__(self, left_ms: int) -> None:
        self._left_ms = left_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._left_ms


def adapted(request: str, function: str) -> dict[str, Any]:
    headers = {_edge.REQUEST_CONTEXT: request, _edge.LAMBDA_CONTEXT: function}
    return {"headers": [(name, text.encode()) for name, text in headers.items()]}


def test_the_adapter_tells_the_caller_and_the_time_that_is_left() -> None:
    request, function = {"authorizer": AUTHORIZER}, {"deadline": int(NOW * 1000) + 65_000}

    context = from_adapter(adapted(json.dumps(request), json.dumps(function)), lambda: NOW)

    assert EdgeContext(request, 60.0) == context


@pytest.mark.parametrize("text", ["", "null", "[]"])
def test_without_the_adapters_headers_there_is_no_caller_and_no_further_limit(text: str) -> None:
    assert EdgeContext({}, inf) == from_adapter(adapted(text, text), lambda: NOW)


@pytest.mark.parametrize(("left_ms", "seconds"), [(900_000, 24.0), (10_000, 5.0), (1_000, -4.0)])
def test_a_buffered_answer_has_the_time_of_the_function_or_of_api_gateway(
    left_ms: int, seconds: float
) -> None:
    scope = {"aws.event": {"requestContext": None}, "aws.context": Context(left_ms)}

    assert EdgeContext({}, seconds) == from_mangum(scope)


def test_the_authorizers_word_becomes_the_caller() -> None:
    expected = Caller(tenant="acme", key_id="k1", role="provider", models=("a-*", "b/*"))

    assert expected == caller({"authorizer": AUTHORIZER})
    assert caller({}) is None
    assert caller({"authorizer": None}) is None
    assert caller({"authorizer": {"principalId": "someone"}}) is None


async def served(context: EdgeContext, opening: Any = None) -> tuple[dict[str, Any], list[Any]]:
    """Return the scope that the app saw, and what was sent."""
    seen: dict[str, Any] = {}
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    @asynccontextmanager
    async def opened() -> Any:
        yield app

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(_edge.REQUEST_CONTEXT, b"{}"), (_edge.LAMBDA_CONTEXT, b"{}"), (b"accept", b"*/*")]
    scope = {"type": "http", "headers": headers}
    await AtEdge(Opened(opening or opened), lambda _: context)(scope, None, send)  # type: ignore[arg-type]
    return seen, sent


async def test_the_app_sees_who_calls_and_how_long_it_may_take_and_no_header_that_says_so() -> None:
    seen, _ = await served(EdgeContext({"authorizer": AUTHORIZER}, 12.5))

    assert (12.5, "k1") == (seen["state"]["seconds_max"], seen["state"]["caller"].key_id)
    assert [(b"accept", b"*/*")] == seen["headers"]


async def test_where_nobody_was_established_the_app_has_to_ask() -> None:
    seen, _ = await served(EdgeContext({}, -3.0))

    assert {
        "seconds_max": 0.0,
        "takes_packed": False,
        "body_bytes_max": _edge.BODY_BYTES_MAX,
        "redirects_files": True,
    } == seen["state"]


async def test_an_app_that_cant_be_opened_is_a_503_and_is_tried_again() -> None:
    tries = []

    @asynccontextmanager
    async def opening() -> Any:
        tries.append(1)
        raise Unavailable
        yield

    opened = Opened(opening)
    for _ in range(2):
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        scope = {"type": "http", "headers": []}
        await AtEdge(opened, lambda _: EdgeContext({}, 1.0))(scope, None, send)  # type: ignore[arg-type]
        assert 503 == sent[0]["status"]

    assert [1, 1] == tries
