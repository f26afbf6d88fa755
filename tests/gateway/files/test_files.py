"""OpenAI's Files API at a gateway: uploads however they are framed, lists, contents, deletion."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from openai.types import FileDeleted, FileObject

from inferline.accounts.keys import new_key
from inferline.files.content import SEGMENT_BYTES
from inferline.files.ids import new_id
from inferline.gateway.files import receiving
from tests.support.forms import BOUNDARY, FORM, field, form, part
from tests.support.gateway import Gateway, running_gateway

DAY = 24 * 3600
LINES = b'{"custom_id": "1"}\r\n\n--0b0e8a3\r\n--\xff\x00' * 3


def file(value: bytes = LINES, filename: str = "lines.jsonl") -> bytes:
    return part(f'form-data; name="file"; filename="{filename}"', value)


async def send(client: httpx.AsyncClient, *parts: bytes, **options: Any) -> httpx.Response:
    headers = {"content-type": FORM, **options.pop("headers", {})}
    return await client.post("/v1/files", content=form(*parts), headers=headers, **options)


async def created(client: httpx.AsyncClient, *parts: bytes, **options: Any) -> FileObject:
    response = await send(client, *parts, **options)
    assert response.status_code == 200, response.text
    return checked(response.json())


def checked(answer: dict[str, Any]) -> FileObject:
    """Read a file as OpenAI's types have it, with nothing beside."""
    return FileObject.model_validate(answer, strict=True, extra="forbid")


async def test_a_file_is_there_at_once_and_for_thirty_days(client: httpx.AsyncClient) -> None:
    before = int(time.time())

    made = await created(client, field("purpose", "batch"), file())

    assert made.bytes == len(LINES)
    assert made.filename == "lines.jsonl"
    assert (made.purpose, made.status, made.status_details) == ("batch", "processed", None)
    assert before <= made.created_at <= time.time()
    assert made.expires_at == made.created_at + 30 * DAY
    assert made == checked((await client.get(f"/v1/files/{made.id}")).json())
    content = await client.get(f"/v1/files/{made.id}/content")
    assert content.content == LINES
    assert content.headers["content-length"] == str(len(LINES))


async def test_fields_come_in_any_order_and_in_any_pieces(client: httpx.AsyncClient) -> None:
    body = form(
        file(),
        field("purpose", "user_data"),
        field("expires_after[anchor]", "created_at"),
        field("expires_after[seconds]", "3600"),
    )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    response = await client.post("/v1/files", content=pieces(), headers={"content-type": FORM})

    made = checked(response.json())
    assert "content-length" not in response.request.headers
    assert made.expires_at == made.created_at + 3600
    assert (await client.get(f"/v1/files/{made.id}/content")).content == LINES


async def test_a_nameless_file_is_called_upload(client: httpx.AsyncClient) -> None:
    nameless = part('form-data; name="file"', LINES)

    made = await created(client, nameless, field("purpose", "batch"))

    assert made.filename == "upload"


async def test_a_name_keeps_its_letters(client: httpx.AsyncClient, gateway: Gateway) -> None:
    made = await created(client, file(filename="Zeilen ä 行.jsonl"), field("purpose", "batch"))

    assert made.filename == "Zeilen ä 行.jsonl"
    content = await client.get(f"/v1/files/{made.id}/content")
    assert "filename*=UTF-8''Zeilen%20%C3%A4%20" in content.headers["content-disposition"]


async def test_a_large_file_is_kept_in_segments(
    client: httpx.AsyncClient, gateway: Gateway
) -> None:
    lines = b"x" * (2 * SEGMENT_BYTES + 2**21)

    made = await created(client, field("purpose", "batch"), file(lines))

    objects = gateway.parts.objects._objects  # type: ignore[attr-defined]
    sizes = [len(value) for key, value in objects.items() if not key.endswith("json")]
    assert len(sizes) == 3
    assert sum(sizes) == len(lines)
    assert max(sizes) < SEGMENT_BYTES + 2**20
    assert (await client.get(f"/v1/files/{made.id}/content")).content == lines


async def test_an_empty_file_is_a_file(client: httpx.AsyncClient) -> None:
    made = await created(client, field("purpose", "batch"), file(b""))

    assert made.bytes == 0
    assert (await client.get(f"/v1/files/{made.id}/content")).content == b""


async def test_head_gives_the_length_of_a_content(client: httpx.AsyncClient) -> None:
    made = await created(client, field("purpose", "batch"), file())

    head = await client.head(f"/v1/files/{made.id}/content")

    assert head.status_code == 200
    assert head.headers["content-length"] == str(len(LINES))


async def test_pages_end_when_there_is_no_more(client: httpx.AsyncClient) -> None:
    ids = [(await created(client, field("purpose", "batch"), file())).id for _ in range(4)]

    first = (await client.get("/v1/files", params={"limit": 2})).json()
    second = (await client.get("/v1/files?limit=2", params={"after": first["last_id"]})).json()
    third = (await client.get("/v1/files?limit=2", params={"after": second["last_id"]})).json()

    assert sorted(ids, reverse=True) == [f["id"] for f in (*first["data"], *second["data"])]
    assert [True, False] == [first["has_more"], second["has_more"]]
    assert (first["object"], first["first_id"]) == ("list", first["data"][0]["id"])
    assert {"object", "data", "first_id", "last_id", "has_more"} == set(first)
    assert ([], None, None, False) == tuple(
        third[name] for name in ("data", "first_id", "last_id", "has_more")
    )


async def test_lists_are_ordered_and_filtered(client: httpx.AsyncClient) -> None:
    batch = await created(client, field("purpose", "batch"), file())
    other = await created(client, field("purpose", "vision"), file())

    by_age = (await client.get("/v1/files?order=asc")).json()["data"]
    of_batches = (await client.get("/v1/files?purpose=batch")).json()["data"]

    assert sorted([batch.id, other.id]) == [each["id"] for each in by_age]
    assert [batch.id] == [each["id"] for each in of_batches]


async def test_a_deleted_file_and_its_bytes_are_gone(
    client: httpx.AsyncClient, gateway: Gateway
) -> None:
    made = await created(client, field("purpose", "batch"), file())

    answer = (await client.delete(f"/v1/files/{made.id}")).json()

    assert FileDeleted(id=made.id, object="file", deleted=True) == FileDeleted(**answer)
    assert 404 == (await client.get(f"/v1/files/{made.id}")).status_code
    assert 404 == (await client.delete(f"/v1/files/{made.id}")).status_code
    assert {} == gateway.parts.objects._objects  # type: ignore[attr-defined]


async def test_unknown_ids_are_not_found(client: httpx.AsyncClient) -> None:
    unknown = new_id("file-", 1)
    answers = [
        await client.get(f"/v1/files/{unknown}"),
        await client.get(f"/v1/files/{unknown}/content"),
        await client.delete(f"/v1/files/{unknown}"),
        await client.get("/v1/files/file-ABC"),
    ]

    assert [404] * 4 == [answer.status_code for answer in answers]
    error = answers[0].json()["error"]
    assert error["message"].startswith(f"No such File object: {unknown}")
    assert ("invalid_request_error", "file_not_found") == (error["type"], error["code"])


BAD = {
    "no purpose": ([file()], "purpose"),
    "another purpose": ([file(), field("purpose", "fun")], "purpose"),
    "no file": ([field("purpose", "batch")], "file"),
    "two files": ([file(), file(), field("purpose", "batch")], "file"),
    "a purpose twice": ([file(), field("purpose", "batch"), field("purpose", "evals")], "purpose"),
    "a long field": ([field("x", "y" * 5000), field("purpose", "batch"), file()], None),
    "many fields": ([*(field(f"x{i}", "y") for i in range(40)), file()], None),
    "a long name": ([file(filename="n" * 600), field("purpose", "batch")], "filename"),
    "no anchor": (
        [field("purpose", "batch"), field("expires_after[seconds]", "3600"), file()],
        "expires_after[anchor]",
    ),
    "a short life": (
        [
            *(field("purpose", "batch"), field("expires_after[anchor]", "created_at")),
            *(field("expires_after[seconds]", "3599"), file()),
        ],
        "expires_after[seconds]",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_says_which_field_it_is_and_leaves_nothing(
    client: httpx.AsyncClient, gateway: Gateway, name: str
) -> None:
    parts, param = BAD[name]

    response = await send(client, *parts)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert [] == (await client.get("/v1/files")).json()["data"]
    assert {} == gateway.parts.objects._objects  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"file": "x"}'),
        ("multipart/form-data", form(file(), field("purpose", "batch"))),
        (FORM, form(file(), field("purpose", "batch"))[:-30]),
        (FORM, b"no form"),
        (FORM, b""),
        (f"multipart/form-data; boundary={BOUNDARY}1", form(file(), field("purpose", "batch"))),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    client: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    response = await client.post("/v1/files", content=body, headers={"content-type": content_type})

    assert response.status_code == 400, response.text


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "order=up", "after=x", "after=file-1"])
async def test_a_bad_query_is_refused_with_its_name(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/v1/files?{query}")

    assert response.status_code == 400
    assert query.partition("=")[0] in response.json()["error"]["param"]


@pytest.fixture
async def small() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a gateway that takes files of 100 KB and other bodies of 1 KB."""
    async with (
        running_gateway(file_bytes_max=100_000, body_bytes_max=1000) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        yield client


async def test_a_file_may_be_larger_than_other_bodies(small: httpx.AsyncClient) -> None:
    made = await created(small, field("purpose", "batch"), file(b"x" * 100_000))

    assert made.bytes == 100_000


@pytest.mark.parametrize("framed", ["with a length", "chunked", "as an endless field of the form"])
async def test_a_file_beyond_the_bound_is_413(small: httpx.AsyncClient, framed: str) -> None:
    body = form(field("purpose", "batch"), file(b"x" * 100_001))
    if framed == "as an endless field of the form":
        body = form(field("purpose", "batch"), file()) + b"x" * 1_000_000

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 9999] for start in range(0, len(body), 9999))

    async def chunked() -> AsyncIterator[bytes]:
        for piece in pieces():
            yield piece

    content: Any = body if framed == "with a length" else chunked()
    response = await small.post("/v1/files", content=content, headers={"content-type": FORM})

    assert response.status_code == 413
    assert "100000 bytes" in response.json()["error"]["message"]
    assert [] == (await small.get("/v1/files")).json()["data"]


async def test_what_the_edge_cannot_carry_is_413_with_all_ways(gateway: Gateway) -> None:
    async def at_edge(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"body_bytes_max": 10}
        await gateway.app(scope, receive, send)

    transport = httpx.ASGITransport(at_edge)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await send(client, field("purpose", "batch"), file())

    assert response.status_code == 413
    message = response.json()["error"]["message"]
    for way in ("upload_file_chunked", "3 MiB", "inferline batches upload", "container"):
        assert way in message


async def test_compressed_forms_are_unpacked_or_refused_clearly(
    small: httpx.AsyncClient,
) -> None:
    packed = {"content-type": FORM, "content-encoding": "gzip"}
    purpose = field("purpose", "batch")
    short, long = (gzip.compress(form(purpose, file(b"x" * n))) for n in (10, 5000))

    answers = [await small.post("/v1/files", content=b, headers=packed) for b in (short, long)]

    assert [200, 413] == [answer.status_code for answer in answers]
    assert "uncompressed" in answers[1].json()["error"]["message"]


async def test_no_more_files_at_once_than_there_is_room_for(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    made = await created(client, field("purpose", "batch"), file())
    limit = gateway.parts.settings.file_transfers_max

    with ExitStack() as others:
        for _ in range(limit):
            others.enter_context(gateway.app.transfers.admitted())
        answers = [
            await send(client, field("purpose", "batch"), file()),
            await client.get(f"/v1/files/{made.id}/content"),
        ]

    assert [503, 503] == [answer.status_code for answer in answers]


async def test_a_client_that_falls_silent_is_sent_away(
    client: httpx.AsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SILENCE_SECONDS_MAX", 0.05)
    answered = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield form(field("purpose", "batch"), file())[:300]
        await answered.wait()

    sending = asyncio.create_task(
        client.post("/v1/files", content=silent(), headers={"content-type": FORM})
    )
    while not gateway.app.transfers._running:  # noqa: ASYNC110  # it is no event
        await asyncio.sleep(0.01)
    while gateway.app.transfers._running:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    answered.set()

    assert 400 == (await sending).status_code


async def test_a_client_that_leaves_leaves_nothing_behind(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SEGMENT_BYTES", 10)
    body = form(field("purpose", "batch"), file())

    async def broken() -> AsyncIterator[bytes]:
        yield body[:300]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await client.post("/v1/files", content=broken(), headers={"content-type": FORM})

    assert [] == (await client.get("/v1/files")).json()["data"]
    state = gateway.app.transfers
    while state._running:  # noqa: ASYNC110  # it is no event
        await asyncio.sleep(0.01)
    assert {} == gateway.parts.objects._objects  # type: ignore[attr-defined]


@pytest.fixture
async def locked() -> AsyncIterator[Gateway]:
    """Yield a gateway that asks for keys."""
    async with running_gateway(access="keys") as running:
        yield running


async def client_of(gateway: Gateway, tenant: str) -> httpx.AsyncClient:
    key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
    await gateway.keys.put_key(key)
    headers = {"authorization": f"Bearer {text}"}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers)


async def test_a_tenant_sees_only_its_own_files(locked: Gateway) -> None:
    async with await client_of(locked, "acme") as owner, await client_of(locked, "a/..") as other:
        made = await created(owner, field("purpose", "batch"), file())

        answers = [
            await other.get(f"/v1/files/{made.id}"),
            await other.get(f"/v1/files/{made.id}/content"),
            await other.delete(f"/v1/files/{made.id}"),
        ]

        assert [404] * 3 == [answer.status_code for answer in answers]
        assert [] == (await other.get("/v1/files")).json()["data"]
        assert LINES == (await owner.get(f"/v1/files/{made.id}/content")).content


async def test_a_tenants_name_does_not_lead_out_of_its_folder(locked: Gateway) -> None:
    async with await client_of(locked, "../b/./c") as client:
        made = await created(client, field("purpose", "batch"), file())

        keys = list(locked.parts.objects._objects)  # type: ignore[attr-defined]
        assert [("files", 3)] * 2 == [(key.split("/")[0], key.count("/")) for key in keys]
        assert not any(".." in key for key in keys)
        assert LINES == (await client.get(f"/v1/files/{made.id}/content")).content


async def test_a_key_is_asked_for_before_the_file_is_read(locked: Gateway) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000
            await asyncio.sleep(0.05)

    async with httpx.AsyncClient(base_url=locked.url) as client:
        response = await client.post("/v1/files", content=endless(), headers={"content-type": FORM})

    assert 401 == response.status_code
