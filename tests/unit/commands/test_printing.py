"""Nothing that a gateway or a row says moves the cursor of the operator who reads it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from inferline.accounts.keys import new_key
from inferline.accounts.tenants import Tenant
from inferline.cli import main
from inferline.fleet.registry import Model, ProviderRecord
from inferline.local import command
from inferline.memory.keys import MemoryKeys
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tenants import MemoryTenants
from inferline.settings import Settings

#: Clears the screen in the codes of 7 and of 8 bits, moves to the line's begin, turns a text round.
HOSTILE = "evil\x1b[2J\x9b2J\r\x07\x7f\u202e"

FIGURES = {
    "requests": 1,
    "errors": {HOSTILE: 1},
    "input_tokens": 0,
    "output_tokens": 0,
    **{f"{part}_ms": {"p50": 1, "p95": 1, "p99": 1} for part in ("first_token", "total", "queue")},
}
LIST_ROW = {
    "id": HOSTILE,
    "owned_by": HOSTILE,
    "version": HOSTILE,
    "reason": HOSTILE,
    "models": [HOSTILE],
    "limits": {HOSTILE: HOSTILE},
    HOSTILE: "a field's name",
}
OVERVIEW = {
    "at": 0,
    "version": HOSTILE,
    "queues": [
        {
            "model": HOSTILE,
            "tier": HOSTILE,
            "waiting": 1,
            "running": HOSTILE,
            "oldest_seconds": HOSTILE,
            "providers": HOSTILE,
            "slots": HOSTILE,
        }
    ],
    "providers": [
        {
            "id": HOSTILE,
            "healthy": False,
            "running": HOSTILE,
            "slots": HOSTILE,
            "service_seconds": 1.0,
            "tokens_per_second": 1.0,
            "seen_seconds_ago": HOSTILE,
            "version": HOSTILE,
            "models": [HOSTILE],
            "reason": HOSTILE,
            "warning": HOSTILE,
        }
    ],
    "hour": {
        "total": FIGURES,
        "models": [{"model": HOSTILE, **FIGURES}],
        "aws_calls": {HOSTILE: 1},
    },
}
USAGE = [{"tenant": HOSTILE, "key": HOSTILE, "model": HOSTILE, HOSTILE: HOSTILE, "requests": 1}]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body: Any = {"data": USAGE if path.startswith("/v1/usage") else [LIST_ROW]}
        if path == "/v1/overview":
            body = OVERVIEW
        refused = self.headers.get("authorization") == "Bearer refused"
        self.send_response(400 if refused else 200, "evil\x9b2J")
        self.end_headers()
        self.wfile.write(json.dumps({"error": {"message": HOSTILE}} if refused else body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the stores of an operator's commands."""
    stores = SimpleNamespace(keys=MemoryKeys(), tenants=MemoryTenants(), registry=MemoryRegistry())

    @asynccontextmanager
    async def open_operator_stores(_: Settings) -> AsyncIterator[SimpleNamespace]:
        yield stores

    monkeypatch.setattr("inferline.aws.stores.open_operator_stores", open_operator_stores)
    return stores


def assert_harmless(captured: Any) -> None:
    for text in (captured.out, captured.err):
        assert all(line.isprintable() for line in text.split("\n"))
    assert "evil" in captured.out + captured.err


GATEWAY_COMMANDS = [
    ("models",),
    ("providers",),
    ("status",),
    ("usage",),
    ("usage", "--csv"),
    ("usage", "--requests"),
]


@pytest.mark.parametrize("command", GATEWAY_COMMANDS, ids=" ".join)
def test_a_gateways_answer(
    command: tuple[str, ...], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main([*command, "--base-url", address])

    assert_harmless(capsys.readouterr())


@pytest.mark.parametrize("command", GATEWAY_COMMANDS, ids=" ".join)
def test_a_gateways_error(
    command: tuple[str, ...], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == main([*command, "--base-url", address, "--api-key", "refused"])

    captured = capsys.readouterr()
    assert_harmless(captured)
    assert 1 == len(captured.err.splitlines())


@pytest.mark.parametrize(
    "command",
    [("keys", "list"), ("providers", "tokens"), ("tenants", "list"), ("models", "remove", "m")],
    ids=" ".join,
)
def test_a_stacks_rows(
    command: tuple[str, ...], stores: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill() -> None:
        for role in ("client", "provider"):
            key, _ = new_key(
                role, HOSTILE, tenant=HOSTILE, now_ms=0, models=(HOSTILE,), expires_ms=None
            )
            await stores.keys.put_key(key)
        await stores.tenants.put_tenant(Tenant(id=HOSTILE, models=(HOSTILE,)))
        await stores.registry.put_models([Model(id="m", queues={})])
        await stores.registry.put_provider(
            ProviderRecord(
                id=HOSTILE, models=("m",), slots=1, running=0, healthy=True, version=HOSTILE
            )
        )

    asyncio.run(fill())

    main(command)

    assert_harmless(capsys.readouterr())


@pytest.mark.parametrize("verb", [("models", "remove"), ("providers", "pardon")], ids=" ".join)
def test_an_id_that_the_operator_gave(
    verb: tuple[str, ...], stores: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == main([*verb, HOSTILE])

    assert_harmless(capsys.readouterr())


def test_the_one_machine_mode(capsys: pytest.CaptureFixture[str]) -> None:
    command._print(f"an answer: {HOSTILE}\nof two lines")
    command._print_error(f"the end of a log:\n{HOSTILE}")

    captured = capsys.readouterr()
    assert_harmless(captured)
    assert 2 == len(captured.out.splitlines()) == len(captured.err.splitlines())
