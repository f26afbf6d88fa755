"""Usage is counted once for each request, also when its provider or its gateway dies."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.line import MODEL, Line, running_line, until

TOKENS = 12
CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "a-secret-prompt"}],
    "x_script": {"first": 0.5, "interval": 0.1, "tokens": TOKENS},
}


def used(line: Line, *flags: str) -> Any:
    """Return what the command tells."""
    command = [sys.executable, "-m", "inferline", "usage", "--json", *flags]
    environ = {**line.environ, "INFERLINE_BASE_URL": line.url}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    assert "a-secret" not in done.stdout
    return json.loads(done.stdout)


def begun(line: Line) -> threading.Thread:
    """Return a request that a provider is at; whether it is answered is not asked."""

    def ask() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{line.url}/v1/chat/completions", json=CHAT, timeout=60)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: line.backend_state()["running"], "a provider is at it")
    return asking


def test_each_request_is_counted_once_whoever_dies() -> None:
    with running_line(INFERLINE_LEASE_SECONDS="3") as line:
        gateway, provider = line.parts[1], line.parts[3]
        asking = begun(line)
        provider.kill()
        line.start_provider("p2")
        asking.join()
        asking = begun(line)
        gateway.kill()
        asking.join()
        line.start_gateway(port=urlsplit(line.url).port or 0, INFERLINE_LEASE_SECONDS="3")

        until(lambda: len(used(line, "--requests")) == 2, "both have ended")

        listed = used(line, "--requests")
        assert [(1, "answered", "p2"), (2, "answered", "p2")] == sorted(
            (row["attempts"], row["outcome"], row["provider"]) for row in listed
        )
        [summed] = used(line, "--by", "tenant,model", "--since", "30m")
        assert ("local", MODEL, 2, 2) == tuple(
            summed[name] for name in ("tenant", "model", "requests", "answered")
        )
        assert (3, 2 * TOKENS) == (summed["attempts"], summed["output_tokens"])
        assert used(line, "--all-tenants", "--by", "tenant,model", "--since", "30m") == [summed]
