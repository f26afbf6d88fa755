"""What a person, a spreadsheet and a program see of usage."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from inferline.cli import main
from inferline.memory.tasks import MemoryStore
from inferline.memory.usage import MemoryUsage
from inferline.settings import Settings
from inferline.usage.usage import HOUR, HOUR_MS, SLICE_MS, Usage, UsageKey, Watermarks

ROWS = [
    {"object": "usage", "tenant": "a,b", "model": "m", "requests": 12, "run_seconds": 1.5},
    {"object": "usage", "tenant": "c", "model": "n", "requests": 3, "run_seconds": 0.25},
]


@pytest.fixture
def asked() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Return a gateway's address and the requests that it gets: paths and keys."""
    requests: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("authorization")))
            rows = ROWS if "tenant" in self.path or "requests" in self.path else []
            late = {"until": 86_400, "counted_until": 0 if "until=1h" in self.path else 86_400}
            body = json.dumps({"data": rows, **late}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *output: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


Asked = tuple[str, list[tuple[str, str | None]]]


def test_a_table_is_asked_of_the_gateway_with_the_key(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    url, requests = asked
    flags = ("--base-url", f"{url}/v1", "--api-key", "il_k", "--by", "tenant,model")

    assert 0 == main(["usage", *flags, "--since", "7d"])

    assert [("/v1/usage?by=tenant%2Cmodel&since=7d&until=0m", "Bearer il_k")] == requests
    output = capsys.readouterr()
    lines = [line.split() for line in output.out.splitlines()]
    head = ["tenant", "model", "requests", "run", "seconds"]
    assert [head, ["a,b", "m", "12", "1.5"], ["c", "n", "3", "0.25"]] == lines
    assert "" == output.err


def test_nothing_is_said_to_be_nothing(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["usage", "--base-url", asked[0], "--by", "day"])
    assert "none\n" == capsys.readouterr().out

    assert 0 == main(["usage", "--base-url", asked[0], "--by", "day", "--csv"])
    assert "" == capsys.readouterr().out


def test_what_was_not_counted_yet_is_told_beside_the_sums(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["usage", "--base-url", asked[0], "--until", "1h", "--csv"])

    output = capsys.readouterr()
    assert "" == output.out
    assert "ended after 1970-01-01 00:00 UTC are not counted yet" in output.err


def test_csv_is_for_spreadsheets_and_json_for_programs(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["usage", "--base-url", asked[0], "--by", "tenant,model"]

    main([*command, "--csv"])
    in_csv = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    main([*command, "--json"])
    in_json = json.loads(capsys.readouterr().out)

    assert [{k: v for k, v in row.items() if k != "object"} for row in ROWS] == in_json
    assert [{name: str(value) for name, value in row.items()} for row in in_json] == in_csv


def test_requests_are_listed_of_the_last_hour(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["usage", "--base-url", asked[0], "--requests"])

    assert [("/v1/usage/requests?since=1h&limit=100", None)] == asked[1]


def test_a_gateway_that_does_not_answer_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == main(["usage", "--base-url", "http://127.0.0.1:9"])

    assert "Is the gateway up?" in capsys.readouterr().err


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Return the settings of the stacks that were opened; each has the usage of two tenants."""
    settings_opened: list[Settings] = []

    @asynccontextmanager
    async def open_operator_stores(settings: Settings) -> AsyncIterator[SimpleNamespace]:
        settings_opened.append(settings)
        usage = MemoryUsage(MemoryStore())
        now = usage.now_ms()
        await usage.advance(Watermarks(first_pass=now // SLICE_MS))
        for tenant in ("acme", "other"):
            kept = {UsageKey(tenant, "k", "m", "p"): Usage(requests=2)}
            await usage.put(HOUR, now // HOUR_MS - 1, 0, kept)
        yield SimpleNamespace(usage=usage)

    monkeypatch.setattr("inferline.aws.stores.open_operator_stores", open_operator_stores)
    return settings_opened


def test_an_operator_is_told_of_all_tenants_from_the_tables(
    tables: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["usage", "--all-tenants", "--stack", "mine", "--by", "tenant", "--json"]

    assert 0 == main([*command, "--since", f"{2 * HOUR_MS // 60_000}m"])

    rows = json.loads(capsys.readouterr().out)
    assert [("acme", 2), ("other", 2)] == [(row["tenant"], row["requests"]) for row in rows]
    assert ["mine-registry"] == [settings.registry_table for settings in tables]
    assert 0 == main(["usage", "--all-tenants", "--requests"])
    assert "none\n" == capsys.readouterr().out


def test_what_cannot_be_told_is_an_error(
    tables: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == main(["usage", "--all-tenants", "--by", "colour"])

    assert "`by` must name some of" in capsys.readouterr().err
