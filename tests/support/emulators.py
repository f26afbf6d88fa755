"""Starts the AWS emulators that the AWS code must get along with, each in a process of its own."""

from __future__ import annotations

import fcntl
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: For a machine that is busy: a process that fails to start ends, and is noticed at once.
START_SECONDS_MAX = 120.0
#: Below what Linux and macOS give to connections and to servers that ask for any port.
PORTS = range(18_000, 32_000)
#: The number of the last port that was given, for all test processes of this user.
TURN = Path(tempfile.gettempdir()) / f"inferline-ports-{os.getuid()}"

COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "ministack": lambda port: ["-m", "inferline.local.emulator", "--port", str(port)],
    "moto": lambda port: ["-m", "tests.support.moto_server", str(port)],
}


@contextmanager
def running(name: str, *options: str, **environ: str) -> Iterator[str]:
    """Yield an emulator on a free port, empty, until the block ends; gives its endpoint URL."""
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
    """
    Return a loopback port that nobody listens on and that no test process is given again soon.

    The kernel hands none of this range out by itself, and all tests of this machine take turns.
    """
    with TURN.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        turn = int(file.read() or 0)
        while True:
            turn += 1
            port = PORTS[turn % len(PORTS)]
            if _is_free(port):
                break
        file.truncate(0)
        file.write(str(turn))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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
