"""The command `inferline usage`: who has used what, as a table, as CSV or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, Final
from urllib.parse import urlencode

from inferline.commands import asking
from inferline.commands.printing import FAILED, OK
from inferline.commands.stack import opened
from inferline.commands.status import table
from inferline.usage.report import (
    DIMENSIONS,
    Report,
    dimensions,
    last_requests,
    moment,
    request_row,
)

PATH: Final = "/v1/usage"
#: How many requests are listed.
LISTED: Final = 100

Rows = Sequence[Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the command's flags."""
    asking.add_arguments(parser, environ)
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.add_argument(
        "--by",
        default="model",
        metavar="A,B",
        help=f"what to add up by: some of {', '.join(DIMENSIONS)} (%(default)s)",
    )
    when = "90m, 12h or 7d ago, or a date such as 2026-11-01, in UTC"
    parser.add_argument("--since", metavar="TIME", help=f"{when} (24h; with --requests 1h)")
    parser.add_argument("--until", default="0m", metavar="TIME", help="the same (now)")
    parser.add_argument(
        "--requests",
        action="store_true",
        help=f"list the last {LISTED} requests instead, while their tasks are kept",
    )
    parser.add_argument(
        "--all-tenants",
        action="store_true",
        help="of all tenants: read from the stack's tables with your AWS credentials, in "
        "AWS_REGION (or at AWS_ENDPOINT_URL, an emulator's), instead of asking the gateway",
    )
    parser.add_argument(
        "--stack",
        metavar="NAME",
        help="with --all-tenants: the stack (INFERLINE_STACK; default inferline)",
    )


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the command. Returns the exit code; raises what reading the tables raises."""
    options.since = options.since or ("1h" if options.requests else "24h")
    try:
        told = _read(options, environ) if options.all_tenants else _asked(options, environ)
    except asking.NoAnswerError as error:
        print(f"inferline: {error}", file=sys.stderr)
        return FAILED
    _warn(told)
    rows = [
        {name: value for name, value in row.items() if name != "object"} for row in told["data"]
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([list(rows[0]), *(row.values() for row in rows)] if rows else [])
    else:
        print(_table(rows))
    return OK


def _asked(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """What the gateway tells of the key's tenant. Raises NoAnswerError."""
    if options.requests:
        path, asked = f"{PATH}/requests", {"since": options.since, "limit": LISTED}
    else:
        path, asked = PATH, {"by": options.by, "since": options.since, "until": options.until}
    environ = asking.keyed(options, environ)
    found: Mapping[str, Any] = asking.fetch(options.base_url, f"{path}?{urlencode(asked)}", environ)
    return found


def _read(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """What the tables tell of all tenants. Raises InvalidRequest, SettingsError, Unavailable."""

    async def read() -> Mapping[str, Any]:
        async with opened(options, environ) as stores:
            usage = stores.usage
            now = usage.now_ms()
            since = moment(options.since, now, "since")
            if options.requests:
                found = await last_requests(usage, None, since, LISTED)
                return {"data": [request_row(spent) for spent in found]}
            until = moment(options.until, now, "until")
            by = dimensions(options.by)
            report = Report(tenant=None, by=by, since_ms=since, until_ms=until)
            await report.make(usage)
            return report.told()

    return asyncio.run(read())


def _warn(told: Mapping[str, Any]) -> None:
    """Say so when not all that ended was counted yet."""
    counted = told.get("counted_until", inf)
    if counted < told.get("until", 0):
        at = datetime.fromtimestamp(counted, UTC)
        text = f"inferline: requests that ended after {at:%Y-%m-%d %H:%M} UTC are not in it yet"
        print(text, file=sys.stderr)


def _table(rows: Rows) -> str:
    if not rows:
        return "none"
    heads = [name.replace("_", " ") for name in rows[0]]
    return table([heads, *(list(row.values()) for row in rows)])
