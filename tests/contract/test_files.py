"""Descriptions of files, and objects, on each of their stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx

from inferline.files.file import StoredFile
from inferline.files.ids import is_id, new_id

HOUR_MS = 3_600_000


def new_file(now_ms: int, at: int = 0, **fields: Any) -> StoredFile:
    file = StoredFile(
        id=new_id("file-", now_ms + at),
        tenant="t",
        bytes=5,
        created_ms=now_ms + at,
        expires_ms=now_ms + HOUR_MS,
        filename="lines.jsonl",
        purpose="batch",
    )
    return replace(file, **fields)


async def test_a_file_is_read_back_by_its_tenant_alone(seams: Any) -> None:
    file = new_file(seams.store.now_ms())
    await seams.files.put_file(file)

    assert is_id(file.id)
    assert file == await seams.files.file("t", file.id)
    assert await seams.files.file("other", file.id) is None


async def test_an_expired_file_is_gone(seams: Any) -> None:
    now_ms = seams.store.now_ms()
    file = new_file(now_ms, expires_ms=now_ms - 1)
    await seams.files.put_file(file)

    assert await seams.files.file("t", file.id) is None
    assert await seams.files.files("t", limit=10) == []


async def test_files_are_listed_page_by_page_both_ways(seams: Any) -> None:
    now_ms = seams.store.now_ms()
    files = [new_file(now_ms, at) for at in range(5)]
    for file in files:
        await seams.files.put_file(file)
    newest_first = files[::-1]

    assert newest_first[:2] == await seams.files.files("t", limit=2)
    assert newest_first[2:4] == await seams.files.files("t", limit=2, after=newest_first[1].id)
    assert files[3:] == await seams.files.files("t", limit=9, after=files[2].id, ascending=True)


async def test_a_list_goes_on_behind_a_file_that_was_deleted(seams: Any) -> None:
    files = [new_file(seams.store.now_ms(), at) for at in range(3)]
    for file in files:
        await seams.files.put_file(file)
    assert await seams.files.delete_file("t", files[1].id)
    assert not await seams.files.delete_file("t", files[1].id)

    assert files[:1] == await seams.files.files("t", limit=9, after=files[1].id)


async def test_files_are_listed_by_purpose_however_many_others_there_are(seams: Any) -> None:
    now_ms = seams.store.now_ms()
    wanted = new_file(now_ms, purpose="user_data")
    await seams.files.put_file(wanted)
    for at in range(1, 120):
        await seams.files.put_file(new_file(now_ms, at))

    assert [wanted] == await seams.files.files("t", limit=1, purpose="user_data")


async def test_pieces_are_composed_to_one_object(seams: Any) -> None:
    pieces = [bytes([number]) * 5 * 2**20 for number in range(2)] + [b"rest"]

    async def arriving() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    await seams.objects.compose("files/t/whole", arriving())

    assert b"".join(pieces) == await seams.objects.get("files/t/whole")


async def test_an_object_is_read_by_anybody_at_its_presigned_address(seams: Any) -> None:
    await seams.objects.put("files/t/a b/0", b"bytes")

    url = await seams.objects.presigned_url("files/t/a b/0", filename="ä 1.jsonl", seconds=60)

    if url is None:
        return  # In memory objects have no addresses.
    async with httpx.AsyncClient() as client:
        response = await client.get(url)
    assert (200, b"bytes") == (response.status_code, response.content)


async def test_objects_are_replaced_and_deleted(seams: Any) -> None:
    await seams.objects.put("files/t/a b/0", b"first")
    await seams.objects.put("files/t/a b/0", b"second")
    assert await seams.objects.get("files/t/a b/0") == b"second"

    await seams.objects.delete(["files/t/a b/0", "files/t/none"])
