"""What a client's form is read for, and what of it no backend is given."""

from __future__ import annotations

import random
from typing import Any

import pytest

from inferline.errors import AddressNotAllowed, FieldNotAllowed, RequestError, SizeLimitExceeded
from inferline.gateway.submit.estimate import MEDIA_TOKENS, tokens_of
from inferline.settings import Settings
from inferline.validation import form
from inferline.validation.payload import Payload
from tests.support.forms import FORM, SOUND, field, file, part
from tests.support.forms import form as body_of

MODEL = field("model", "whisper-1")
PATH = "/v1/audio/transcriptions"


def read(*parts: bytes) -> Payload:
    return form.read(FORM, body_of(*parts))


def test_the_model_the_stream_and_the_tier_are_read_wherever_they_stand() -> None:
    payload = read(file(), field("stream", "true"), field("service_tier", "flex"), MODEL)

    assert ("whisper-1", True, "flex") == (payload.model, payload.stream, payload.tier)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("True", True), ("1", True), ("on", True), ("false", False), ("", False), ("0", False)],
)
def test_a_stream_is_asked_for_in_the_words_of_forms(word: str, expected: bool) -> None:
    assert expected is read(MODEL, field("stream", word)).stream


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([file()], "model"),
        ([field("model", "")], "model"),
        ([MODEL, MODEL], "model"),
        ([MODEL, field("model[]", "other")], "model"),
        ([MODEL, part("form-data; name*=utf-8''mod%65l", b"other")], "model"),
        ([file("model")], "model"),
        ([MODEL, field("Stream", "true")], "stream"),
        ([MODEL, field("stream", "maybe")], "stream"),
        ([MODEL, field("stream", "true"), field("stream", "false")], "stream"),
        ([MODEL, field("service_tier", "first")], "service_tier"),
    ],
)
def test_what_could_be_routed_in_two_ways_is_refused(parts: list[bytes], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(*parts)

    assert param == refused.value.param


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("file", "http://192.0.2.1/a.wav", AddressNotAllowed),
        ("url", "https://example.com/a.wav", AddressNotAllowed),
        ("image[]", "file:///a.png", AddressNotAllowed),
        ("image[url]", "http://192.0.2.1/a.png", AddressNotAllowed),
        ("options", '{"audio": {"url": "http://192.0.2.1/a"}}', AddressNotAllowed),
        ("chat_template", "x", FieldNotAllowed),
        ("extra[lora_path]", "x", FieldNotAllowed),
        ("priority", "-1", FieldNotAllowed),
        ("options", '[{"lora_request": 1}]', FieldNotAllowed),
        ("n", "1000", SizeLimitExceeded),
        ("options", '{"a": 1, "a": 2}', RequestError),
    ],
)
def test_a_field_is_refused_as_in_json(name: str, value: str, error: Any) -> None:
    with pytest.raises(error):
        read(MODEL, field(name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", '{"chat_template": "see http://192.0.2.1"}'),
        ("language", "en"),
        ("timestamp_granularities[]", "word"),
        ("chunking_strategy", '{"type": "server_vad"}'),
        ("file", "data:audio/wav;base64,UklGRg=="),
        ("temperature", "0.2"),
        ("n", "2"),
    ],
)
def test_what_harms_nobody_passes(name: str, value: str) -> None:
    assert "whisper-1" == read(MODEL, field(name, value)).model


def test_a_file_whose_name_only_some_servers_see_is_no_address() -> None:
    disposition = "form-data; name=file; filename*=utf-8''%C3%A9.wav"

    assert 1 == read(MODEL, part(disposition, SOUND)).files


def test_a_file_counts_as_one_sound_and_not_by_its_bytes() -> None:
    body = body_of(MODEL, file(value=SOUND * 10_000))

    estimate = tokens_of(PATH, form.read(FORM, body), body, Settings())

    assert MEDIA_TOKENS < estimate < MEDIA_TOKENS + 10


def test_any_bytes_are_a_request_or_a_clean_refusal() -> None:
    whole = body_of(file(), field("stream", "true"), field("options", '{"a": [1]}'), MODEL)
    chance = random.Random(7)
    for _ in range(2000):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(body))
            body[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        try:
            assert form.read(FORM, bytes(body)).model
        except RequestError:
            continue
