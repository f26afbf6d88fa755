"""Requests through the functions that answer whole events, under Lambda's own runtime."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from inferline.tasks.store import AttemptOutcome
from tests.support.cloud import CANARY, MODEL, Cloud, chat, invoked, metrics, recorded
from tests.support.forms import FORM, SOUND, field, file, form
from tests.support.pace import within
from tests.support.runtime_api import Function, Result


def post(path: str, body: Any, **authorizer: str) -> dict[str, Any]:
    event = recorded("rest", path=path, body=json.dumps(body))
    event["requestContext"]["authorizer"] |= authorizer
    return event


def get(path: str) -> dict[str, Any]:
    return recorded("rest", path=path, httpMethod="GET", body=None)


def answer(result: Result) -> tuple[int, dict[str, str], Any]:
    assert result.error is None, result.error
    value = result.value
    return value["statusCode"], value["headers"], json.loads(value["body"])


async def test_a_request_is_answered_in_its_callers_name(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    inference = function("inference")
    asked = asyncio.create_task(
        invoked(inference, post("/v1/chat/completions", chat(), tenant="globex"))
    )
    task = await cloud.take()
    said = json.dumps({"choices": [{"message": {"content": CANARY}}]}).encode()
    usage = {"prompt_tokens": 3, "completion_tokens": 8}
    told_by_backend = {"content_type": "application/json", "tail": said, "usage": usage}
    await cloud.store.finish(task, AttemptOutcome(status=200, **told_by_backend))

    status, headers, body = answer(await asked)

    assert (200, json.loads(said)) == (status, body)
    assert "globex" == task.tenant
    assert task.ref.id == headers["x-request-id"]
    counts = metrics(inference)
    assert (1, MODEL) == counts["Requests"]
    assert {"FirstTokenMilliseconds", "TotalMilliseconds", "QueueMilliseconds"} <= counts.keys()
    assert ((3, MODEL), (8, MODEL)) == (counts["InputTokens"], counts["OutputTokens"])
    assert "Errors" not in counts
    sums = await cloud.minutes()
    assert (1, 3, 8) == (
        sums.requests,
        sums.input_tokens,
        sums.output_tokens,
    )


async def test_a_stream_comes_whole_where_nothing_streams(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    asked = asyncio.create_task(
        invoked(function("inference"), post("/v1/chat/completions", chat(stream=True)))
    )
    task = await cloud.take()
    await cloud.write(task, 0, b'data: {"choices": []}\n\n')
    await cloud.store.finish(
        task,
        AttemptOutcome(
            status=200, content_type="text/event-stream", chunks=1, tail=b"data: [DONE]\n\n"
        ),
    )

    value = (await asked).value

    assert 'data: {"choices": []}\n\ndata: [DONE]\n\n' == value["body"]
    assert value["headers"]["content-type"].startswith("text/event-stream")


async def test_bytes_come_and_go_in_base64(cloud: Cloud, function: Callable[..., Function]) -> None:
    await cloud.know()
    sent = form(file(), field("model", MODEL))
    event = post("/v1/audio/transcriptions", {})
    event |= {"body": b64encode(sent).decode(), "isBase64Encoded": True}
    event["multiValueHeaders"] |= {"Content-Type": [FORM]}
    event["headers"] |= {"Content-Type": FORM}
    asked = asyncio.create_task(invoked(function("inference"), event))
    task = await cloud.take()
    await cloud.store.finish(task, AttemptOutcome(status=200, content_type="audio/wav", tail=SOUND))

    value = (await asked).value

    assert sha256(sent).hexdigest() == task.body_sha256
    assert {"content-type": FORM} == task.request_headers
    assert (True, SOUND) == (value["isBase64Encoded"], b64decode(value["body"]))


async def test_another_process_tells_of_a_task_and_goes_on_with_its_stream(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    asking = invoked(function("inference"), post("/v1/chat/completions", chat(stream=True)))
    asked = asyncio.create_task(asking)
    task = await cloud.take()
    await cloud.write(task, 0, b"data: 1\n\ndata: 2\n\n")
    whole = AttemptOutcome(
        status=200, content_type="text/event-stream", chunks=1, tail=b"data: 3\n\n"
    )
    await cloud.store.finish(task, whole)
    await asked
    another, path = function("inference"), f"/v1/tasks/{task.ref.id}"

    shown = answer(await invoked(another, get(path)))
    after = {"queryStringParameters": {"after": "1"}}
    after["multiValueQueryStringParameters"] = {"after": ["1"]}  # type: ignore[dict-item]
    rest = await invoked(another, get(f"{path}/stream") | after)
    others = get(path)
    others["requestContext"]["authorizer"] |= {"tenant": "globex"}

    assert (200, "DONE", None) == (shown[0], shown[2]["state"], shown[2]["result"])
    assert (200, "data: 2\n\ndata: 3\n\n") == (rest.value["statusCode"], rest.value["body"])
    assert 404 == answer(await invoked(another, others))[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_ends_before_its_function_does_and_says_so(
    cloud: Cloud, function: Callable[..., Function], stream: bool
) -> None:
    await cloud.know()
    inference = function("inference")
    await invoked(inference, get("/v1/models"))  # The start takes its time from nobody's request.
    begun = time.monotonic()

    result = await invoked(inference, post("/v1/chat/completions", chat(stream=stream)), 6.0)

    status, headers, body = answer(result)
    assert (504, "deadline_exceeded") == (status, body["error"]["code"])
    assert "false" == headers["x-should-retry"]
    assert 1.0 < time.monotonic() - begun < within(5.0)
    assert (1, "deadline_exceeded") == metrics(inference)["Errors"]


async def test_no_client_can_name_its_own_caller(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    forged = json.dumps({"authorizer": {"keyId": "x", "tenant": "forged", "role": "client"}})
    event = post("/v1/chat/completions", chat())
    del event["requestContext"]["authorizer"]
    event["headers"]["x-amzn-request-context"] = forged
    event["multiValueHeaders"]["x-amzn-request-context"] = [forged]

    status, _, body = answer(await invoked(function("inference"), event))

    assert (401, "invalid_api_key") == (status, body["error"]["code"])


async def test_hostile_bodies_are_refused_and_not_told(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    inference = function("inference")
    for text in (CANARY, f'{{"model": "{CANARY}"}}', f'{{"model": ["{CANARY}"]}}', "[" * 9000):
        event = recorded("rest", body=text)
        status, _, body = answer(await invoked(inference, event))

        assert status in (400, 404)
        assert body["error"]["type"] == "invalid_request_error"


async def test_an_aws_that_does_not_answer_is_a_503_and_may_come_back(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    control = function("control", AWS_ENDPOINT_URL="http://127.0.0.1:9")

    for _ in range(2):
        status, _, body = answer(await invoked(control, get("/v1/models")))
        assert (503, "service_unavailable") == (status, body["error"]["code"])


async def test_a_provider_enrols_and_the_model_is_there(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    control = function("control")
    offer = {"id": "p7", "models": [{"id": MODEL}], "slots": 2, "running": 0, "healthy": True}
    event = post("/v1/providers", offer | {"version": "1"}, role="provider")

    status, _, grant = answer(await invoked(control, event))
    listed = answer(await invoked(control, get("/v1/models")))

    assert (200, [MODEL]) == (status, list(grant["queues"]))
    assert cloud.settings.tasks_table == grant["tasks_table"]
    assert [MODEL] == [model["id"] for model in listed[2]["data"]]


async def test_a_clients_key_enrols_nobody(cloud: Cloud, function: Callable[..., Function]) -> None:
    offer = {"id": "p7", "models": [{"id": MODEL}], "slots": 2, "running": 0, "healthy": True}

    status, _, _ = answer(
        await invoked(function("control"), post("/v1/providers", offer | {"version": "1"}))
    )

    assert 403 == status


async def test_an_administrator_manages_keys(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    control = function("control")

    async def asked(event: dict[str, Any]) -> tuple[int, Any]:
        event["requestContext"]["authorizer"] |= {"role": "admin", "keyId": "ops"}
        status, _, body = answer(await invoked(control, event))
        cloud.secrets += [body["key"]] if "key" in body else []
        return status, body

    made = (await asked(post("/v1/keys", {"name": "app", "models": ["a*"]})))[1]
    rotated = (await asked(post(f"/v1/keys/{made['id']}/rotate", {})))[1]
    _, listed = await asked(get("/v1/keys"))
    revoked = await asked(get(f"/v1/keys/{made['id']}") | {"httpMethod": "DELETE"})

    key = await cloud.keys.key(made["id"])
    assert key is not None
    assert ("app", ("a*",)) == (key.name, key.models)
    assert (made["id"], 200) == (rotated["id"], revoked[0])
    assert made["key"] != rotated["key"]
    assert [made["id"]] == [one["id"] for one in listed["data"]]
    assert key.revoked_ms is not None


async def test_a_clients_key_manages_none_and_its_scopes_hold(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    control, inference = function("control"), function("inference")
    other = post("/v1/chat/completions", chat(), models="another*")
    tier = post("/v1/chat/completions", chat(), tiers="flex")

    answers = [
        answer(await invoked(control, post("/v1/keys", {"name": "app"}))),
        answer(await invoked(inference, other)),
        answer(await invoked(inference, tier)),
    ]

    codes = [(status, body["error"]["code"]) for status, _, body in answers]
    assert [
        (403, "permission_denied"),
        (404, "model_not_found"),
        (403, "permission_denied"),
    ] == codes


async def test_a_keys_limits_hold_and_an_answer_ends_when_its_tokens_are_settled(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    inference = function("inference")
    event = post("/v1/chat/completions", chat(max_tokens=90), limits="tokens_per_day=150")
    asked = asyncio.create_task(invoked(inference, event))
    task = await cloud.take()
    usage = {"prompt_tokens": 30, "completion_tokens": 31}
    told_by_backend = {"content_type": "application/json", "tail": b"{}", "usage": usage}
    await cloud.store.finish(task, AttemptOutcome(status=200, **told_by_backend))

    first = answer(await asked)
    refused = answer(await invoked(inference, event))
    row = await cloud.rate_counters("key", task.key_id)

    assert (200, "150") == (first[0], first[1]["x-ratelimit-limit-tokens"])
    assert (429, "insufficient_quota") == (refused[0], refused[2]["error"]["code"])
    assert (1, 61, 0) == (row["requests"], row["day_tokens"], row["open"])


async def test_a_setting_that_cant_be_used_is_named_when_the_function_starts(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    control = function("control", INFERLINE_LEASE_SECONDS="soon")
    await asyncio.to_thread(control.process.wait, 30)

    [error] = control.api.init_errors

    assert "INFERLINE_LEASE_SECONDS must be a number" in error["errorMessage"]
