"""The command `inferline status`: the overview as aligned text, once or again and again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from inferline.commands import asking
from inferline.commands.printing import FAILED, OK

PATH: Final = "/v1/overview"
#: Between two looks at the least, seconds: the gateway has nothing newer before.
WATCH_SECONDS_MIN: Final = 1.0
#: Moves the cursor to the top and clears what is below it.
_CLEAR: Final = "\x1b[H\x1b[2J"

_TIMES: Final = (("first token", "first_token_ms"), ("answer", "total_ms"), ("queue", "queue_ms"))

Cells = Sequence[object]


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the command's flags."""
    asking.add_arguments(parser, environ)
    parser.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="look again and again, until Ctrl-C",
    )


def run(
    options: argparse.Namespace,
    environ: Mapping[str, str],
    out: TextIO = sys.stdout,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run the command; the key is taken from INFERLINE_API_KEY. Returns the exit code."""
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
    """Print what the gateway tells now, after ``start``; 1 when it does not."""
    try:
        told = asking.fetch(options.base_url, PATH, asking.keyed(options, environ))
    except asking.NoAnswerError as error:
        print(f"inferline: {error}", file=sys.stderr)
        return FAILED
    shown = json.dumps(told, indent=2) if options.json else text(told)
    print(f"{start}{shown}", file=out, flush=True)
    return OK


def text(told: Mapping[str, Any]) -> str:
    """What `GET /v1/overview` told, in tables."""
    hour = told["hour"]
    at = datetime.fromtimestamp(told["at"], UTC)
    parts = (
        f"InferLine {told['version']} at {at:%Y-%m-%d %H:%M:%S} UTC",
        _titled("Queues", _queues(told["queues"])),
        _titled("Providers", _providers(told["providers"])),
        _titled("Last hour, times in seconds", _hour(hour)),
        _titled("Errors of the last hour", _counts("code", hour["total"]["errors"], hour)),
        _titled("AWS calls of the gateways", _counts("call", hour["aws_calls"], hour)),
    )
    return "\n\n".join(parts)


def table(rows: Sequence[Cells]) -> str:
    """``rows`` as columns; numbers stand at the right. The first row is the head."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [
        all(isinstance(value, int | float | None) for value in column)
        for column in zip(*rows[1:], strict=True)
    ]
    lines = (
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        )
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _titled(title: str, rows: Sequence[Cells]) -> str:
    """A table under its title; a head alone says that there is nothing."""
    return f"{title}\n{table(rows) if len(rows) > 1 else 'none'}"


def _queues(queues: Sequence[Mapping[str, Any]]) -> list[Cells]:
    """The queues that hold something, and one row for each model that has nothing to do."""
    rows: list[Cells] = [("model", "tier", "waiting", "running", "oldest s", "providers", "slots")]
    busy = {queue["model"] for queue in queues if _holds(queue)}
    shown = set[str]()
    for queue in queues:
        if not _holds(queue) and queue["model"] in busy | shown:
            continue
        shown.add(queue["model"])
        tier = queue["tier"] if queue["model"] in busy else "all"
        names = ("waiting", "running", "oldest_seconds", "providers", "slots")
        rows.append((queue["model"], tier, *(queue[name] for name in names)))
    return rows


def _holds(queue: Mapping[str, Any]) -> bool:
    return bool(queue["waiting"] or queue["running"])


def _providers(providers: Sequence[Mapping[str, Any]]) -> list[Cells]:
    rows: list[Cells] = [
        (
            *("provider", "healthy", "running", "slots", "s a task", "tokens a s", "seen s ago"),
            *("version", "models", "what is wrong"),
        )
    ]
    for one in providers:
        healthy = "yes" if one["healthy"] else "NO"
        each, fast = round(one["service_seconds"], 1), round(one["tokens_per_second"], 1)
        models, seen = ", ".join(one["models"]), one["seen_seconds_ago"]
        work = (one["running"], one["slots"], each, fast, seen)
        # A gateway of an earlier release warns of nothing.
        wrong = " ".join(filter(None, (one["reason"], one.get("warning"))))
        rows.append((one["id"], healthy, *work, one["version"], models, wrong))
    return rows


def _hour(hour: Mapping[str, Any]) -> list[Cells]:
    heads = [f"{name} {at}" for name, _ in _TIMES for at in ("p50", "p95", "p99")]
    rows: list[Cells] = [("model", "requests", "errors", "tokens in", "tokens out", *heads)]
    if not hour["total"]["requests"]:
        return rows
    models = [(model["model"] or "(none)", model) for model in hour["models"]]
    for name, figures in [*models, *([("all", hour["total"])] if len(models) > 1 else [])]:
        failed = sum(figures["errors"].values())
        tokens = (figures["input_tokens"], figures["output_tokens"])
        rows.append((name, figures["requests"], failed, *tokens, *_times(figures)))
    return rows


def _times(figures: Mapping[str, Any]) -> list[float | None]:
    """Percentiles in seconds, as exact as they are."""
    found = (figures[name][at] for _, name in _TIMES for at in ("p50", "p95", "p99"))
    return [None if ms is None else float(f"{ms / 1000:.2g}") for ms in found]


def _counts(name: str, counts: Mapping[str, int], hour: Mapping[str, Any]) -> list[Cells]:
    """Counts, the largest first, and how many that is for each request."""
    requests = max(1, hour["total"]["requests"])
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows: list[Cells] = [(what, count, round(count / requests, 2)) for what, count in largest]
    return [(name, "count", "a request"), *rows]


def _cell(value: object) -> str:
    """``value`` in print; what a terminal would obey is left out."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return "".join(char if char.isprintable() else "?" for char in str(value))
