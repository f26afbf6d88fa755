"""What a gateway refuses for its contents, and that the rest is left as it came."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.support.gateway import MODEL, Gateway, running_gateway

IMAGE = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}


def asking(path: str, part: dict[str, Any]) -> dict[str, Any]:
    field = "input" if path == "/v1/responses" else "messages"
    return {"model": MODEL, field: [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_address_is_refused_before_anything_is_stored(
    gateway: Gateway, client: httpx.AsyncClient, path: str, stream: bool
) -> None:
    asked = asking(path, IMAGE)

    response = await client.post(path, json={**asked, "stream": stream})

    told = response.json()["error"]
    assert (400, "address_not_allowed") == (response.status_code, told["code"])
    assert told["param"].endswith("[0].content[0].image_url.url")
    assert "169.254" not in response.text
    assert {} == gateway.store._tasks


async def test_what_only_looks_alike_goes_to_the_backend_byte_for_byte(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    sent = (
        b'{ "model" :"test-model","tools":[{"function":{"parameters":{"properties":'
        b'{"image\\u005furl":{"default":"http://a"}}}}}] , "messages":[{"content":[{"image_url":'
        b'{"url":"data:image\\/png;base64,iVBO"}}]}],"x_unknown":1.0e0}\n'
    )
    asked = asyncio.create_task(client.post("/v1/chat/completions", content=sent))

    taken = await gateway.take()

    assert sent == taken.body
    await taken.finish(tail=b"{}")
    await asked


async def test_what_an_operator_has_set_is_what_holds() -> None:
    listed = asking("", {"image_url": {"url": "https://a.example/x.png"}})
    async with (
        running_gateway(remote_hosts="a.example", choices_max=1) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=listed))
        taken = await gateway.take()
        assert listed == json.loads(taken.body or b"")
        await taken.finish(tail=b"{}")
        assert 200 == (await asked).status_code

        refused = await client.post("/v1/chat/completions", json={"model": MODEL, "n": 2})

    assert "limit_exceeded" == refused.json()["error"]["code"]
