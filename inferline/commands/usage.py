"""The command `inferline usage`: usage by tenant, key or model, as a table, CSV or JSON."""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any, Final
from urllib.parse import urlencode

from inferline.commands import gateway
from inferline.commands.printing import FAILED, OK, print_error
from inferline.commands.stack import opened
from inferline.terminal import columns, printable, table
from inferline.usage.report import (
    DIMENSIONS,
    Report,
    dimensions,
    last_requests,
    moment,
    request_row,
)

PATH: Final = "/v1/usage"
#: Number of requests listed by --requests.
LISTED: Final = 100


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the command's flags."""
    gateway.add_arguments(parser, environ)
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.add_argument(
        "--by",
        default="model",
        metavar="A,B",
        help=f"what to group by: some of {', '.join(DIMENSIONS)} (%(default)s)",
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
        help="show all tenants: read the stack's tables with your AWS credentials, in "
        "AWS_REGION (or at AWS_ENDPOINT_URL, an emulator's), instead of asking the gateway",
    )
    parser.add_argument(
        "--stack",
        metavar="NAME",
        help="with --all-tenants: the stack (INFERLINE_STACK; default inferline)",
    )


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the command and return the exit code; raises what reading the tables raises."""
    options.since = options.since or ("1h" if options.requests else "24h")
    try:
        usage = (_read_tables if options.all_tenants else _read_gateway)(options, environ)
    except gateway.NoAnswerError as error:
        print_error(error)
        return FAILED
    _warn(usage)
    rows = [
        {name: value for name, value in row.items() if name != "object"} for row in usage["data"]
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        lines = [list(rows[0]), *(row.values() for row in rows)] if rows else []
        writer.writerows(map(_printable, line) for line in lines)
    else:
        heads = [name.replace("_", " ") for name in rows[0]] if rows else []
        cells = [list(row.values()) for row in rows]
        print(table([heads, *cells], columns(sys.stdout)) if rows else "none")
    return OK


def _read_gateway(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Read the usage of the key's tenant from the gateway. Raises NoAnswerError."""
    if options.requests:
        path, query = f"{PATH}/requests", {"since": options.since, "limit": LISTED}
    else:
        path, query = PATH, {"by": options.by, "since": options.since, "until": options.until}
    environ = gateway.with_key(options, environ)
    usage: Mapping[str, Any] = gateway.fetch(
        options.base_url, f"{path}?{urlencode(query)}", environ
    )
    return usage


def _read_tables(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Read all tenants' usage. Raises InvalidRequest, SettingsError and Unavailable."""

    async def read() -> Mapping[str, Any]:
        async with opened(options, environ) as stores:
            usage = stores.usage
            now = usage.now_ms()
            since = moment(options.since, now, "since")
            if options.requests:
                requests = await last_requests(usage, None, since, LISTED)
                return {"data": [request_row(request) for request in requests]}
            until = moment(options.until, now, "until")
            by = dimensions(options.by)
            report = Report(tenant=None, by=by, since_ms=since, until_ms=until)
            await report.make(usage)
            return report.as_dict()

    return asyncio.run(read())


def _warn(usage: Mapping[str, Any]) -> None:
    """Warn of requests that have ended and are not counted yet."""
    counted_until = usage.get("counted_until", inf)
    if counted_until < usage.get("until", 0):
        at = datetime.fromtimestamp(counted_until, UTC)
        print_error(f"requests that ended after {at:%Y-%m-%d %H:%M} UTC are not counted yet")


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) else value
