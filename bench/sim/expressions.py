"""DynamoDB's conditions and updates, in the forms that InferLine uses, on typed items."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

Item = dict[str, Any]
#: Reads a value of an item, None for none; the second argument are the call's values.
Operand = Callable[[Item, Mapping[str, Any]], Any]
Condition = Callable[[Item, Mapping[str, Any]], bool]

_TOKEN = re.compile(r"\s*([#:]?\w+(?:\[\d+\])?|<>|<=|>=|[=<>(),+-])")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def holds(expression: str, names: Mapping[str, str], values: Item, item: Item) -> bool:
    """Return whether an item meets a condition. An item that does not exist is empty."""
    return _parsed(expression, tuple(sorted(names.items())))(item, values)


def updated(expression: str, names: Mapping[str, str], values: Item, item: Item) -> Item:
    """Return an item after an update."""
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
            added = int(_typed(parser.operand()(item, values))["N"])
            changed[name] = {"N": str(before + added)}
        else:
            parser.take("=")
            changed[name] = _typed(parser.sum()(item, values))
        at = parser.at
        if at < len(words) and words[at] == ",":
            at += 1
    return changed


def _words(expression: str) -> list[str]:
    words: list[str] = _TOKEN.findall(expression)
    if "".join(words) != "".join(expression.split()):
        raise ValueError(f"not an expression of ours: {expression}")
    return words


@lru_cache(maxsize=1000)
def _parsed(expression: str, names: tuple[tuple[str, str], ...]) -> Condition:
    parser = _Parser(_words(expression), dict(names))
    condition = parser.any_of()
    if parser.at != len(parser.words):
        raise ValueError(f"not a condition of ours: {expression}")
    return condition


class _Parser:
    """A recursive-descent parser of an expression, at the word number `at`."""

    def __init__(self, words: list[str], names: Mapping[str, str]) -> None:
        self.words = words
        self.at = 0
        self._names = names

    def take(self, word: str = "") -> str:
        taken = self.words[self.at]
        if word and taken != word:
            raise ValueError(f"{taken!r} in place of {word!r}")
        self.at += 1
        return taken

    def sees(self, *words: str) -> bool:
        return self.at < len(self.words) and self.words[self.at] in words

    def any_of(self) -> Condition:
        terms = [self.all_of()]
        while self.sees("OR"):
            self.take()
            terms.append(self.all_of())
        return lambda item, values: any(term(item, values) for term in terms)

    def all_of(self) -> Condition:
        terms = [self.term()]
        while self.sees("AND"):
            self.take()
            terms.append(self.term())
        return lambda item, values: all(term(item, values) for term in terms)

    def term(self) -> Condition:
        if self.sees("("):
            self.take()
            inner = self.any_of()
            self.take(")")
            return inner
        if self.sees("attribute_exists", "attribute_not_exists"):
            exists = self.take() == "attribute_exists"
            self.take("(")
            name = self.name()
            self.take(")")
            return lambda item, _: (name in item) is exists
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
            options = [self.operand()]
            while self.take() == ",":
                options.append(self.operand())
            return lambda item, values: left(item, values) in [o(item, values) for o in options]
        if word == "BETWEEN":
            low = self.operand()
            self.take("AND")
            high = self.operand()
            return lambda item, values: _within(
                low(item, values), left(item, values), high(item, values)
            )
        compare, right = _COMPARISONS[word], self.operand()

        def compared(item: Item, values: Mapping[str, Any]) -> bool:
            operands = left(item, values), right(item, values)
            return None not in operands and compare(*operands)

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
        word, _, index = word.partition("[")
        name = self._names.get(word, word)
        if index:
            number = int(index[:-1])
            return lambda item, _: _plain(item[name]["L"][number]) if name in item else None
        return lambda item, _: _plain(item[name]) if name in item else None

    def name(self) -> str:
        word = self.take()
        return self._names.get(word, word)


def _within(low: Any, value: Any, high: Any) -> bool:
    return value is not None and low <= value <= high


class _Opaque(dict[str, Any]):
    """A value that is only passed on: a list, a map, bytes."""


def _plain(value: Item) -> Any:
    ((kind, content),) = value.items()
    if kind == "N":
        return int(content)
    return content if kind in ("S", "BOOL") else _Opaque(value)


def _typed(value: Any) -> Item:
    if isinstance(value, _Opaque):
        return dict(value)
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}
