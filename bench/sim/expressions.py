"""DynamoDB's conditions and updates, as far as InferLine writes them, on marshalled items."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

Item = dict[str, Any]
#: Reads a value of an item, None where there is none; the second argument are the call's values.
Operand = Callable[[Item, Mapping[str, Any]], Any]
Condition = Callable[[Item, Mapping[str, Any]], bool]

_TOKEN = re.compile(r"\s*([#:]?\w+(?:\[\d+\])?|<>|<=|>=|[=<>(),+-])")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, two: one == two,
    "<>": lambda one, two: one != two,
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
}


def holds(expression: str, names: Mapping[str, str], values: Item, item: Item) -> bool:
    """Whether an item meets a condition; an item that is not there is empty."""
    return _parsed(expression, tuple(sorted(names.items())))(item, values)


def updated(expression: str, names: Mapping[str, str], values: Item, item: Item) -> Item:
    """What an item becomes."""
    words = _words(expression)
    changed, clause, at = dict(item), "", 0
    parser = _Parser(words, dict(names))
    while at < len(words):
        if words[at] in ("SET", "ADD", "REMOVE"):
            clause, at = words[at], at + 1
        name = names.get(words[at], words[at])
        parser.at = at + 1
        if clause == "REMOVE":
            changed.pop(name, None)
        elif clause == "ADD":
            before = int(changed.get(name, {"N": "0"})["N"])
            added = int(_marshalled(parser.operand()(item, values))["N"])
            changed[name] = {"N": str(before + added)}
        else:
            parser.take("=")
            changed[name] = _marshalled(parser.sum()(item, values))
        at = parser.at
        if at < len(words) and words[at] == ",":
            at += 1
    return changed


def _words(expression: str) -> list[str]:
    found = _TOKEN.findall(expression)
    if "".join(found) != "".join(expression.split()):
        raise ValueError(f"not an expression of ours: {expression}")
    return found


@lru_cache(maxsize=1000)
def _parsed(expression: str, names: tuple[tuple[str, str], ...]) -> Condition:
    parser = _Parser(_words(expression), dict(names))
    found = parser.either()
    if parser.at != len(parser.words):
        raise ValueError(f"not a condition of ours: {expression}")
    return found


class _Parser:
    """Reads from `at` on."""

    def __init__(self, words: list[str], names: Mapping[str, str]) -> None:
        self.words = words
        self.at = 0
        self._names = names

    def take(self, word: str = "") -> str:
        found = self.words[self.at]
        if word and found != word:
            raise ValueError(f"{found!r} where {word!r} was to be")
        self.at += 1
        return found

    def sees(self, *words: str) -> bool:
        return self.at < len(self.words) and self.words[self.at] in words

    def either(self) -> Condition:
        found = [self.both()]
        while self.sees("OR"):
            self.take()
            found.append(self.both())
        return lambda item, values: any(one(item, values) for one in found)

    def both(self) -> Condition:
        found = [self.one()]
        while self.sees("AND"):
            self.take()
            found.append(self.one())
        return lambda item, values: all(one(item, values) for one in found)

    def one(self) -> Condition:
        if self.sees("("):
            self.take()
            inner = self.either()
            self.take(")")
            return inner
        if self.sees("attribute_exists", "attribute_not_exists"):
            wanted = self.take() == "attribute_exists"
            self.take("(")
            name = self.name()
            self.take(")")
            return lambda item, _: (name in item) is wanted
        if self.sees("contains"):
            return self.contains()
        return self.comparison()

    def contains(self) -> Condition:
        self.take("contains")
        self.take("(")
        name = self.name()
        self.take(",")
        value = self.take()
        self.take(")")
        return lambda item, values: values[value] in item.get(name, {"L": []})["L"]

    def comparison(self) -> Condition:
        left, word = self.operand(), self.take()
        if word == "IN":
            self.take("(")
            among = [self.operand()]
            while self.take() == ",":
                among.append(self.operand())
            return lambda item, values: left(item, values) in [o(item, values) for o in among]
        if word == "BETWEEN":
            low = self.operand()
            self.take("AND")
            high = self.operand()
            return lambda item, values: _within(*(o(item, values) for o in (low, left, high)))
        compare, right = _COMPARISONS[word], self.operand()

        def compared(item: Item, values: Mapping[str, Any]) -> bool:
            one, two = left(item, values), right(item, values)
            return one is not None and two is not None and compare(one, two)

        return compared

    def sum(self) -> Operand:
        left = self.operand()
        if not self.sees("+", "-"):
            return left
        sign, right = (1 if self.take() == "+" else -1), self.operand()
        return lambda item, values: left(item, values) + sign * right(item, values)

    def operand(self) -> Operand:
        if self.sees("if_not_exists"):
            self.take()
            self.take("(")
            name = self.name()
            self.take(",")
            other = self.operand()
            self.take(")")
            return lambda item, values: _plain(item[name]) if name in item else other(item, values)
        word = self.take()
        if word.startswith(":"):
            return lambda _, values: _plain(values[word])
        word, _, place = word.partition("[")
        name = self._names.get(word, word)
        if place:
            at = int(place[:-1])
            return lambda item, _: _plain(item[name]["L"][at]) if name in item else None
        return lambda item, _: _plain(item[name]) if name in item else None

    def name(self) -> str:
        word = self.take()
        return self._names.get(word, word)


def _within(low: Any, value: Any, high: Any) -> bool:
    return value is not None and low <= value <= high


class _Kept(dict[str, Any]):
    """A value that is only passed on: a list, a map, bytes."""


def _plain(value: Item) -> Any:
    ((kind, held),) = value.items()
    if kind == "N":
        return int(held)
    return held if kind in ("S", "BOOL") else _Kept(value)


def _marshalled(value: Any) -> Item:
    if isinstance(value, _Kept):
        return dict(value)
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}
