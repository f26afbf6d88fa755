"""DynamoDB's typed values and back."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from inferline.aws.api.items import from_item, to_item

scalars = st.none() | st.booleans() | st.integers(-(10**37), 10**37) | st.text() | st.binary()
values = st.recursive(
    scalars, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=20
)


class Colour(StrEnum):
    RED = "red"


class OldColour(str, Enum):  # noqa: UP042  # the kind whose str() is its name
    RED = "red"


class Size(IntEnum):
    LARGE = 3


@given(st.dictionaries(st.text(min_size=1), values))
def test_what_goes_in_comes_out(item: dict[str, Any]) -> None:
    assert from_item(to_item(item)) == item


def test_it_writes_what_boto3_writes() -> None:
    item = {"s": "ü", "n": -5, "t": True, "z": None, "l": [1, "a", []], "m": {"k": {"k": False}}}

    assert to_item(item) == {k: TypeSerializer().serialize(v) for k, v in item.items()}
    assert to_item({"b": b"\x00\xff"}) == {"b": {"B": "AP8="}}


def test_an_enum_is_stored_as_its_value() -> None:
    stored = to_item({"a": Colour.RED, "b": OldColour.RED, "c": Size.LARGE})

    assert stored == {"a": {"S": "red"}, "b": {"S": "red"}, "c": {"N": "3"}}
    assert {type(held) for value in stored.values() for held in value.values()} == {str}


@pytest.mark.parametrize("value", [1.5, {1}, object(), [0.1]])
def test_what_would_come_back_changed_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="DynamoDB"):
        to_item({"a": value})


def test_a_type_that_is_never_written_is_refused() -> None:
    with pytest.raises(TypeError, match="SS"):
        from_item({"a": {"SS": ["x"]}})
