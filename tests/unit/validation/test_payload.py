from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.errors import FieldNotAllowed, InvalidRequest, RequestError
from inferline.validation.payload import Payload, read

VALID: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "service_tier": "flex",
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "é\u2028\U0001f980"}],
    "temperature": 0.7,
    "seed": 2**63,
}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(raw)
    return caught.value


def test_what_is_routed_on_is_read() -> None:
    expected = Payload(model="m", stream=True, service_tier="flex", include_usage=True)

    assert read(json.dumps(VALID).encode()) == expected


def test_fields_that_are_absent_or_null_have_their_defaults() -> None:
    assert read(body()) == Payload(model="m")
    assert read(body(stream=None, service_tier=None, n=None)) == Payload(model="m")


def test_unknown_fields_pass() -> None:
    assert read(body(x_unknown={"model": 1, "stream": "x"})).model == "m"


@pytest.mark.parametrize(
    ("written", "tier"),
    [(None, "default"), ("auto", "default"), ("priority", "priority"), ("flex", "flex")],
)
def test_a_service_tier_means_a_queue(written: str | None, tier: str) -> None:
    assert read(body(service_tier=written)).tier == tier


@pytest.mark.parametrize(
    ("fields", "choices"),
    [
        ({"n": 3}, 3),
        ({"prompt": "x"}, 1),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": ["x", "y"], "n": 2}, 4),
        ({"prompt": [[1], [2]]}, 2),
        ({"prompt": []}, 1),
        ({"n": True}, 1),
        ({"n": -1}, 1),
        ({"n": "2"}, 1),
    ],
)
def test_choices_are_counted(fields: dict[str, Any], choices: int) -> None:
    assert read(body(**fields)).choices == choices


def nested(depth: int) -> bytes:
    """Return a body whose deepest array is nested this deep."""
    return b'{"model":"m","x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


#: Bodies, the words their refusal must have, and the field it must name.
HOSTILE: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "not valid JSON", None),
    "null": (b"null", "JSON object", None),
    "array": (b"[]", "JSON object", None),
    "string": (b'"model"', "JSON object", None),
    "number": (b"1", "JSON object", None),
    "cut": (b'{"model":"m"', "not valid JSON", None),
    "two": (b'{"model":"m"}{"model":"m"}', "not valid JSON", None),
    "form": (b"model=m", "not valid JSON", None),
    "single quotes": (b"{'model':'m'}", "not valid JSON", None),
    "comment": (b'{"model":"m"/**/}', "not valid JSON", None),
    "BOM": (b"\xef\xbb\xbf" + body(), "UTF-8", None),
    "UTF-16": (body().decode().encode("utf-16"), "UTF-8", None),
    "UTF-16 LE": (body().decode().encode("utf-16-le"), "not valid JSON", None),
    "UTF-16 BE": (body().decode().encode("utf-16-be"), "UTF-8", None),
    "UTF-32": (body().decode().encode("utf-32"), "UTF-8", None),
    "Latin-1": ('{"model":"é"}'.encode("latin-1"), "not valid JSON", None),
    "NUL": (b"\x00" * 10, "UTF-8", None),
    "NUL in a string": (b'{"model":"a\x00b"}', "not valid JSON", None),
    "CESU-8 surrogate": (b'{"model":"\xed\xa0\x80"}', "not valid JSON", None),
    "lone surrogate": (b'{"model":"m","x":"\\ud800"}', "not valid JSON", None),
    "lone surrogate as a key": (b'{"model":"m","\\udc00":1}', "not valid JSON", None),
    "NaN": (b'{"model":"m","x":NaN}', "not valid JSON", None),
    "Infinity": (b'{"model":"m","x":Infinity}', "not valid JSON", None),
    "-Infinity": (b'{"model":"m","x":-Infinity}', "not valid JSON", None),
    "2^64": (b'{"model":"m","x":18446744073709551616}', "64 bits", None),
    "-2^63-1 deeper": (b'{"model":"m","x":[{"y":-9223372036854775809}]}', "64 bits", None),
    "2^64 among tokens": (b'{"model":"m","prompt":[1,18446744073709551616,2]}', "64 bits", None),
    "1e999": (b'{"model":"m","x":1e999}', "range", None),
    "-1e999 deeper": (b'{"model":"m","x":[{"y":[-1e999]}]}', "range", None),
    "5000 digits": (b'{"model":"m","x":' + b"9" * 5000 + b"}", "not valid JSON", None),
    "65 deep": (nested(65), "64", None),
    "150 deep": (nested(150), "64", None),
    "100,000 arrays": (nested(100_000), "not valid JSON", None),
    "100,000 open arrays": (b"[" * 100_000, "not valid JSON", None),
    "100,000 open objects": (b'{"a":' * 100_000, "not valid JSON", None),
    "no model": (b"{}", "Name the model", "model"),
    "null as model": (b'{"model":null}', "Name the model", "model"),
    "empty model": (b'{"model":""}', "not empty", "model"),
    "number as model": (b'{"model":7}', "string", "model"),
    "list as model": (b'{"model":["m"]}', "string", "model"),
    "long model": (body(model="m" * 257), "256", "model"),
    "model twice": (b'{"model":"a","model":"b"}', "once", "model"),
    "model twice, escaped": (b'{"model":"a","m\\u006fdel":"b"}', "once", "model"),
    "model twice, apart": (b'{"model":"a","x":1,"model" \n\t:"b"}', "once", "model"),
    "model twice in a null": (b'{"model":"a","model":null}', "once", "model"),
    "image twice": (
        b'{"model":"m","x":[{"image_url":"data:,","image_url":"http://a"}]}',
        "once",
        "image_url",
    ),
    "twice in what is overwritten": (b'{"model":"m","x":{"y":1},"x":{}}', "once", "x"),
    "no name twice": (b'{"model":"m","":1,"":2}', "once", ""),
    "a name of a backslash twice": (b'{"model":"m","\\\\":1,"\\\\":2}', "once", "\\"),
    "stream twice": (b'{"stream":true,"model":"b","stream":false}', "once", "stream"),
    "stream as text": (body(stream="true"), "true, false", "stream"),
    "stream as number": (body(stream=1), "true, false", "stream"),
    "unknown tier": (body(service_tier="gold"), "one of auto, default, flex", "service_tier"),
    "number as tier": (body(service_tier=1), "one of", "service_tier"),
    "list as tier": (body(service_tier=["flex"]), "one of", "service_tier"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_in_words(name: str) -> None:
    raw, words, param = HOSTILE[name]

    refused = refusal(raw)

    assert words in str(refused)
    assert refused.param == param
    assert refused.status == 400


def test_a_refusal_can_be_sent_and_quotes_nothing() -> None:
    for raw, _, _ in HOSTILE.values():
        json.dumps(refusal(raw).body()).encode()
    assert "secret" not in str(refusal(b'{"model":"m","secret":"secret'))


def test_what_is_at_the_limits_passes() -> None:
    assert read(nested(64)).model == "m"
    assert read(body(model="é" * 256)).model == "é" * 256
    assert read(body(x=1e308, y=2**64 - 1, z=-(2**63))).model == "m"


def test_a_name_that_returns_deeper_down_is_no_repetition() -> None:
    assert read(body(tools=[{"model": "x"}], x='"model"')).model == "m"


NAMES = st.sampled_from(["a", "b", "", ":", '"', "\\", 'a":', "é", "model", " :"])
BLANKS = st.text(" \n\t\r", max_size=2)


@st.composite
def written(draw: st.DrawFn, depth: int = 3) -> str:
    """Return an object as a client may write it, with any names, white space and escapes."""
    fields = []
    for name in draw(st.lists(NAMES, max_size=4)):
        name_written = json.dumps(name, ensure_ascii=draw(st.booleans())).replace("a", "\\u0061")
        text = json.dumps(draw(NAMES))
        value = draw(written(depth - 1)) if depth and draw(st.booleans()) else text
        value = f"[{value},{text}]" if draw(st.booleans()) else value
        fields.append(f"{draw(BLANKS)}{name_written}{draw(BLANKS)}:{draw(BLANKS)}{value}")
    return "{" + ",".join(fields) + "}"


def has_repeated(text: str) -> bool:
    repeated = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len(pairs) != len({name for name, _ in pairs}))

    json.loads(text, object_pairs_hook=note)
    return any(repeated)


@given(written())
def test_exactly_what_has_a_field_twice_is_refused(text: str) -> None:
    raw = f'{{"model":"m","x":{text}}}'
    repeated = has_repeated(raw)

    if repeated:
        assert "once" in str(refusal(raw.encode()))
    else:
        assert "m" == read(raw.encode()).model


def refused_or_read(raw: bytes) -> None:
    try:
        payload = read(raw)
    except RequestError as refused:
        json.dumps(refused.body(), allow_nan=False).encode()
    else:
        payload.model.encode()


@given(st.binary())
def test_no_bytes_surprise(raw: bytes) -> None:
    refused_or_read(raw)


@given(st.data())
def test_no_mutation_of_a_valid_body_surprises(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(VALID, ensure_ascii=data.draw(st.booleans())).encode())
    piece = st.sampled_from(
        [b"", b'"', b"{", b"}", b"[", b",", b"null", b"1e999", b"\\ud800", b"\xff", b"\x00", b"NaN"]
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(piece | st.binary(max_size=3))
    refused_or_read(bytes(raw))


@given(
    st.dictionaries(
        st.sampled_from(["model", "stream", "service_tier", "n", "prompt", "stream_options"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_no_value_of_a_known_field_surprises(document: dict[str, Any]) -> None:
    refused_or_read(json.dumps(document).encode())


#: What some programs write for none, and servers take for a name.
EMPTY: tuple[object, ...] = ("", 0, {}, [])


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("background", True),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("previous_response_id", "resp_1"),
        ("background", "true"),
        *((field, value) for field in ("conversation", "previous_response_id") for value in EMPTY),
    ],
)
def test_what_only_a_server_that_keeps_answers_can_do_is_refused_by_name(
    path: str, field: str, value: object
) -> None:
    with pytest.raises(FieldNotAllowed) as caught:
        read(body(input="Hi", **{field: value}), path=path)

    assert (400, field) == (caught.value.status, caught.value.param)


@pytest.mark.parametrize("value", [None, False])
def test_fields_that_ask_for_none_of_it_pass(value: object) -> None:
    fields = dict.fromkeys(("background", "conversation", "previous_response_id"), value)

    assert "m" == read(body(input="Hi", **fields), path="/v1/responses").model


def test_of_other_addresses_they_mean_something_else() -> None:
    assert "m" == read(body(background=True, conversation="x"), path="/v1/completions").model
