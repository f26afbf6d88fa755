"""openai-python, unchanged, at a gateway's files: what its users do with them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import openai
import pytest

from tests.support.gateway import Gateway, running_gateway

T = TypeVar("T")
LINES = b'{"custom_id": "a"}\n' * 1000
#: What the SDK cuts a file into, so that a part passes through Lambda.
PART_BYTES = 3 * 1024 * 1024


@pytest.fixture
def sdk(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """Yield the SDK's synchronous client. It has to run in a thread of its own."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        yield client


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


@pytest.mark.parametrize("form", ["a path", "bytes", "BytesIO"])
async def test_a_file_is_uploaded_and_read_back(
    sdk: openai.OpenAI, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(LINES)
    file = {"a path": path, "bytes": LINES, "BytesIO": io.BytesIO(LINES)}[form]

    def use() -> None:
        made = sdk.files.create(file=file, purpose="batch")  # type: ignore[arg-type]

        assert made.filename == ("lines.jsonl" if form == "a path" else "upload")
        assert sdk.files.wait_for_processing(made.id).status == "processed"
        assert sdk.files.retrieve(made.id) == made
        assert sdk.files.content(made.id).read() == LINES
        assert sdk.files.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            sdk.files.retrieve(made.id)

    await in_thread(use)


async def test_an_expiry_is_passed_on(sdk: openai.OpenAI) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}

    made = await in_thread(
        lambda: sdk.files.create(
            file=LINES,
            purpose="user_data",
            expires_after=expiry,  # type: ignore[arg-type]
        )
    )

    assert made.expires_at == made.created_at + 3600


async def test_lists_are_read_over_three_pages(sdk: openai.OpenAI) -> None:
    def use() -> None:
        made = [sdk.files.create(file=LINES, purpose="batch").id for _ in range(5)]

        assert sorted(made, reverse=True) == [file.id for file in sdk.files.list(limit=2)]
        assert sorted(made) == [file.id for file in sdk.files.list(limit=2, order="asc")]
        assert [] == list(sdk.files.list(purpose="vision"))

    await in_thread(use)


async def test_a_file_is_uploaded_in_parts(sdk: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    content = LINES * 500
    path.write_bytes(content)

    def use() -> None:
        upload = sdk.uploads.upload_file_chunked(
            file=path, mime_type="application/jsonl", purpose="batch", part_size=PART_BYTES
        )

        assert upload.status == "completed"
        assert upload.file is not None
        assert upload.file.filename == "lines.jsonl"
        assert sdk.files.content(upload.file.id).read() == content

    await in_thread(use)


async def test_the_asynchronous_client_streams_a_content(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x") as client:
        made = await client.files.create(file=("a.jsonl", LINES), purpose="batch")
        async with client.files.with_streaming_response.content(made.id) as response:
            pieces = [piece async for piece in response.iter_bytes()]

    assert b"".join(pieces) == LINES


async def test_a_file_that_is_too_large_is_refused_with_the_reason() -> None:
    def use(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            with pytest.raises(openai.APIStatusError, match="1000 bytes at most") as refused:
                client.files.create(file=b"x" * 50_000_000, purpose="batch")
            assert refused.value.status_code == 413

    async with running_gateway(file_bytes_max=1000) as gateway:
        await in_thread(lambda: use(gateway.url))
