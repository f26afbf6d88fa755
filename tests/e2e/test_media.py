"""Speech and pictures through the whole line, asked for by OpenAI's own SDK."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.backend import BackendThread
from tests.support.line import empty_line
from tests.support.media import SOUND, MediaBackend

#: Beyond a message, so that it waits in S3.
LARGE = bytes(range(256)) * 1024
MODEL = "public"


@pytest.fixture(scope="module")
def backend() -> MediaBackend:
    return MediaBackend(models=["whisper/large v3"])


@pytest.fixture(scope="module")
def client(backend: MediaBackend) -> Iterator[openai.OpenAI]:
    with empty_line() as line, BackendThread(backend) as thread:
        line.start_gateway()
        line.start_provider("p1", thread.url, "--alias", f"{MODEL}=whisper/large v3")
        yield openai.OpenAI(base_url=f"{line.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("sound", [b"RIFF\x00\xff", LARGE], ids=["inline", "by S3"])
def test_a_sound_is_written_down(client: openai.OpenAI, sound: bytes) -> None:
    transcript = client.audio.transcriptions.create(model=MODEL, file=("é.wav", sound))

    assert transcript.text.startswith("whisper/large v3 heard")


@pytest.mark.parametrize("wanted", ["text", "srt", "vtt"])
def test_a_transcript_is_a_text(client: openai.OpenAI, wanted: str) -> None:
    transcript = client.audio.transcriptions.create(
        model=MODEL,
        file=("a.wav", LARGE),
        response_format=wanted,  # type: ignore[call-overload]
    )

    assert str(transcript).startswith("whisper/large v3 heard")


def test_a_transcript_is_streamed(client: openai.OpenAI) -> None:
    stream = client.audio.transcriptions.create(model=MODEL, file=("a.wav", b"x"), stream=True)

    assert ["transcript.text.delta", "transcript.text.done"] == [event.type for event in stream]


def test_speech_comes_byte_for_byte(client: openai.OpenAI, tmp_path: Path) -> None:
    asked = {"model": MODEL, "voice": "alloy", "input": "Hi"}
    with client.audio.speech.with_streaming_response.create(**asked) as response:  # type: ignore[arg-type]
        response.stream_to_file(tmp_path / "a.mp3")
        content_type = response.headers["content-type"]

    assert ("audio/mpeg", SOUND) == (content_type, (tmp_path / "a.mp3").read_bytes())


def test_pictures_are_made_and_changed(client: openai.OpenAI) -> None:
    made = client.images.generate(model=MODEL, prompt="a cup", n=1)
    changed = client.images.edit(model=MODEL, prompt="red", image=("a.png", LARGE))

    for picture in (made, changed):
        assert picture.data
        assert base64.b64decode(picture.data[0].b64_json or "")


def test_the_tokenizer_is_told_of(client: openai.OpenAI, backend: MediaBackend) -> None:
    info = httpx.get(f"{client.base_url}tokenizer_info?beta=1&key=secret", timeout=60)

    assert {"tokenizer_class": "scripted"} == info.json()
    assert "/tokenizer_info?beta=1" == backend.received[-1].target
