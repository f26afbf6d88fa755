"""What backends are never given, and what looks like it and passes."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.errors import RequestError
from inferline.options import options_of
from inferline.settings import Settings
from inferline.validation.fields import FieldPolicy
from inferline.validation.guard import STANDARD, Guard
from inferline.validation.payload import read

METADATA_URL = "http://169.254.169.254/latest/meta-data/iam/"
PICTURE = "data:image/png;base64,iVBORw0KGgo="
FIELD, ADDRESS, LIMIT = "field_not_allowed", "address_not_allowed", "limit_exceeded"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def said(*parts: Any, **message: Any) -> dict[str, Any]:
    """Return a chat whose user sends these parts."""
    return {"messages": [{"role": "user", "content": list(parts), **message}]}


def responding(*parts: Any) -> dict[str, Any]:
    """Return the same for the Responses API."""
    return {"input": [{"role": "user", "content": list(parts)}]}


def refusal(raw: bytes, guard: Guard = STANDARD) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as caught:
        read(raw, guard)
    assert caught.value.status == 400
    return caught.value.code, caught.value.param


PART = "messages[0].content[0]"
ITEM = "input[0].content[0]"
#: What backends would fetch, and where the client is told that it stands.
ADDRESSES: dict[str, tuple[dict[str, Any], str]] = {
    "image": (
        said({"type": "image_url", "image_url": {"url": METADATA_URL}}),
        f"{PART}.image_url.url",
    ),
    "image, as a text": (said({"image_url": METADATA_URL}), f"{PART}.image_url"),
    "second part": (
        said({"type": "text", "text": "x"}, {"image_url": {"url": "https://a.example/x.png"}}),
        "messages[0].content[1].image_url.url",
    ),
    "audio": (said({"audio_url": {"url": METADATA_URL}}), f"{PART}.audio_url.url"),
    "video": (said({"video_url": {"url": "https://a.example"}}), f"{PART}.video_url.url"),
    "input_audio": (said({"input_audio": {"data": METADATA_URL}}), f"{PART}.input_audio.data"),
    "input_audio, by url": (said({"input_audio": {"url": "http://a"}}), f"{PART}.input_audio.url"),
    "file": (said({"file": {"file_data": "https://a/b.pdf"}}), f"{PART}.file.file_data"),
    "local file": (said({"image_url": {"url": "file:///etc/passwd"}}), f"{PART}.image_url.url"),
    "path": (said({"image_url": {"url": "/etc/passwd"}}), f"{PART}.image_url.url"),
    "path with a dot": (said({"image_url": "../secret.png"}), f"{PART}.image_url"),
    "path at home": (said({"video_url": "~root/film"}), f"{PART}.video_url"),
    "share": (said({"image_url": "\\\\host\\share"}), f"{PART}.image_url"),
    "other scheme": (said({"image_url": {"url": "gopher://a"}}), f"{PART}.image_url.url"),
    "scheme in capitals": (said({"image_url": {"url": "HTTP://a"}}), f"{PART}.image_url.url"),
    "blank before it": (said({"image_url": {"url": " http://a"}}), f"{PART}.image_url.url"),
    "data, in capitals": (said({"image_url": "DATA:x"}), f"{PART}.image_url"),
    "several": (said({"image_url": [PICTURE, METADATA_URL]}), f"{PART}.image_url[1]"),
    "url in a url": (
        said({"image_url": {"url": {"url": "http://a"}}}),
        f"{PART}.image_url.url.url",
    ),
    "name in capitals": (said({"Image_URL": {"URL": "http://a"}}), f"{PART}.Image_URL.URL"),
    "name with another s": (said({"\u017fource": {"url": "http://a"}}), f"{PART}.\u017fource.url"),
    "image by its type": (said({"type": "image", "url": "http://a"}), f"{PART}.url"),
    "images of a message": (said(images=["http://a"]), "messages[0].images[0]"),
    "responses' image": (
        responding({"type": "input_image", "image_url": "http://a"}),
        f"{ITEM}.image_url",
    ),
    "responses' file": (
        responding({"type": "input_file", "file_url": "http://a"}),
        f"{ITEM}.file_url",
    ),
    "a tool's output": (
        {"input": [{"type": "function_call_output", "output": [{"image_url": "http://a"}]}]},
        "input[0].output[0].image_url",
    ),
    "a screenshot": (
        {"input": [{"type": "computer_call_output", "output": {"image_url": "http://a"}}]},
        "input[0].output.image_url",
    ),
    "messages' image": (
        said({"type": "image", "source": {"type": "url", "url": "http://a"}}),
        f"{PART}.source.url",
    ),
    "messages' document in a tool's result": (
        said({"type": "tool_result", "content": [{"source": {"type": "url", "url": "http://a"}}]}),
        f"{PART}.content[0].source.url",
    ),
    "base64 that is none": (
        said({"source": {"type": "base64", "data": "http://a"}}),
        f"{PART}.source.data",
    ),
    "an embedding's image": ({"input": [{"image": "http://a/b.png"}]}, "input[0].image"),
    "a document's image": ({"documents": [{"image": "file:///a"}]}, "documents[0].image"),
    "a scored image": (
        {"text_1": {"content": [{"image_url": "http://a"}]}},
        "text_1.content[0].image_url",
    ),
    "a prompt's media": (
        {"prompt": {"multimodal_data": ["http://a"]}},
        "prompt.multimodal_data[0]",
    ),
    "a request that claims to be a call": (
        {"type": "tool_use", "input": [{"image_url": "http://a"}]},
        "input[0].image_url",
    ),
    "tool server": ({"tools": [{"type": "mcp", "server_url": "http://a"}]}, "tools[0].server_url"),
    "tool servers": ({"mcp_servers": [{"type": "url", "url": "http://a"}]}, "mcp_servers[0].url"),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_that_a_backend_would_fetch_is_refused(name: str) -> None:
    fields, param = ADDRESSES[name]

    assert (ADDRESS, param) == refusal(body(**fields))


def test_escapes_hide_no_name() -> None:
    raw = (
        b'{"model":"m","messages":[{"content":[{"\\u0069mage_url":{"u\\u0072l":"http:\\/\\/a"}}]}]}'
    )

    assert (ADDRESS, f"{PART}.image_url.url") == refusal(raw)


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    name: ({name: value}, name)
    for name, value in {
        "chat_template": "{% for a in range(10**9) %}{% endfor %}",
        "prompt_embeds": "gASVCg==",
        "logits_processors": ["os.system"],
        "custom_logit_processor": "gASV",
        "lora_request": {"lora_path": "/etc"},
        "lora_path": "/etc",
        "mm_processor_kwargs": {"max_pixels": 10**12},
        "media_io_kwargs": {"video": {"num_frames": -1}},
        "kv_transfer_params": {"remote_host": "10.0.0.1"},
        "ec_transfer_params": {"remote_host": "10.0.0.1"},
        "bootstrap_host": "10.0.0.1",
        "api_base": "http://10.0.0.1",
        "chat_parser": "{}",
        "Chat_Template": "x",
    }.items()
}
FIELDS |= {
    "pickled image": (
        said({"type": "image_embeds", "image_embeds": "gASV"}),
        f"{PART}.image_embeds",
    ),
    "pickled audio": (said({"audio_embeds": "gASV"}), f"{PART}.audio_embeds"),
    "in the extension's own": (
        {"vllm_xargs": {"kv_transfer_params": {}}},
        "vllm_xargs.kv_transfer_params",
    ),
    "template among its variables": (
        {"chat_template_kwargs": {"enable_thinking": True, "chat_template": "x"}},
        "chat_template_kwargs.chat_template",
    ),
    "work among its variables": (
        {"chat_template_kwargs": {"tokenize": True}},
        "chat_template_kwargs.tokenize",
    ),
    "a better place in the server's queue": ({"priority": -5}, "priority"),
    "the same at servers that take the highest": ({"priority": 5}, "priority"),
    "the same as a text": ({"priority": "-5"}, "priority"),
    "priority in capitals": ({"Priority": -5}, "priority"),
    "model in capitals": ({"Model": "dear"}, "model"),
    "limit in capitals": ({"N": 100}, "n"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_dangerous_field_is_refused(name: str) -> None:
    fields, param = FIELDS[name]

    assert (FIELD, param) == refusal(body(**fields))


LONG = "a" * 16_385
LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "messages": ({"messages": [{}] * 2049}, "messages"),
    "items": ({"input": [{}] * 2049}, "input"),
    "prompts": ({"prompt": ["x"] * 2049}, "prompt"),
    "prompts in tokens": ({"prompt": [[1]] * 2049}, "prompt"),
    "texts": ({"input": ["x"] * 2049}, "input"),
    "documents": ({"documents": ["x"] * 2049}, "documents"),
    "parts": (said(*[{}] * 513), "messages[0].content"),
    "parts of an output": ({"input": [{"output": [{}] * 513}]}, "input[0].output"),
    "parts of a scored text": ({"text_1": {"content": [{}] * 513}}, "text_1.content"),
    "tools": ({"tools": [{}] * 257}, "tools"),
    "functions": ({"functions": [{}] * 257}, "functions"),
    "n": ({"n": 9}, "n"),
    "n of another name": ({"n_cmpl": 9}, "n_cmpl"),
    "n as a text": ({"n": "9"}, "n"),
    "n as a fraction": ({"n": 1e300}, "n"),
    "best_of": ({"best_of": 9}, "best_of"),
    "logprobs": ({"logprobs": 21}, "logprobs"),
    "logprobs of all tokens": ({"top_logprobs": -1}, "top_logprobs"),
    "logprobs of a prompt": ({"prompt_logprobs": 21}, "prompt_logprobs"),
    "max_tokens": ({"max_tokens": 131_073}, "max_tokens"),
    "max_completion_tokens": ({"max_completion_tokens": 2**40}, "max_completion_tokens"),
    "max_output_tokens": ({"max_output_tokens": 2**40}, "max_output_tokens"),
    "min_tokens": ({"min_tokens": 2**40}, "min_tokens"),
    "regular expression": ({"guided_regex": LONG}, "guided_regex"),
    "grammar": ({"grammar": LONG}, "grammar"),
    "grammar of an output": (
        {"structured_outputs": {"grammar": LONG}},
        "structured_outputs.grammar",
    ),
    "grammar of a tool": (
        {"tools": [{"format": {"definition": LONG}}]},
        "tools[0].format.definition",
    ),
    "pattern of a schema": (
        {"response_format": {"json_schema": {"schema": {"items": [{"pattern": LONG}]}}}},
        "response_format.json_schema.schema.items[0].pattern",
    ),
    "pattern of names": (
        {"tools": [{"input_schema": {"patternProperties": {LONG: {}}}}]},
        "tools[0].input_schema.patternProperties",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_above_a_limit_is_refused(name: str) -> None:
    fields, param = LIMITS[name]

    assert (LIMIT, param) == refusal(body(**fields))


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_zero_is_none(name: str) -> None:
    zeros = {option.name: 0 for option in options_of(Settings) if option.zero}
    asked, _ = LIMITS[name]

    assert "m" == read(body(**asked), Guard.from_settings(Settings(**zeros))).model


HARMLESS: dict[str, dict[str, Any]] = {
    "picture": said({"type": "image_url", "image_url": {"url": PICTURE, "detail": "auto"}}),
    "picture in base64": said({"image_url": {"url": "/9j/4AAQSkZJRg=="}}),
    "sound": said({"input_audio": {"data": "UklGRiQ=", "format": "wav"}}),
    "sound that begins with a slash": said(
        {"input_audio": {"data": "//uQ" * 2000, "format": "mp3"}}
    ),
    "file": said(
        {"file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
    ),
    "file by its id": said({"type": "file", "file": {"file_id": "file-1.x"}}),
    "picture of Messages": said(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    ),
    "document of Messages": said(
        {"type": "document", "source": {"type": "text", "data": "See http://a: it is short."}}
    ),
    "search result": said({"type": "search_result", "source": "https://a.example", "content": []}),
    "a picture that is cached": said({"type": "image_url", "image_url": None, "uuid": "a.b"}),
    "address in a text": said({"type": "text", "text": f"What is at {METADATA_URL}?"}),
    "a call's arguments": {
        "messages": [{"tool_calls": [{"function": {"arguments": {"image_url": "http://a"}}}]}]
    },
    "a call's input": said(
        {"type": "tool_use", "input": {"image_url": "http://a", "url": "http://b"}}
    ),
    "a tool's parameters": {
        "tools": [
            {"function": {"parameters": {"properties": {"image_url": {"default": "http://a"}}}}},
            {"input_schema": {"properties": {"pattern": {"type": "string"}, "chat_template": {}}}},
            {"parameters": {"examples": [{"image_url": "http://a", "pattern": "^a$"}]}},
        ]
    },
    "citation": {
        "messages": [
            {"annotations": [{"type": "url_citation", "url_citation": {"url": "http://a"}}]}
        ]
    },
    "page that was opened": {"input": [{"type": "web_search_call", "action": {"url": "http://a"}}]},
    "metadata": {"metadata": {"image_url": "http://a", "file": "a.txt"}},
    "voice": {"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]},
    "an answer's audio": {"messages": [{"role": "assistant", "audio": {"id": "audio_1.2"}}]},
    "template's own variables": {
        "chat_template_kwargs": {
            "enable_thinking": False,
            "documents": [{"text": "x"}],
            "tools": [],
        }
    },
    "fields that are null": {"chat_template": None, "n": None, "max_tokens": None, "tools": None},
    "many tokens": {"prompt": list(range(5000))},
    "many numbers": {"logit_bias": {str(number): 1 for number in range(3000)}},
    "long list that is no part": {"stop_token_ids": list(range(3000)), "enum": ["x"] * 3000},
    "logprobs as a word": {"logprobs": True, "top_logprobs": 20},
    "all tokens that fit": {"max_tokens": -1},
    "a place like all others": {"priority": 0, "metadata": {"priority": "7"}},
    "a parameter of a tool": {"tools": [{"parameters": {"properties": {"priority": {}}}}]},
    "other fields": {"min_p": 0.1, "cache_salt": "x", "X-Unknown": {"Data": "a.b", "url": "c.d"}},
    "what is at the limits": {
        "messages": [{"content": [{}] * 512}] * 2048,
        "tools": [{}] * 256,
        "n": 8,
        "max_tokens": 131_072,
        "grammar": LONG[1:],
    },
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_alike_passes(name: str) -> None:
    assert "m" == read(body(**HARMLESS[name])).model


LISTED = Guard.from_settings(Settings(remote_hosts="a.example, B.example:8443"))


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "http://a.example/x.png?y=1&z=%20",
        "https://A.Example/x",
        "https://b.example:8443/x",
    ],
)
def test_a_host_that_is_listed_may_be_fetched_from(url: str) -> None:
    assert "m" == read(body(**said({"image_url": {"url": url}})), LISTED).model


@pytest.mark.parametrize(
    "url",
    [
        "https://b.example/x",
        "https://a.example:8080/x",
        "https://a.example.evil.example/x",
        "https://evil.example/a.example",
        "https://evil.example?a.example",
        "https://evil.example#a.example",
        "https://a.example@evil.example/",
        "https://evil.example\\@a.example/",
        "https://a.example\\@evil.example/",
        "https://a.example#@evil.example/",
        "https://a.example\t.evil.example/",
        "https://a.example\n/",
        "https:a.example",
        "https:///a.example",
        "//a.example/x",
        "ftp://a.example/x",
        "file://a.example/x",
        "https://a\uff0eexample/",
        "https://a.example./",
        "https://xn--a.example/",
    ],
)
def test_no_other_host_passes_for_one_that_is_listed(url: str) -> None:
    code, _ = refusal(body(**said({"image_url": {"url": url}})), LISTED)

    assert code == ADDRESS


def test_a_refusal_does_not_repeat_a_long_name() -> None:
    deep = {"a" * 100_000: [{"b" * 100_000: {"image_url": "http://a"}}]}

    _, param = refusal(body(x=deep))

    assert param is not None
    assert len(param) == 200


PLAIN = st.sampled_from(["content", "messages", "x", "type", "role", "Ünder"])


@given(st.lists(PLAIN | st.none(), max_size=10))
def test_an_address_is_found_at_whatever_depth(way: list[str | None]) -> None:
    """``way`` has the names above it, None for a list."""
    value: Any = {"image_url": {"url": METADATA_URL}}
    for step in way:
        value = [1, value] if step is None else {"role": "user", step: value}

    code, param = refusal(body(x=value))

    assert (ADDRESS, True) == (code, (param or "").endswith("image_url.url"))


#: Every name that matters has an a, e, i, n, o or u.
OTHER_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="aeiounAEIOUN"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OTHER_NAMES, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(OTHER_NAMES, VALUES))
def test_a_request_without_a_name_that_matters_passes(fields: dict[str, Any]) -> None:
    assert "m" == read(json.dumps({**fields, "model": "m"}).encode()).model


def test_a_gateway_that_was_told_nothing_has_every_limit() -> None:
    limits = {name: getattr(STANDARD, name) for name in STANDARD.__dataclass_fields__}

    assert FieldPolicy(hosts=frozenset(), grammar_chars_max=16_384) == limits.pop("fields")
    assert inf not in limits.values()
