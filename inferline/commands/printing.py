"""What commands print: JSON for programs, tables for people, errors beside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from inferline.terminal import columns, printable_lines, table

#: Exit codes.
OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
#: Fields of lists that SDKs want, and that tell people nothing new.
_FOR_SDKS: Final = frozenset(
    {"object", "type", "lifecycle", "display_name", "created_at", "max_input_tokens"}
)


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print ``rows``."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    names = [name for name in rows[0] if name not in _FOR_SDKS] if rows else []
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    print(table([names, *cells], columns(sys.stdout)) if rows else "none")


def print_error(error: object) -> None:
    """Print an error on stderr; what a terminal would obey is left out."""
    print(f"inferline: {printable_lines(str(error))}", file=sys.stderr)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "-" if value is None else str(value)
