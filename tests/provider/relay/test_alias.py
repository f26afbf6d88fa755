from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline_provider.relay import edits
from inferline_provider.relay.alias import rename

NAMES = st.text(min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def test_only_the_name_changes() -> None:
    document = b'{ "stream" : true,\n "model" :  "public", "x": 1.50 }'

    assert rename(document, "public", "m.gguf") == document.replace(b"public", b"m.gguf")


@pytest.mark.parametrize(
    "document",
    [b"", b"not json", b'["model"]', b'{"model": "other"}', b'{"a": {"model": "public"}}'],
)
def test_what_does_not_name_the_model_stays(document: bytes) -> None:
    assert rename(document, "public", "m") == document


def test_a_prompt_that_speaks_of_the_model_stays() -> None:
    request = {"messages": [{"model": "public"}], "user": '"model": "public"', "model": "public"}
    document = json.dumps(request).encode()

    assert json.loads(rename(document, "public", "m")) == {**request, "model": "m"}


def test_the_last_of_two_names_is_the_one_that_counts() -> None:
    assert rename(b'{"model":"a","model":"b"}', "b", "c") == b'{"model":"a","model":"c"}'


def test_a_document_full_of_names_is_not_read_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[bytes] = []
    read = edits.read
    monkeypatch.setattr(edits, "read", lambda body: reads.append(body) or read(body))
    request = {"messages": [{"model": "public"}] * 1000, "model": "public"}

    renamed = rename(json.dumps(request).encode(), "public", "m")

    assert {**request, "model": "m"} == json.loads(renamed)
    assert len(reads) < 20


def test_a_slash_may_be_escaped() -> None:
    assert json.loads(rename(b'{"model":"org\\/m"}', "org/m", "p")) == {"model": "p"}


@pytest.mark.parametrize("key", ["response", "message"])
def test_an_answer_in_a_wrapper_is_renamed(key: str) -> None:
    document = json.dumps({"type": "t", key: {"id": "x", "model": "backend"}}).encode()

    assert rename(document, "backend", "public") == document.replace(b"backend", b"public")


@given(st.dictionaries(st.text(), JSON, max_size=4), NAMES, NAMES, st.booleans())
def test_any_document_keeps_all_but_its_model(
    document: dict[str, Any], old: str, new: str, ascii_only: bool
) -> None:
    document["model"] = old
    written = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    assert json.loads(rename(written, old, new)) == {**document, "model": new}
