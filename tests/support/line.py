"""A whole line as processes, as its users start them: emulator, gateway, providers, LLM servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.emulators import free_port

START_SECONDS_MAX = 120.0
MODEL = "test-model"

T = TypeVar("T")


def until(look: Callable[[], T], what: str, seconds: float = START_SECONDS_MAX) -> T:
    """Return what ``look`` gives as soon as that is true; fails the test after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        if result := look():
            return result
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def get_json(url: str) -> Any:
    """Return what is at ``url``; None when nobody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.loads(answer.read() or b"true")
    except (OSError, urllib.error.URLError):
        return None


@dataclass(slots=True)
class Part:
    """One process of the line."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        """Return all that it has said."""
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """End it without warning."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 40.0) -> int:
        """Ask it to end, as an operator would; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@dataclass(slots=True)
class Line:
    """A running line. Parts can be added, killed and stopped."""

    stack: ExitStack
    folder: Path
    environ: dict[str, str]
    emulator_url: str = ""
    url: str = ""
    backend_url: str = ""
    parts: list[Part] = field(default_factory=list)

    def start(self, name: str, *command: str, environ: Mapping[str, str] | None = None) -> Part:
        """Start ``python -m command``; it ends with the line."""
        log_path = self.folder / f"{len(self.parts)}-{name}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**self.environ, **(environ or {})},
                start_new_session=True,
            )
        part = Part(name, process, log_path)
        self.parts.append(part)
        # What it would still do is of no use: a test that wants its end asks it to end.
        self.stack.callback(part.kill)
        return part

    def start_emulator(self, *options: str) -> None:
        """Start the emulator and have everything after it use it."""
        port = free_port()
        self.emulator_url = f"http://127.0.0.1:{port}"
        part = self.start("emulator", "inferline.local.emulator", "--port", str(port), *options)
        self.environ["AWS_ENDPOINT_URL"] = self.emulator_url
        self._until(part, lambda: get_json(f"{self.emulator_url}/_ministack/health"))

    def start_gateway(self, *, port: int = 0, **environ: str) -> Part:
        """Start a gateway, at a free port unless told which; it becomes the one at ``url``."""
        port = port or free_port()
        part = self.start("gateway", "inferline", "gateway", "--port", str(port), environ=environ)
        self.url = f"http://127.0.0.1:{port}"
        self._until(part, lambda: get_json(f"{self.url}/health"))
        return part

    def start_backend(self, *arguments: str) -> str:
        """Start a scripted LLM server; gives its URL. The first is the one at ``backend_url``."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        part = self.start("backend", "tests.support.backend", "--port", str(port), *arguments)
        self._until(part, lambda: get_json(f"{url}/health"))
        self.backend_url = self.backend_url or url
        return url

    def start_provider(self, name: str, backend_url: str | None = None, *arguments: str) -> Part:
        """Start a provider and return once it has enrolled."""
        part = self.start(
            "provider",
            "inferline_provider",
            *("--base-url", self.url, "--backend", backend_url or self.backend_url, "--id", name),
            *("--poll-seconds", "2", *arguments),
        )
        self._until(part, lambda: name in self.providers())
        return part

    def providers(self) -> dict[str, Any]:
        """Return the live providers, as the gateway tells."""
        listed = get_json(f"{self.url}/v1/providers")
        return {provider["id"]: provider for provider in listed["data"]} if listed else {}

    def backend_state(self, url: str | None = None) -> Any:
        """Return what a scripted LLM server has counted."""
        return get_json(f"{url or self.backend_url}/_script/state")

    def _until(self, part: Part, look: Callable[[], Any]) -> None:
        def up() -> Any:
            if part.process.poll() is not None:
                pytest.fail(f"{part.name} ended by itself:\n{part.log[-3000:]}")
            return look()

        until(up, f"{part.name} is up")


@contextmanager
def empty_line(*emulator_options: str) -> Iterator[Line]:
    """Yield a line with an emulator and nothing else."""
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environ.pop("AWS_ENDPOINT_URL", None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        line = Line(stack, folder, environ)
        line.start_emulator(*emulator_options)
        yield line


@contextmanager
def running_line(*backend_arguments: str, slots: int = 4, **gateway_environ: str) -> Iterator[Line]:
    """Yield a line with a gateway, a scripted LLM server and a provider for it."""
    with empty_line() as line:
        line.start_gateway(**gateway_environ)
        line.start_backend(*backend_arguments)
        line.start_provider("p1", None, "--slots", str(slots))
        yield line
