"""
Lambda as a function sees it: its runtime's API, and its process run by the real runtime client.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from tests.support.emulators import end

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/2018-06-01/runtime/"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:inferline-test"


@dataclass(frozen=True, slots=True)
class Result:
    """Result of an invocation."""

    #: None after an error.
    value: Any = None
    #: As the runtime reports it: errorType, errorMessage, stackTrace.
    error: dict[str, Any] | None = None


@dataclass(slots=True)
class RuntimeApi:
    """Hands out one invocation at a time, and takes what comes of it."""

    invocations: queue.Queue[tuple[str, bytes, float]] = field(default_factory=queue.Queue)
    results: queue.Queue[Result] = field(default_factory=queue.Queue)
    #: What the runtime reported when the function could not be loaded.
    init_errors: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    address: str = ""

    def send(self, event: Any, seconds: float) -> None:
        """Have an event ready, with ``seconds`` until the function's timeout."""
        self.count += 1
        invocation = f"0fc1f9ae-0000-4000-8000-{self.count:012}"
        self.invocations.put((invocation, json.dumps(event).encode(), seconds))


class _Handler(BaseHTTPRequestHandler):
    """The four routes of the runtime API."""

    protocol_version = "HTTP/1.1"
    # Without these two each invocation waits 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    api: RuntimeApi

    def do_GET(self) -> None:
        assert self.path == f"{PREFIX}invocation/next", self.path
        invocation, event, seconds = self.api.invocations.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation,
            "Lambda-Runtime-Deadline-Ms": str(round((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000001;Sampled=1",
            "Content-Type": "application/json",
        }
        self._answer(200, event, headers)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"null")
        if self.path.endswith("/response"):
            self.api.results.put(Result(value=body))
        elif self.path == f"{PREFIX}init/error":
            self.api.init_errors.append(body)
        else:
            assert self.path.endswith("/error"), self.path
            self.api.results.put(Result(error=body))
        self._answer(202, b"{}", {})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore resets: a function that ends while it waits resets its connection."""


@contextmanager
def serving() -> Iterator[RuntimeApi]:
    """Yield the API on a free port until the block ends."""
    api = RuntimeApi()
    handler = type("Handler", (_Handler,), {"api": api})
    server = _Server(("127.0.0.1", 0), handler)
    api.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()  # `server_close` would wait for requests that never end.


def environment(name: str, code: Path = ROOT) -> dict[str, str]:
    """Return what Lambda sets for every function, beside what this process has."""
    return {
        **os.environ,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python",
        "AWS_LAMBDA_FUNCTION_NAME": f"inferline-{name}",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": str(code),
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(slots=True)
class Function:
    """A function's process, and what it has written to its log."""

    api: RuntimeApi
    process: subprocess.Popen[bytes]
    log: BinaryIO

    @property
    def output(self) -> str:
        """Return all that it has said."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def invoke(self, event: Any, seconds: float = 30.0) -> Result:
        """Send an event, with ``seconds`` until the function's timeout, and wait for its end."""
        self.api.send(event, seconds)
        until = time.monotonic() + seconds + 10
        while time.monotonic() < until:
            try:
                return self.api.results.get(timeout=0.1)
            except queue.Empty:
                assert self.process.poll() is None, f"{self.api.init_errors}\n{self.output}"
        raise AssertionError(f"no end of the invocation:\n{self.output}")


@contextmanager
def running(handler: str, environ: Mapping[str, str], code: Path = ROOT) -> Iterator[Function]:
    """Yield the function ``handler`` under the real awslambdaric until the block ends."""
    name = handler.split(".")[1]
    with serving() as api, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            cwd=code,
            env=environment(name, code)
            | {"AWS_LAMBDA_RUNTIME_API": api.address, "_HANDLER": handler}
            | environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield Function(api, process, log)
        finally:
            end(process, 5)
