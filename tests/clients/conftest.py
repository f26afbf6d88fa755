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

import pytest

from tests.support.backend import Backend, BackendThread
from tests.support.script import Script

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

#: What each client is run by, and its script.
CLIENTS = {
    "openai-python 3": (sys.executable, "openai_python.py"),
    "openai-python 2": (str(ROOT / ".venv-clients/bin/python"), "openai_python.py"),
    "langchain": (str(ROOT / ".venv-clients/bin/python"), "langchain_openai_chat.py"),
    "litellm": (str(ROOT / ".venv-clients/bin/python"), "litellm_sdk.py"),
    "openai-node": ("node", "node/openai_node.mjs"),
}

Sights = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """Where the clients are pointed, and the scripted backend at its other end."""

    base_url: str
    backend: Backend
    backend_url: str
    model: str = "test-model"


@pytest.fixture(scope="session")
def line() -> Iterator[Line]:
    script = Script(first=0.02, interval=0.002)
    with BackendThread(Backend(script=script)) as server:
        yield Line(f"{server.url}/v1", server.backend, server.url)


@pytest.fixture(scope="session")
def sights_of(line: Line) -> Callable[[str], Sights]:
    """Return what a client saw in each of its cases; runs it when first asked."""

    @cache
    def run(client: str) -> subprocess.CompletedProcess[str]:
        program, script = CLIENTS[client]
        command = [program, str(HERE / script), "--base-url", line.base_url]
        command += ["--backend", line.backend_url, "--model", line.model]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=150,
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
    """Nothing that would send a client elsewhere, such as a proxy."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
    return {name: os.environ[name] for name in kept if name in os.environ}


def require(client: str) -> None:
    """Skip where a client is not installed; fail on CI, where every one has to be."""
    there = shutil.which(CLIENTS[client][0]) is not None
    if client == "openai-node":
        there = there and (HERE / "node/node_modules/openai").is_dir()
    if there:
        return
    reason = f"{client} is not installed: `make test` installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
