"""What commands print: JSON for programs, aligned columns for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

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
    print(json.dumps(rows, indent=2) if as_json else table(rows))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """``rows`` as aligned columns under their names."""
    if not rows:
        return "none"
    names = [name for name in rows[0] if name not in _FOR_SDKS]
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one}" for name, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ",".join(str(one) for one in value)
    return "-" if value is None else str(value)
