"""`make interop`: installs and runs the matrix, row by row, and writes docs/compatibility.md."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.harness.machine import describe
from tests.interop import client_row, emulator_row, page, server_row
from tests.interop.cells import Cell, tidy
from tests.interop.clients import CLIENTS
from tests.interop.emulators import EMULATORS
from tests.interop.environments import ROOT, Places, Unavailable
from tests.interop.servers import SERVERS


@dataclass(frozen=True)
class Row:
    """One row of one table, and what finds its cells."""

    table: str
    name: str
    version: str
    find: Callable[[], dict[str, Cell]]

    def result(self) -> dict[str, Any]:
        """Return the row as it is written down."""
        start = time.monotonic()
        row: dict[str, Any] = {"version": self.version, "cells": {}}
        try:
            row["cells"] = {name: cell.as_json() for name, cell in self.find().items()}
        except Unavailable as why:
            row["unavailable"] = tidy(str(why))
            print(f"    {why}", flush=True)
        except (Exception, pytest.fail.Exception) as why:  # noqa: BLE001 - the next row goes on
            row["cells"] = {"list": Cell("no", tidy(f"the line does not start: {why}")).as_json()}
            traceback.print_exc()
        row["date"] = datetime.now(UTC).date().isoformat()
        row["seconds"] = round(time.monotonic() - start)
        return row


def rows(places: Places, stack: ExitStack) -> Iterator[Row]:
    """Yield every row in order; the clients' line is started by the first of them that is run."""
    for server in SERVERS:
        find = partial(server_row.row, server, places)
        yield Row("servers", server.name, server.version, find)
    hall = OnceOpened(places, stack)
    for client in CLIENTS:
        name = f"{client.name} ({client.api})"
        find = partial(hall.row, client)
        yield Row("clients", name, client.environment.version, find)
    for emulator in EMULATORS:
        find = partial(emulator_row.row, emulator, places)
        yield Row("emulators", emulator.name, emulator.version, find)


class OnceOpened:
    """The line that all clients share."""

    def __init__(self, places: Places, stack: ExitStack) -> None:
        self._places, self._stack = places, stack
        self._hall: client_row.Hall | None = None

    def row(self, client: Any) -> dict[str, Cell]:
        """Return the cells of one client."""
        if self._hall is None:
            self._hall = self._stack.enter_context(client_row.opened(self._places))
        return client_row.row(client, self._hall)


def main() -> None:
    flags = _flags()
    # So that nothing that was started outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    places = Places(flags.dir)
    start = time.monotonic()
    with ExitStack() as stack:
        every = list(rows(places, stack))
        if flags.list:
            print("\n".join(f"{row.table:10} {row.name} {row.version}" for row in every))
            return
        chosen = [row for row in every if _wanted(row, flags.only)]
        for number, row in enumerate(chosen, 1):
            print(f"[{number}/{len(chosen)}] {row.name} {row.version}", flush=True)
            _keep(row, row.result(), [other.name for other in every])
    if len(chosen) == len(every):
        _keep_whole(time.monotonic() - start)
    print(f"{len(chosen)} rows in {(time.monotonic() - start) / 60:.0f} minutes; {page.PAGE}")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make interop", description=__doc__)
    parser.add_argument("--only", help="rows with a word that begins so, by commas")
    parser.add_argument("--list", action="store_true", help="list the rows and do nothing")
    default = Path(os.environ.get("INTEROP_DIR") or ROOT / ".interop")
    parser.add_argument(
        "--dir",
        type=Path,
        default=default,
        help="where everything is installed (%(default)s)",
    )
    flags = parser.parse_args()
    flags.dir = flags.dir.resolve()
    return flags


def _wanted(row: Row, only: str | None) -> bool:
    """Return whether a word of the row's begins with one of those of ``only``; all rows without."""
    words = [word.strip() for word in (only or "").split(",") if word.strip()]
    name = f"{row.table} {row.name}"
    return not words or any(re.search(rf"\b{re.escape(word)}", name, re.I) for word in words)


def _keep(row: Row, result: dict[str, Any], order: list[str]) -> None:
    """Write a row at once: a run that is broken off keeps what it has seen."""
    results = page.read()
    table = {**results.get(row.table, {}), row.name: result}
    results[row.table] = {name: table[name] for name in order if name in table}
    page.write(results)


def _keep_whole(seconds: float) -> None:
    machine = describe()
    words = f"{machine['cpu']}, {machine['system']}, Python {machine['python']}"
    date = datetime.now(UTC).date().isoformat()
    whole = {"date": date, "minutes": round(seconds / 60), "machine": words}
    page.write({**page.read(), "whole": whole})


if __name__ == "__main__":
    main()
