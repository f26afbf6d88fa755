"""Runs the clients, each once, and keeps what they saw."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.backend import Backend, BackendThread
from tests.support.line import empty_line
from tests.support.script import Script

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

#: What each client is run by, and its script.
CLIENTS = {
    "openai-python 3": (sys.executable, "openai_python.py"),
    "openai-python 2": (str(ROOT / ".venv-clients/bin/python"), "openai_python.py"),
    "langchain": (str(ROOT / ".venv-clients/bin/python"), "langchain_openai_chat.py"),
    "litellm": (str(ROOT / ".venv-clients/bin/python"), "litellm_sdk.py"),
    "anthropic": (str(ROOT / ".venv-clients/bin/python"), "anthropic_python.py"),
    "instructor": (str(ROOT / ".venv-clients/bin/python"), "instructor_batches.py"),
    "openai-node": ("node", "node/openai_node.mjs"),
    "ai-sdk": ("node", "node/ai_sdk.mjs"),
}

#: How long a request may take before the gateway gives up, seconds: the tests wait for that.
DEADLINE_SECONDS = 5

Sights = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """Address for the clients, and the scripted backend at its other end."""

    base_url: str
    backend_url: str
    model: str = "test-model"
    #: A model that is known and that nobody serves.
    unserved: str = "unserved-model"
    deadline_seconds: int = DEADLINE_SECONDS


@pytest.fixture(scope="session")
def line() -> Iterator[Line]:
    """Yield a gateway, a provider and a scripted backend, which the clients know nothing of."""
    script = Script(first=0.02, interval=0.002)
    with BackendThread(Backend(script=script)) as server, empty_line() as parts:
        parts.start_gateway(
            INFERLINE_REQUEST_SECONDS_MAX=str(DEADLINE_SECONDS),
            INFERLINE_NO_PROVIDER_SECONDS="0.3",
        )
        parts.start_provider("p1", server.url, "--slots", "8")
        line = Line(f"{parts.url}/v1", server.url)
        come_and_go(line)
        yield line


def come_and_go(line: Line) -> None:
    """Enrol a provider for the model that nobody is to serve, and have it leave."""
    enrolment = {"id": "gone", "version": "1", "slots": 1, "models": [{"id": line.unserved}]}
    httpx.post(f"{line.base_url}/providers", json=enrolment, timeout=60).raise_for_status()
    httpx.delete(f"{line.base_url}/providers/gone", timeout=60).raise_for_status()


@pytest.fixture(scope="session")
def sights_of(line: Line) -> Callable[[str], Sights]:
    """Return what a client saw in each of its cases; runs it when first asked."""

    @cache
    def run(client: str) -> subprocess.CompletedProcess[str]:
        program, script = CLIENTS[client]
        command = [program, str(HERE / script), "--base-url", line.base_url]
        command += ["--backend", line.backend_url]
        command += ["--model", line.model, "--unserved", line.unserved]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=500,
        )

    def see(client: str) -> Sights:
        require(client)
        done = run(client)
        assert done.returncode == 0, done.stderr[-4000:]
        # Not splitlines(): what was seen may hold characters that it takes for line ends.
        sights: Sights = json.loads(done.stdout.rstrip("\n").rpartition("\n")[2])
        return sights

    return see


def environment() -> dict[str, str]:
    """Clear what would send a client elsewhere, such as a proxy."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
    return {name: os.environ[name] for name in kept if name in os.environ}


def require(client: str) -> None:
    """Skip where a client is not installed; fail on CI, where every one has to be."""
    there = shutil.which(CLIENTS[client][0]) is not None
    if CLIENTS[client][0] == "node":
        there = there and (HERE / "node/node_modules/openai").is_dir()
    if there:
        return
    reason = f"{client} is not installed: `make test` installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
