"""The streaming path: the app as run.sh starts it, with what the Lambda Web Adapter sends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferline.tasks.store import AttemptOutcome
from tests.support import emulators, runtime_api
from tests.support.cloud import Cloud, chat

SCRIPT = runtime_api.ROOT / "functions" / "run.sh"


@pytest.fixture
def server(cloud: Cloud) -> Iterator[Callable[[], str]]:
    """Start run.sh as the adapter does, yield its address, and check the log at the end."""
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())

        def start() -> str:
            port = emulators.free_port()
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            process = subprocess.Popen(
                [str(SCRIPT)],
                cwd="/",
                env=runtime_api.environment("inference")
                | cloud.environ
                | {"PATH": path, "AWS_LWA_PORT": str(port)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            stack.callback(emulators.end, process)
            assert emulators.answers(port, process)
            return f"http://127.0.0.1:{port}"

        yield start
        log.seek(0)
        output = log.read().decode()
    for secret in cloud.secrets:
        assert secret not in output


def headers(seconds: float = 60.0, **authorizer: str) -> dict[str, str]:
    """Return what the adapter adds; ``seconds`` are those until the function's timeout."""
    who = {"principalId": "k", "keyId": "k", "role": "client", "tenant": "acme", "models": "*"}
    request = {"stage": "api", "requestId": "made-up", "authorizer": who | authorizer}
    function = {"request_id": "made-up", "deadline": round((time.time() + seconds) * 1000)}
    return {
        "x-amzn-request-context": json.dumps(request),
        "x-amzn-lambda-context": json.dumps(function),
    }


class Asking:
    """A stream that a client reads, with its first event there."""

    def __init__(self, client: httpx.AsyncClient, cloud: Cloud, variables: dict[str, str]) -> None:
        self._request = client.build_request(
            "POST", "/v1/chat/completions", json=chat(stream=True), headers=variables
        )
        self._client, self._cloud = client, cloud
        self.task: Any = None

    async def __aenter__(self) -> Asking:
        sent = asyncio.create_task(self._client.send(self._request, stream=True))
        self.task = await self._cloud.take()
        await self._cloud.write(self.task, 0, b'data: {"n": 1}\n\n')
        self._response = await sent
        assert 200 == self._response.status_code
        self._lines = (line async for line in self._response.aiter_lines() if line)
        return self

    async def next_line(self) -> str:
        """Return the next line that is not empty."""
        return await anext(self._lines)

    async def __aexit__(self, *_: object) -> None:
        await self._response.aclose()


async def test_a_stream_flows_as_it_is_written(cloud: Cloud, server: Callable[[], str]) -> None:
    await cloud.know()
    url = server()
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        Asking(client, cloud, headers(tenant="globex")) as asking,
    ):
        task = asking.task
        assert "globex" == task.tenant
        first = await asking.next_line()
        await cloud.write(task, 1, b'data: {"n": 2}\n\n')
        second = await asking.next_line()
        await cloud.store.finish(
            task,
            AttemptOutcome(
                status=200, content_type="text/event-stream", chunks=2, tail=b"data: [DONE]\n\n"
            ),
        )
        last = await asking.next_line()

        written = (await cloud.minutes()).requests

    assert ['data: {"n": 1}', 'data: {"n": 2}', "data: [DONE]"] == [first, second, last]
    assert 1 == written  # When its last piece is out, Lambda may freeze the function.


async def test_a_stream_that_outlasts_the_function_ends_with_an_error_event(
    cloud: Cloud, server: Callable[[], str]
) -> None:
    await cloud.know()
    url = server()
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        Asking(client, cloud, headers(seconds=7.0)) as asking,
    ):
        await asking.next_line()
        last = await asking.next_line()

    assert "deadline_exceeded" == json.loads(last.removeprefix("data: "))["error"]["code"]


async def test_an_answer_that_outlasts_the_function_is_a_504_not_to_be_repeated(
    cloud: Cloud, server: Callable[[], str]
) -> None:
    await cloud.know()
    url = server()

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        response = await client.post(
            "/v1/chat/completions", json=chat(), headers=headers(seconds=6.0)
        )

    assert (504, "false") == (response.status_code, response.headers["x-should-retry"])
    assert "deadline_exceeded" == response.json()["error"]["code"]


async def test_without_an_authorizer_a_key_is_asked_for(
    cloud: Cloud, server: Callable[[], str]
) -> None:
    await cloud.know()
    _, text = await cloud.key()
    url = server()
    anonymous = headers() | {"x-amzn-request-context": "{}"}

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        nobody = await client.get("/v1/models", headers=anonymous)
        somebody = await client.get(
            "/v1/models", headers=anonymous | {"authorization": f"Bearer {text}"}
        )

    assert [401, 200] == [nobody.status_code, somebody.status_code]


def test_the_script_can_be_run_where_it_is_unpacked() -> None:
    text = SCRIPT.read_bytes()

    assert b"\r" not in text
    assert text.startswith(b"#!/bin/sh\n")
    assert os.access(SCRIPT, os.X_OK)
