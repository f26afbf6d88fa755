"""OpenAI's Uploads API at a gateway: parts in any order, completion, cancellation, expiry."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import httpx
import pytest
from openai.types import Upload
from openai.types.uploads import UploadPart

from inferline.files.ids import new_id
from tests.support.forms import FORM, form, part
from tests.support.gateway import Gateway

WANTED = {"filename": "lines.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
PIECES = [b"first\n", b"second\n", b"third\n"]
WHOLE = b"".join(PIECES)


def checked(response: httpx.Response) -> Upload:
    """Read an upload as OpenAI's types have it, with nothing beside."""
    assert response.status_code == 200, response.text
    return Upload.model_validate(response.json(), strict=True, extra="forbid")


async def begun(client: httpx.AsyncClient, size: int = len(WHOLE), **fields: Any) -> Upload:
    wanted = {"bytes": size, **WANTED, **fields}
    return checked(await client.post("/v1/uploads", json=wanted))


async def send(client: httpx.AsyncClient, upload: str, data: bytes) -> httpx.Response:
    body = form(part('form-data; name="data"; filename="upload"', data))
    headers = {"content-type": FORM}
    return await client.post(f"/v1/uploads/{upload}/parts", content=body, headers=headers)


async def added(client: httpx.AsyncClient, upload: str, data: bytes) -> str:
    response = await send(client, upload, data)
    made = UploadPart.model_validate(response.json(), strict=True, extra="forbid")
    assert made.upload_id == upload
    return made.id


async def complete(client: httpx.AsyncClient, upload: str, **fields: Any) -> httpx.Response:
    return await client.post(f"/v1/uploads/{upload}/complete", json=fields)


async def test_parts_sent_at_once_make_a_file_in_the_order_of_their_ids(
    client: httpx.AsyncClient,
) -> None:
    upload = await begun(client)
    sent = await asyncio.gather(*(added(client, upload.id, piece) for piece in PIECES[::-1]))

    done = checked(await complete(client, upload.id, part_ids=sent[::-1]))

    assert ("pending", "completed") == (upload.status, done.status)
    assert upload.expires_at == upload.created_at + 3600
    assert done.file is not None
    assert (done.file.bytes, done.file.filename) == (len(WHOLE), "lines.jsonl")
    assert done.file.expires_at == done.file.created_at + 30 * 24 * 3600
    assert (await client.get(f"/v1/files/{done.file.id}/content")).content == WHOLE
    assert [done.file.id] == [f["id"] for f in (await client.get("/v1/files")).json()["data"]]


async def test_completion_checks_md5_and_is_idempotent(client: httpx.AsyncClient) -> None:
    upload = await begun(client, expires_after={"anchor": "created_at", "seconds": 7200})
    sent = [await added(client, upload.id, piece) for piece in PIECES]
    md5 = hashlib.md5(WHOLE, usedforsecurity=False).hexdigest()

    wrong = await complete(client, upload.id, part_ids=sent, md5="0" * 32)
    first = checked(await complete(client, upload.id, part_ids=sent, md5=md5))
    again = checked(await complete(client, upload.id, part_ids=sent, md5=md5))

    assert (400, "md5") == (wrong.status_code, wrong.json()["error"]["param"])
    assert first == again
    assert first.file is not None
    assert first.file.expires_at == first.file.created_at + 7200


async def test_a_repeated_completion_does_not_bring_a_deleted_file_back(
    client: httpx.AsyncClient,
) -> None:
    upload = await begun(client)
    sent = [await added(client, upload.id, piece) for piece in PIECES]
    done = checked(await complete(client, upload.id, part_ids=sent))
    assert done.file is not None
    await client.delete(f"/v1/files/{done.file.id}")

    assert done == checked(await complete(client, upload.id, part_ids=sent))

    assert 404 == (await client.get(f"/v1/files/{done.file.id}")).status_code


@pytest.mark.parametrize("name", ["too short", "unknown", "twice", "none"])
async def test_parts_that_do_not_fit_are_refused(client: httpx.AsyncClient, name: str) -> None:
    upload = await begun(client)
    sent = [await added(client, upload.id, piece) for piece in PIECES]
    part_ids = {
        "too short": sent[:2],
        "unknown": [*sent[:2], new_id("part_", 1)],
        "twice": [*sent, sent[0]],
        "none": [],
    }[name]

    response = await complete(client, upload.id, part_ids=part_ids)

    assert (400, "part_ids") == (response.status_code, response.json()["error"]["param"])
    checked(await complete(client, upload.id, part_ids=sent))


async def test_a_cancelled_upload_is_over_and_its_bytes_are_gone(
    client: httpx.AsyncClient, gateway: Gateway
) -> None:
    upload = await begun(client)
    sent = await added(client, upload.id, PIECES[0])

    statuses = [
        checked(await client.post(f"/v1/uploads/{upload.id}/cancel")).status for _ in range(2)
    ]

    assert ["cancelled"] * 2 == statuses
    assert 400 == (await complete(client, upload.id, part_ids=[sent])).status_code
    assert 400 == (await send(client, upload.id, PIECES[0])).status_code
    assert {} == gateway.parts.objects._objects  # type: ignore[attr-defined]


async def test_a_completed_upload_is_not_cancelled(client: httpx.AsyncClient) -> None:
    upload = await begun(client, len(PIECES[0]))
    sent = await added(client, upload.id, PIECES[0])
    await complete(client, upload.id, part_ids=[sent])

    refused = await client.post(f"/v1/uploads/{upload.id}/cancel")

    assert 400 == refused.status_code
    assert "completed" in refused.json()["error"]["message"]


async def test_an_upload_expires(client: httpx.AsyncClient, gateway: Gateway) -> None:
    upload = await begun(client)
    row = await gateway.parts.uploads.upload("local", upload.id)
    assert row is not None
    await gateway.parts.uploads.put_upload(replace(row, expires_ms=row.created_ms))

    answers = [
        await send(client, upload.id, PIECES[0]),
        await complete(client, upload.id, part_ids=["part_x"]),
        await client.post(f"/v1/uploads/{upload.id}/cancel"),
    ]

    assert [400] * 3 == [answer.status_code for answer in answers]
    assert all("expired" in answer.json()["error"]["message"] for answer in answers)


async def test_parts_have_their_bounds(client: httpx.AsyncClient, gateway: Gateway) -> None:
    upload = await begun(client, 5)

    answers = [await send(client, upload.id, b"12345") for _ in range(3)]

    assert [200, 200, 400] == [answer.status_code for answer in answers]
    assert 2 == len(gateway.parts.objects._objects)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": 10**12}, "bytes"),
        ({"bytes": "5"}, "bytes"),
        ({"purpose": "fun"}, "purpose"),
        ({"filename": "x" * 600}, "filename"),
        ({"filename": "a\nb"}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "x", "seconds": 3600}}, "expires_after.anchor"),
    ],
)
async def test_bad_input_says_which_field_it_is(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await client.post("/v1/uploads", json={"bytes": 5, **WANTED, **fields})

    assert (400, param) == (response.status_code, response.json()["error"]["param"])


async def test_unknown_uploads_are_not_found(client: httpx.AsyncClient) -> None:
    unknown = new_id("upload_", 1)
    answers = [
        await send(client, unknown, b"x"),
        await complete(client, unknown, part_ids=["part_x"]),
        await client.post(f"/v1/uploads/{unknown}/cancel"),
    ]

    assert [(404, "file_not_found")] * 3 == [
        (answer.status_code, answer.json()["error"]["code"]) for answer in answers
    ]
