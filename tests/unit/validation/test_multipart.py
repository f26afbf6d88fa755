"""Where the parts of a form lie, and what is no form."""

from __future__ import annotations

import pytest

from inferline.errors import InvalidRequest
from inferline.validation.multipart import (
    HEADERS_MAX,
    PARTS_MAX,
    is_form,
    parts_of,
    rebound,
    unbound,
)
from tests.support.forms import BOUNDARY, FORM, SOUND, field, file, form, part


def test_the_values_of_parts_are_found_in_any_order() -> None:
    body = form(file(), field("empty", ""), field("model", "whisper-1"))

    sound, empty, model = parts_of(FORM, body)

    assert SOUND == body[sound.start : sound.end]
    assert b"" == body[empty.start : empty.end]
    assert b"whisper-1" == body[model.start : model.end]
    assert ["file", "empty", "model"] == [sound.name, empty.name, model.name]
    assert (True, False) == (sound.is_file, model.is_file)


@pytest.mark.parametrize(
    ("disposition", "name", "is_file"),
    [
        ("form-data", "", False),
        ("form-data; name*=utf-8''mod%65l", "model", False),
        ('form-data; name*0="mo"; name*1="del"', "model", False),
        ("form-data; NAME=model", "model", False),
        ('form-data; name="a;b\\"c"; filename=""', 'a;b"c', True),
        ("form-data; name=file; filename*=utf-8''%E2%82%AC.wav", "file", False),
        ("form-data; name*=nowhere'", "nowhere'", False),
        ("", "", False),
    ],
)
def test_a_parts_name_is_read_however_it_is_written(
    disposition: str, name: str, is_file: bool
) -> None:
    [part_read] = parts_of(FORM, form(part(disposition, b"x")))

    assert (name, is_file) == (part_read.name, part_read.is_file)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        field("model", "m"),
        form(part("form-data; name=\"model\"; name*=utf-8''stream", b"x")),
        form(part('form-data; name="a"; name="model"', b"x")),
        form(part('form-data; name="a"', b"eA==", "Content-Transfer-Encoding: base64")),
        form(part('form-data; name="a"', b"x", 'content-disposition: form-data; name="model"')),
        form(part('form-data; name="a"', b"x", *(f"x-{n}: y" for n in range(HEADERS_MAX)))),
        form(part('form-data; name="a"', b"x", f"x: {'y' * 5000}")),
        form(*[field("a", "")] * (PARTS_MAX + 1)),
        form(field("model", "m")).replace(b"\r\n", b"\n"),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parts_of(FORM, body)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        f"multipart/form-data; boundary={'a' * 71}",
        'multipart/form-data; boundary="a\x00"',
    ],
)
def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        parts_of(content_type, form(field("model", "m")))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (FORM, True),
        ("Multipart/Form-Data ;boundary=x", True),
        ("application/json", False),
        ("multipart/form-data-not", False),
        ("", False),
    ],
)
def test_a_form_is_known_by_its_content_type(content_type: str, expected: bool) -> None:
    assert expected is is_form(content_type)


def test_two_forms_that_differ_in_their_boundary_alone_are_the_same() -> None:
    other = FORM.replace(BOUNDARY, "another")
    first = form(file(), field("model", "m"))
    second = first.replace(b"--" + BOUNDARY.encode(), b"--another")

    assert unbound(first, FORM) == unbound(second, other)
    assert first == rebound(second, other, FORM)
