"""Conversion between DynamoDB's typed values and Python's, for the types that InferLine stores."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

#: A typed value in DynamoDB's JSON: one pair of a type and a value, such as ``{"N": "5"}``.
AttributeValue = dict[str, Any]


def to_item(values: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """
    Convert an item, a key or the values of an expression to typed values.

    They may be str, int, bool, None, bytes, and lists and dicts of them, subclasses such as StrEnum
    included. Raises TypeError for anything else: a float would come back as another type.
    """
    item = {}
    for name, value in values.items():
        # Nearly all are str or int: convert them without a call.
        kind = type(value)
        if kind is str:
            item[name] = {"S": value}
        elif kind is int:
            item[name] = {"N": str(value)}
        else:
            item[name] = to_value(value)
    return item


def from_item(item: Mapping[str, AttributeValue]) -> dict[str, Any]:
    """Convert an item back that `to_item` made. Raises TypeError for types that it never makes."""
    values: dict[str, Any] = {}
    for name, value in item.items():
        if "S" in value:
            values[name] = value["S"]
        elif "N" in value:
            values[name] = int(value["N"])
        else:
            values[name] = from_value(value)
    return values


def to_value(value: Any) -> AttributeValue:
    """Convert one value to a typed value."""
    writer = _WRITERS.get(type(value)) or _inherited(value)
    return writer(value)


def from_value(value: AttributeValue) -> Any:
    """Convert one typed value back."""
    ((kind, held),) = value.items()
    reader = _READERS.get(kind)
    if reader is None:
        raise TypeError(f"no item of ours holds DynamoDB type {kind!r}")
    return reader(held)


def _inherited(value: Any) -> Callable[[Any], AttributeValue]:
    for kind, writer in _WRITERS.items():
        if isinstance(value, kind):
            return writer
    raise TypeError(f"DynamoDB items hold no {type(value).__name__} here")


# The base class's own conversion, since an enum's str() may be its name.
_WRITERS: dict[type, Callable[[Any], AttributeValue]] = {
    str: lambda value: {"S": str.__str__(value)},
    bool: lambda value: {"BOOL": value},
    int: lambda value: {"N": int.__repr__(value)},
    type(None): lambda value: {"NULL": True},
    bytes: lambda value: {"B": b64encode(value).decode()},
    list: lambda value: {"L": [to_value(each) for each in value]},
    dict: lambda value: {"M": to_item(value)},
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "S": lambda held: held,
    "BOOL": lambda held: held,
    "N": int,
    "NULL": lambda held: None,
    "B": b64decode,
    "L": lambda held: [from_value(each) for each in held],
    "M": from_item,
}
