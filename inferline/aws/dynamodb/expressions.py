"""
DynamoDB's expressions, built from plain values.

Attributes stand in them as placeholders, because DynamoDB reserves some 600 words: ``#name`` is the
attribute ``name``, ``:name`` its new value or a value of the condition. Only ``pk`` and ``sk``, the
keys of every table, are written as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from inferline.aws.api.items import to_item

_PLAIN_NAME: Final = re.compile(r"\w+", re.ASCII)
_PLACEHOLDER: Final = re.compile(r"#(\w+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """A new value for an attribute that the row may already have: then the old one stays."""

    value: Any


@dataclass(frozen=True, slots=True)
class CopyOf:
    """A new value made of another attribute, as it was before the write, ``plus`` a number."""

    attribute: str
    plus: int = 0


def conditional(condition: str, values: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Build the parameters of a write with a condition; without a condition there are none."""
    if not condition:
        return {}
    request: dict[str, Any] = {"ConditionExpression": condition}
    if names := _names_in(condition):  # DynamoDB refuses an empty mapping.
        request["ExpressionAttributeNames"] = names
    if values:
        typed = to_item({f":{name}": value for name, value in values.items()})
        request["ExpressionAttributeValues"] = typed
    return request


def updating(
    changes: Mapping[str, Any],
    add: Mapping[str, int],
    remove: Sequence[str],
    condition: str,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the parameters of an update: ``changes`` may hold `IfAbsent` and `CopyOf`."""
    #: For each change: None, the class IfAbsent, or the attribute that it copies.
    kinds: list[Any] = []
    arguments: list[Any] = []
    for value in changes.values():
        if type(value) is CopyOf:
            kinds.append(value.attribute)
            arguments.append(value.plus)
        elif type(value) is IfAbsent:
            kinds.append(IfAbsent)
            arguments.append(value.value)
        else:
            kinds.append(None)
            arguments.append(value)
    arguments += add.values()
    arguments += values.values()
    form = _form(tuple(changes), tuple(kinds), tuple(add), tuple(remove), condition, tuple(values))
    if not arguments:
        return dict(form.request)
    typed = to_item(dict(zip(form.placeholders, arguments, strict=True)))
    return {**form.request, "ExpressionAttributeValues": typed}


def querying(partition: str, first: str = "", last: str = "") -> dict[str, Any]:
    """Build the parameters that read a partition, from one sort key on, or up to another."""
    values = {":pk": partition}
    if last:
        condition = "pk = :pk AND sk BETWEEN :first AND :last"
        values |= {":first": first, ":last": last}
    elif first:
        condition = "pk = :pk AND sk >= :first"
        values[":first"] = first
    else:
        condition = "pk = :pk"
    return {"KeyConditionExpression": condition, "ExpressionAttributeValues": to_item(values)}


def querying_index(index: str, value: str) -> dict[str, Any]:
    """Build the parameters that read one value of an index, which is named like its attribute."""
    return {
        "IndexName": index,
        "KeyConditionExpression": "#index = :pk",
        "ExpressionAttributeNames": {"#index": index},
        "ExpressionAttributeValues": to_item({":pk": value}),
    }


@dataclass(frozen=True, slots=True)
class _Form:
    """Everything of an update but its key and its values, for which it has placeholders."""

    request: Mapping[str, Any]
    placeholders: tuple[str, ...]


@lru_cache(maxsize=512)
def _form(
    changed: tuple[str, ...],
    kinds: tuple[Any, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    condition: str,
    values: tuple[str, ...],
) -> _Form:
    """Build the expressions of an update. They are cached: there are few shapes of updates."""
    sources = [kind for kind in kinds if isinstance(kind, str)]
    names = dict.fromkeys((*changed, *sources, *add, *remove))
    words = {
        name: name if _PLAIN_NAME.fullmatch(name) else str(number)
        for number, name in enumerate(names)
    }
    sets = [_assignment(words, name, kind) for name, kind in zip(changed, kinds, strict=True)]
    adds = [f"#{words[name]} :{words[name]}" for name in add]
    removed = [f"#{words[name]}" for name in remove]
    clauses = {"SET": sets, "ADD": adds, "REMOVE": removed}
    update = " ".join(f"{clause} {', '.join(terms)}" for clause, terms in clauses.items() if terms)
    request = {
        "UpdateExpression": update,
        **conditional(condition),
        "ExpressionAttributeNames": {
            **{f"#{word}": name for name, word in words.items()},
            **_names_in(condition),
        },
    }
    placeholders = [f":{words[name]}" for name in (*changed, *add)]
    return _Form(request, (*placeholders, *(f":{name}" for name in values)))


def _assignment(words: Mapping[str, str], name: str, kind: Any) -> str:
    """Build one term of SET: a value, a value if there is none, or another attribute plus it."""
    place, value = f"#{words[name]}", f":{words[name]}"
    if kind is None:
        return f"{place} = {value}"
    if kind is IfAbsent:
        return f"{place} = if_not_exists({place}, {value})"
    return f"{place} = #{words[kind]} + {value}"


@lru_cache(maxsize=512)
def _names_in(condition: str) -> Mapping[str, str]:
    """Return the attributes that a condition names, by their placeholders."""
    return {f"#{name}": name for name in _PLACEHOLDER.findall(condition)}
