"""The command `inferline status`: queues, providers and the last hour, as tables."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from inferline.commands import gateway
from inferline.commands.printing import FAILED, OK, print_error
from inferline.terminal import Cells, columns, printable, table

PATH: Final = "/v1/overview"
#: The shortest time between two reads, seconds: the gateway has nothing newer before.
WATCH_SECONDS_MIN: Final = 1.0
#: Moves the cursor to the top and clears what is below it.
_CLEAR: Final = "\x1b[H\x1b[2J"

_TIMES: Final = (("first token", "first_token_ms"), ("answer", "total_ms"), ("queue", "queue_ms"))


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the command's flags."""
    gateway.add_arguments(parser, environ)
    parser.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="refresh after so many seconds, until Ctrl-C",
    )


def run(
    options: argparse.Namespace,
    environ: Mapping[str, str],
    out: TextIO | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run the command and return the exit code."""
    out = out or sys.stdout
    if not options.watch:
        return _show(options, environ, out)
    try:
        while True:
            _show(options, environ, out, _CLEAR if out.isatty() else "")
            sleep(max(WATCH_SECONDS_MIN, options.watch))
    except KeyboardInterrupt:
        return OK


def _show(
    options: argparse.Namespace, environ: Mapping[str, str], out: TextIO, start: str = ""
) -> int:
    """Print ``start`` and the gateway's overview; return the exit code."""
    try:
        overview = gateway.fetch(options.base_url, PATH, gateway.with_key(options, environ))
    except gateway.NoAnswerError as error:
        print_error(error)
        return FAILED
    output = json.dumps(overview, indent=2) if options.json else text(overview, columns(out))
    print(f"{start}{output}", file=out, flush=True)
    return OK


def text(overview: Mapping[str, Any], width: int | None = None) -> str:
    """Return the answer of `GET /v1/overview` as tables of at most ``width`` columns."""
    hour = overview["hour"]
    at = datetime.fromtimestamp(overview["at"], UTC)
    tables: Mapping[str, Sequence[Cells]] = {
        "Queues": _queues(overview["queues"]),
        "Providers": _providers(overview["providers"]),
        "Last hour, times in seconds": _hour(hour),
        "Errors of the last hour": _counts("code", hour["total"]["errors"], hour),
        "AWS calls of the gateways": _counts("call", hour["aws_calls"], hour),
    }
    parts = [f"InferLine {printable(str(overview['version']))} at {at:%Y-%m-%d %H:%M:%S} UTC"]
    for title, rows in tables.items():
        parts.append(f"{title}\n{table(rows, width) if len(rows) > 1 else 'none'}")
    return "\n\n".join(parts)


def _queues(queues: Sequence[Mapping[str, Any]]) -> list[Cells]:
    """Return a row for each queue that is not empty, and one for each model without tasks."""
    rows: list[Cells] = [("model", "tier", "waiting", "running", "oldest s", "providers", "slots")]
    busy = {queue["model"] for queue in queues if _holds(queue)}
    listed = set[str]()
    for queue in queues:
        if not _holds(queue) and queue["model"] in busy | listed:
            continue
        listed.add(queue["model"])
        tier = queue["tier"] if queue["model"] in busy else "all"
        names = ("waiting", "running", "oldest_seconds", "providers", "slots")
        rows.append((queue["model"], tier, *(queue[name] for name in names)))
    return rows


def _holds(queue: Mapping[str, Any]) -> bool:
    return bool(queue["waiting"] or queue["running"])


def _providers(providers: Sequence[Mapping[str, Any]]) -> list[Cells]:
    heads = "provider,healthy,running,slots,s a task,tokens a s,seen s ago,version,models,problem"
    return [heads.split(","), *map(_provider, providers)]


def _provider(provider: Mapping[str, Any]) -> Cells:
    return (
        provider["id"],
        "yes" if provider["healthy"] else "NO",
        provider["running"],
        provider["slots"],
        round(provider["service_seconds"], 1),
        round(provider["tokens_per_second"], 1),
        provider["seen_seconds_ago"],
        provider["version"],
        ", ".join(provider["models"]),
        # A gateway of an earlier release sends no warning.
        " ".join(filter(None, (provider["reason"], provider.get("warning")))),
    )


def _hour(hour: Mapping[str, Any]) -> list[Cells]:
    heads = [f"{name} {at}" for name, _ in _TIMES for at in ("p50", "p95", "p99")]
    rows: list[Cells] = [("model", "requests", "errors", "tokens in", "tokens out", *heads)]
    if not hour["total"]["requests"]:
        return rows
    models = [(model["model"] or "(none)", model) for model in hour["models"]]
    for name, metrics in [*models, *([("all", hour["total"])] if len(models) > 1 else [])]:
        failed = sum(metrics["errors"].values())
        tokens = (metrics["input_tokens"], metrics["output_tokens"])
        rows.append((name, metrics["requests"], failed, *tokens, *_times(metrics)))
    return rows


def _times(metrics: Mapping[str, Any]) -> list[float | None]:
    """Return the percentiles in seconds, to two significant digits."""
    percentiles = (metrics[name][at] for _, name in _TIMES for at in ("p50", "p95", "p99"))
    return [None if ms is None else float(f"{ms / 1000:.2g}") for ms in percentiles]


def _counts(name: str, counts: Mapping[str, int], hour: Mapping[str, Any]) -> list[Cells]:
    """Return the counts, the largest first, each also divided by the requests."""
    requests = max(1, hour["total"]["requests"])
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows: list[Cells] = [(label, count, round(count / requests, 2)) for label, count in largest]
    return [(name, "count", "a request"), *rows]
