"""One pass over a JSON document, which collects its field names and checks JSON's limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isinf
from typing import Any, Final, Self

from inferline.errors import InvalidRequest

#: What every backend can hold; of longer whole numbers some make others, and some end.
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1

#: What the parser makes of objects and arrays: exactly these types.
NODES: Final = frozenset({dict, list})
#: Fields that hold a JSON schema, whose names are those of an answer, or of a tool's arguments.
SCHEMAS: Final = frozenset(
    {"parameters", "input_schema", "schema", "json_schema", "properties", "guided_json", "json"}
)


@dataclass(slots=True)
class JsonScan:
    """The findings of one pass over a document."""

    #: The names of all fields outside of schemas, at whatever depth, and within.
    names: set[str] = field(default_factory=set)
    schema_names: set[str] = field(default_factory=set)
    #: How many fields there are, and how long the longest list is.
    fields: int = 0
    longest: int = 0
    #: The longest regular expression in a schema, characters.
    pattern_chars: int = 0

    @classmethod
    def of_document(cls, document: dict[str, Any], depth_max: int) -> Self:
        """
        Scan a document and refuse what the parser accepts and backends may not.

        Raises InvalidRequest if it is nested deeper than ``depth_max``, the document itself
        counted, or has a number that not every backend can hold.
        """
        outline = cls()
        level: list[Any] = [document]
        schemas: list[Any] = []
        for _ in range(depth_max):
            below: list[Any] = []
            of_schemas: list[Any] = []
            for node in schemas:
                outline._see_schema(node, of_schemas)
            for node in level:
                outline._see(node, below, of_schemas)
            if not below and not of_schemas:
                return outline
            level, schemas = below, of_schemas
        raise InvalidRequest(f"Nest the body's objects and arrays at most {depth_max} deep.")

    def _see(self, node: Any, below: list[Any], schemas: list[Any]) -> None:
        """Note a node outside of schemas; its children go to ``below``, or to ``schemas``."""
        if type(node) is list:
            self._see_list(node, below)
            return
        self.names.update(node)
        self.fields += len(node)
        if SCHEMAS.isdisjoint(node):
            _sort(node.values(), below)
        else:
            for name, value in node.items():
                _sort((value,), schemas if name in SCHEMAS else below)

    def _see_schema(self, node: Any, below: list[Any]) -> None:
        if type(node) is list:
            self._see_list(node, below)
            return
        self.schema_names.update(node)
        self.fields += len(node)
        if "pattern" in node and type(node["pattern"]) is str:
            self.pattern_chars = max(self.pattern_chars, len(node["pattern"]))
        if "patternProperties" in node and type(node["patternProperties"]) is dict:
            self.pattern_chars = max(self.pattern_chars, *map(len, node["patternProperties"]), 0)
        _sort(node.values(), below)

    def _see_list(self, node: list[Any], below: list[Any]) -> None:
        values: Iterable[Any] = node
        if len(node) > self.longest:
            self.longest = len(node)
            if set(map(type, node)) == {int}:  # A prompt in tokens.
                values = min(node), max(node)
        _sort(values, below)


def _sort(values: Iterable[Any], below: list[Any]) -> None:
    """Add to ``below`` what has values of its own, and look at the numbers."""
    for value in values:
        kind = type(value)
        if kind is str:  # Most are; it is asked first because it is told fastest.
            continue
        if kind is dict or kind is list:
            below.append(value)
        elif kind is int or kind is float:
            _check_number(value)


def _check_number(value: float) -> None:
    if type(value) is int:
        if not INT_MIN <= value <= INT_MAX:
            raise InvalidRequest("The body holds a whole number of more than 64 bits.")
    elif isinf(value):
        raise InvalidRequest("The body holds a number beyond the range of a double.")
