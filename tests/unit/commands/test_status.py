"""What a person sees of the overview."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from inferline.commands import gateway, status

NONE = {"p50": None, "p95": None, "p99": None}


def figures(**changes: Any) -> dict[str, Any]:
    given = {"requests": 0, "errors": {}, "answer_bytes": 0, "input_tokens": 0, "output_tokens": 0}
    return given | {f"{of}_ms": NONE for of in ("first_token", "total", "queue")} | changes


def queue(model: str = "m", tier: str = "default", **changes: Any) -> dict[str, Any]:
    given = {"waiting": 0, "running": 0, "oldest_seconds": None, "providers": 1, "slots": 4}
    return {"model": model, "tier": tier} | given | changes


def overview(**changes: Any) -> dict[str, Any]:
    hour = {"total": figures(), "models": [], "minutes": [], "aws_calls": {}}
    given = {"at": 0, "version": "1", "queues": [], "providers": [], "hour": hour}
    return given | changes


def lines(text: str, title: str) -> list[str]:
    """Return the lines of one table, blanks as one."""
    part = next(part for part in text.split("\n\n") if part.startswith(title))
    return [" ".join(line.split()) for line in part.splitlines()[1:]]


def test_nothing_is_said_to_be_nothing() -> None:
    text = status.text(overview())

    assert text.startswith("InferLine 1 at 1970-01-01 00:00:00 UTC")
    assert 5 == text.count("\nnone")


def test_queues_that_hold_something_are_listed_and_idle_models_once() -> None:
    tiers = ("priority", "default", "flex")
    busy = [queue("a", tier, waiting=n, oldest_seconds=n) for n, tier in enumerate(tiers)]
    idle = [queue("b", tier) for tier in tiers]

    rows = lines(status.text(overview(queues=[*busy, *idle])), "Queues")

    assert ["a default 1 0 1 1 4", "a flex 2 0 2 1 4", "b all 0 0 - 1 4"] == rows[1:]


def test_a_provider_is_told_with_its_speed_and_why_it_takes_no_work() -> None:
    provider = {
        "id": "p1", "models": ["m"], "slots": 4, "running": 1, "version": "1",
        "service_seconds": 2.0, "seen_seconds_ago": 3.5,
    }  # fmt: skip
    well = provider | {"healthy": True, "tokens_per_second": 12.34, "reason": ""}
    ill = provider | {"healthy": False, "tokens_per_second": 0.0, "reason": "It does not answer."}
    ill |= {"warning": "It has a twin."}

    rows = lines(status.text(overview(providers=[well, ill])), "Providers")

    assert "p1 yes 1 4 2 12.3 3.5 1 m" == rows[1]
    assert "p1 NO 1 4 2 0 3.5 1 m It does not answer. It has a twin." == rows[2]


def test_times_are_seconds_and_errors_and_calls_are_told_for_each_request() -> None:
    some = figures(
        requests=4,
        errors={"queue_full": 1},
        input_tokens=70,
        output_tokens=900,
        total_ms={"p50": 1234, "p95": 20_800, "p99": 20_800},
    )
    hour = {
        "total": some,
        "models": [{"model": "m", **some}],
        "minutes": [],
        "aws_calls": {"sqs:SendMessage": 3, "dynamodb:BatchGetItem": 160},
    }

    text = status.text(overview(hour=hour))

    assert ["m 4 1 70 900 - - - 1.2 21 21 - - -"] == lines(text, "Last hour")[1:]
    assert ["queue_full 1 0.25"] == lines(text, "Errors")[1:]
    assert ["dynamodb:BatchGetItem 160 40", "sqs:SendMessage 3 0.75"] == lines(text, "AWS")[1:]


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    text = status.text(overview(queues=[queue("m\x1b[2J")]))

    assert "\x1b" not in text


def options(**changes: Any) -> argparse.Namespace:
    given = {"base_url": "http://127.0.0.1:9", "api_key": None, "json": False, "watch": None}
    return argparse.Namespace(**(given | changes))


def test_a_gateway_that_does_not_answer_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    code = status.run(options(), {})

    assert 1 == code
    assert "no answer from http://127.0.0.1:9/v1/overview" in capsys.readouterr().err


def test_a_watch_goes_on_until_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    pauses: list[float] = []

    def fetch(base_url: str, path: str, environ: Mapping[str, str]) -> Any:
        asked.append((base_url, environ["INFERLINE_API_KEY"]))
        return overview()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(gateway, "fetch", fetch)
    out = io.StringIO()

    code = status.run(options(watch=2.0), {"INFERLINE_API_KEY": "k"}, out, sleep)

    assert (0, [2.0] * 3) == (code, pauses)
    assert [("http://127.0.0.1:9", "k")] * 3 == asked
    assert 3 == out.getvalue().count("InferLine 1")


def test_json_is_what_the_gateway_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "fetch", lambda *_: overview())
    out = io.StringIO()

    status.run(options(json=True), {}, out)

    assert overview() == json.loads(out.getvalue())
