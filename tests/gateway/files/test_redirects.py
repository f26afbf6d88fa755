"""Contents at an edge that can't carry them: 307 to an address of S3, in the way of Lambda."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from inferline.gateway.app import GatewayApp, open_gateway
from inferline.settings import Settings
from tests.support.emulators import running
from tests.support.forms import FORM, field, form, part

#: What a client cuts a file into, so that a part passes through Lambda.
PART_BYTES = 3 * 1024 * 1024


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with running("ministack") as url:
        yield url


@pytest.fixture
async def app(emulator: str) -> AsyncIterator[GatewayApp]:
    async with open_gateway(Settings(endpoint_url=emulator)) as opened:
        yield opened


@pytest.fixture
async def client(app: GatewayApp) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a gateway behind an edge as on AWS."""

    async def at_edge(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"body_bytes_max": PART_BYTES + 9999, "redirects_files": True}
        await app(scope, receive, send)

    transport = httpx.ASGITransport(at_edge)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway/v1") as http:
        yield http


async def uploaded(client: httpx.AsyncClient, pieces: list[bytes]) -> str:
    """Upload a file in parts. Return its id."""
    size = sum(map(len, pieces))
    about = {"filename": "a b.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
    upload = (await client.post("/uploads", json={"bytes": size, **about})).json()["id"]
    part_ids = []
    for piece in pieces:
        body = form(part('form-data; name="data"; filename="upload"', piece))
        headers = {"content-type": FORM}
        sent = await client.post(f"/uploads/{upload}/parts", content=body, headers=headers)
        part_ids.append(sent.json()["id"])
    done = await client.post(f"/uploads/{upload}/complete", json={"part_ids": part_ids})
    file_id: str = done.json()["file"]["id"]
    return file_id


async def read(response: httpx.Response) -> bytes:
    assert response.status_code == 307, response.text
    async with httpx.AsyncClient() as anybody:
        content = await anybody.get(response.headers["location"])
    assert content.status_code == 200, content.text
    return content.content


async def test_a_file_of_many_parts_is_composed_once(
    app: GatewayApp, client: httpx.AsyncClient
) -> None:
    pieces = [bytes([number]) * PART_BYTES for number in range(4)] + [b"rest"]
    file_id = await uploaded(client, pieces)

    first = await read(await client.get(f"/files/{file_id}/content"))
    composed = app.parts.client.calls["s3", "CompleteMultipartUpload"]
    again = await read(await client.get(f"/files/{file_id}/content"))

    assert first == again == b"".join(pieces)
    assert 1 == composed == app.parts.client.calls["s3", "CompleteMultipartUpload"]
    assert 3 == app.parts.client.calls["s3", "UploadPart"]


async def test_a_file_of_one_part_is_read_where_it_is(
    app: GatewayApp, client: httpx.AsyncClient
) -> None:
    file_id = await uploaded(client, [b"all"])

    response = await client.get(f"/files/{file_id}/content")

    assert b"all" == await read(response)
    assert "no-store" == response.headers["cache-control"]
    assert 0 == app.parts.client.calls["s3", "CompleteMultipartUpload"]


async def test_an_empty_file_is_read(client: httpx.AsyncClient) -> None:
    body = form(field("purpose", "batch"), part('form-data; name="file"', b""))
    made = await client.post("/files", content=body, headers={"content-type": FORM})

    assert b"" == await read(await client.get(f"/files/{made.json()['id']}/content"))


async def test_a_deleted_file_is_gone_from_its_address_too(
    app: GatewayApp, client: httpx.AsyncClient
) -> None:
    file_id = await uploaded(client, [b"a" * PART_BYTES, b"b"])
    response = await client.get(f"/files/{file_id}/content")
    await read(response)

    await client.delete(f"/files/{file_id}")

    async with httpx.AsyncClient() as anybody:
        assert 404 == (await anybody.get(response.headers["location"])).status_code
