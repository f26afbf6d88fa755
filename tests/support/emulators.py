"""Starts the AWS emulators that the AWS code must get along with, each in a process of its own."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

START_SECONDS_MAX = 30.0

COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "ministack": lambda port: ["-m", "inferline.local.emulator", "--port", str(port)],
    "moto": lambda port: ["-m", "tests.support.moto_server", str(port)],
}


@contextmanager
def running(name: str, *options: str, **environ: str) -> Iterator[str]:
    """An emulator on a free port, empty, until the block ends; gives its endpoint URL."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, *COMMANDS[name](port), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environ)
        try:
            if not answers(port, process):
                log.seek(0)
                pytest.fail(f"{name} did not start: {log.read()[-2000:].decode(errors='replace')}")
            yield f"http://127.0.0.1:{port}"
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Ask a process to end, and kill it if it has not after ``seconds``."""
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until HTTP is spoken at the port; False if the process ends first or takes too long."""
    end = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.05)
        else:
            return True
        finally:
            connection.close()
    return False
