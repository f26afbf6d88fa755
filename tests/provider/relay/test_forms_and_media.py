"""Forms, texts, sounds and queries, from a task to its backend and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from inferline.tasks.task import State, Task
from inferline_provider.relay.alias import rename_in_query, rename_in_request
from tests.provider.world import World, world
from tests.support.forms import FORM, field, file, form, part
from tests.support.media import SOUND, MediaBackend

HEARD = "/v1/audio/transcriptions"
SPOKEN = "/v1/audio/speech"
SENT = form(file(), field("model", "test-model"))


async def hear(around: World, sent: bytes = SENT, **more: Any) -> Task:
    given = {"path": HEARD, "form": sent, "headers": {"content-type": FORM}}
    return await around.ended(await around.submit(**given | more))


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_form_reaches_the_backend_byte_for_byte(keyed: bool) -> None:
    async with world(backend := MediaBackend()) as around:
        row = await hear(around, keyed=keyed)

    assert (State.DONE, 200) == (row.state, row.status)
    assert (SENT, FORM) == (backend.received[0].body, backend.received[0].headers["content-type"])
    assert {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7} == row.usage


@pytest.mark.parametrize(
    ("wanted", "content_type"),
    [("text", "text/plain"), ("srt", "application/x-subrip"), ("vtt", "text/vtt")],
)
async def test_a_transcript_comes_as_the_text_that_was_asked_for(
    wanted: str, content_type: str
) -> None:
    async with world(MediaBackend()) as around:
        row = await hear(around, form(field("response_format", wanted), SENT[:-14]))

    assert row.content_type.startswith(content_type)
    assert row.tail.startswith(b"test-model heard")


async def test_a_streamed_transcript_is_a_stream() -> None:
    async with world(MediaBackend()) as around:
        row = await hear(around, form(field("stream", "true"), SENT[:-14]))

        assert (State.DONE, "text/event-stream") == (row.state, row.content_type)
        assert 2 == around.answer(row).count(b"data: ")


async def test_a_sound_comes_back_byte_for_byte() -> None:
    async with world(MediaBackend()) as around:
        row = await around.ended(await around.submit({"input": "Hi"}, path=SPOKEN))

        assert ("audio/mpeg", SOUND) == (row.content_type, around.answer(row))


@pytest.mark.parametrize("content_type", ["application/ogg", "audio/x-aiff", "video/mp4"])
async def test_a_sound_of_an_unusual_kind_goes_out_as_bytes(content_type: str) -> None:
    backend = MediaBackend()
    backend.scripted = lambda: web.Response(body=SOUND, content_type=content_type)
    async with world(backend) as around:
        row = await around.ended(await around.submit({"input": "Hi"}, path=SPOKEN))

        assert ("application/octet-stream", SOUND) == (row.content_type, around.answer(row))


async def test_a_text_that_a_server_calls_a_page_goes_out_as_a_text() -> None:
    backend = MediaBackend()
    backend.scripted = lambda: web.Response(text=" And so, my fellow\n", content_type="text/html")
    async with world(backend) as around:
        row = await hear(around)

    assert ("text/plain; charset=utf-8", b" And so, my fellow\n") == (row.content_type, row.tail)


@pytest.mark.parametrize("content_type", ["text/html", "text/plain"])
async def test_a_proxys_page_is_no_transcript(content_type: str) -> None:
    backend = MediaBackend()
    backend.scripted = lambda: web.Response(text="\n<!DOCTYPE html><p>", content_type=content_type)
    async with world(backend) as around:
        row = await hear(around, attempts=1)

    assert (State.FAILED, "backend_failed") == (row.state, row.error["code"])


async def test_a_text_is_no_answer_to_a_chat() -> None:
    async with world(MediaBackend()) as around:
        script = {"body": "ok", "content_type": "text/plain"}
        row = await around.ended(await around.submit({"x_script": script}, attempts=1))

    assert State.FAILED == row.state


async def test_what_the_backend_does_not_have_is_its_own_404() -> None:
    async with world(MediaBackend()) as around:
        row = await around.ended(await around.submit(path="/classify"))

    assert (State.DONE, 404) == (row.state, row.status)
    assert json.loads(row.tail)["error"]["code"]


async def test_what_is_not_beside_v1_is_looked_for_in_it() -> None:
    async with world(backend := MediaBackend()) as around:
        row = await around.ended(await around.submit(path="/tokens"))

    assert (State.DONE, 200) == (row.state, row.status)
    assert ["/v1/tokens"] == [received.target for received in backend.received]


async def test_a_task_without_a_body_is_a_get_with_its_query() -> None:
    async with world(backend := MediaBackend()) as around:
        row = await around.ended(
            await around.submit(path="/tokenizer_info", form=b"", query="model=test-model")
        )

    [received] = backend.received
    assert ("GET", "/tokenizer_info?model=test-model") == (received.method, received.target)
    assert b'{"tokenizer_class": "scripted"}' == row.tail
    assert "content-type" not in received.headers


async def test_the_clients_headers_go_on_and_never_replace_the_providers_key() -> None:
    headers = {"anthropic-version": "2023-06-01"}
    async with world(backend := MediaBackend(), backend_key="secret") as around:
        await around.ended(await around.submit(path=SPOKEN, headers=headers, query="a=1"))

    [received] = backend.received
    assert "2023-06-01" == received.headers["anthropic-version"]
    assert "Bearer secret" == received.headers["authorization"]
    assert "application/json" == received.headers["content-type"]
    assert f"{SPOKEN}?a=1" == received.target


async def test_an_alias_is_renamed_in_a_form_and_nothing_else_of_it() -> None:
    public = form(field("prompt", "of public"), file(), field("model", "public"))
    backend = MediaBackend(models=["m.gguf"])
    async with world(backend, aliases={"public": "m.gguf"}) as around:
        row = await hear(around, public, model="public")

    assert public.replace(b"\r\n\r\npublic", b"\r\n\r\nm.gguf") == backend.received[0].body
    assert State.DONE == row.state


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (form(field("model", "other")), b"other"),
        (form(part('form-data; name="note"', b"public")), b"public"),
        (form(part("form-data; name*=utf-8''mod%65l", b"public")), b"m"),
    ],
)
def test_the_part_that_names_the_model_is_renamed(body: bytes, expected: bytes) -> None:
    assert expected in rename_in_request(body, FORM, "public", "m").split(b"\r\n")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("model=a%2Fb&x=1&y", "model=m%20n&x=1&y"),
        ("x=a/b&model=other", "x=a/b&model=other"),
    ],
)
def test_the_model_in_a_query_is_renamed(query: str, expected: str) -> None:
    assert expected == rename_in_query(query, "a/b", "m n")
