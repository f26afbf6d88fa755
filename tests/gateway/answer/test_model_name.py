"""The model's name in an answer, whatever the provider wrote."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.gateway.answer.stages.model_name import Naming

STREAM = (
    b'event: a\ndata: {"message":{"model":"x"}}\n\n'
    b'data: {"m\\u006fdel":"x",\ndata: "y":1}\r\n\r\n'
    b'data: {"model":"m" }\n\n'
    b'data: {"choices":[{"model":"x"}]}\n\n'
    b"data: [DONE]\n\n"
    b'data: {"response":{"model":"x"}}'
)
NAMED = (
    b'event: a\ndata: {"message":{"model":"m"}}\n\n'
    b'data: {"model":"m","y":1}\n\n'
    b'data: {"model":"m" }\n\n'
    b'data: {"choices":[{"model":"x"}]}\n\n'
    b"data: [DONE]\n\n"
    b'data: {"response":{"model":"m"}}\n\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=5))
def test_an_answer_names_the_model_that_was_asked_for_however_it_is_cut(cuts: list[int]) -> None:
    naming, ends = Naming("m"), sorted([0, *cuts, len(STREAM)])
    pieces = [STREAM[start:end] for start, end in pairwise(ends)]

    out = [part for piece in pieces for part in naming.feed([piece])]

    assert NAMED == b"".join([*out, *naming.end()])


@pytest.mark.parametrize(
    "body", [b'{ "model" : "m" }', b'{"x": 1}', b"[1]", b"no json", b"", b'{"message": "x"}']
)
def test_what_names_no_other_model_stays_as_it_is(body: bytes) -> None:
    assert body == Naming("m").whole(body)


def test_any_value_of_the_name_is_replaced() -> None:
    for wrong in ("x", 5, None, ["m"]):
        assert b'{"model":"m"}' == Naming("m").whole(json.dumps({"model": wrong}).encode())
