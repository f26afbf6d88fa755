"""`inferline local` as a user starts it: the true parts, an answer through all of them, the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferline.local import web
from inferline.local.failures import PartMissing
from inferline.local.llm import model
from tests.support.backend import Backend, BackendThread
from tests.support.emulators import free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


class Local:
    """A running `inferline local`."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.ports = [free_port() for _ in range(3)]
        self._out = folder / "out"
        flags = ("--port", "--emulator-port", "--llm-port")
        command = [sys.executable, "-m", "inferline", "local", *arguments]
        for flag, port in zip(flags, self.ports, strict=True):
            command += [flag, str(port)]
        cache = {"INFERLINE_CACHE_DIR": str(folder)}
        with self._out.open("w") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                env={**os.environ, **cache, **environ},
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def said(self) -> str:
        return self._out.read_text()

    def wait_until_up(self) -> None:
        until(lambda: "Ctrl-C ends everything" in self.said() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def ask(self, name: str) -> str:
        body = {
            "model": name,
            "messages": [{"role": "user", "content": "Hello?"}],
            "max_tokens": 4,
        }
        answer = web.ask(f"{self.url}/v1/chat/completions", body, 60.0)
        text: str = answer["choices"][0]["message"]["content"]
        return text

    def pid(self, part: str) -> int:
        """Return the process among this one's descendants that has `part` in its command line."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if part in words and any(str(self.ports[0]) in word for word in words):
                return int(folder.name)
        raise AssertionError(f"no {part} runs")

    def left(self) -> list[int]:
        """Return the ports on which somebody still listens."""
        return [port for port in self.ports if listens(port)]


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[Local]:
    local = Local(folder, *arguments, **environ)
    try:
        local.wait_until_up()
        yield local
    finally:
        local.process.kill()
        local.process.wait()
        until(lambda: local.left() == [])


@pytest.fixture
def backend() -> Iterator[str]:
    with BackendThread(Backend()) as thread:
        yield thread.url


def test_an_answer_comes_and_one_ctrl_c_ends_everything(tmp_path: Path, backend: str) -> None:
    with running(tmp_path, "--backend", backend) as local:
        assert local.ask("test-model")
        assert re.search(r"answer +a chat completion.* +came in +\d", local.said())
        assert f"{local.url}/v1" in local.said()
        assert f"{local.url}/dashboard" in local.said()

        os.killpg(local.process.pid, signal.SIGINT)

        assert local.process.wait(30) == 0
        assert local.left() == []


def test_after_a_killed_provider_the_next_request_is_served(tmp_path: Path, backend: str) -> None:
    # Had a poll of the dead one taken the message, it would be hidden for longer than `ask` waits.
    with running(tmp_path, "--backend", backend, INFERLINE_LEASE_SECONDS="300") as local:
        os.kill(local.pid("inferline_provider"), signal.SIGKILL)
        until(lambda: "provider was killed by SIGKILL" in local.said())

        assert local.ask("test-model")


def test_kill_9_leaves_no_port_taken(tmp_path: Path, backend: str) -> None:
    with running(tmp_path, "--backend", backend) as local:
        assert len(local.left()) == 2

        local.process.kill()

        until(lambda: local.left() == [])


def test_without_an_llm_the_gateway_is_up_and_a_variable_says_so(tmp_path: Path) -> None:
    with running(tmp_path, INFERLINE_LOCAL_NO_LLM="1") as local:
        assert web.models(local.url) == []


def test_a_foreign_profile_does_not_get_in_the_way(tmp_path: Path) -> None:
    with running(
        tmp_path,
        "--no-llm",
        AWS_PROFILE="not-there",
        AWS_SESSION_TOKEN="not-theirs",
        AWS_ENDPOINT_URL_SQS="http://127.0.0.1:1",
    ) as local:
        assert web.models(local.url) == []


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "inferline", "local", "--no-llm", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 3
    assert "is taken; choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_built_in_llm_answers(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    try:
        file = model.find(os.environ) or model.fetch(os.environ, lambda _text: None)
    except PartMissing as offline:
        pytest.skip(str(offline))
    with running(tmp_path, INFERLINE_LOCAL_MODEL=str(file)) as local:
        name = file.stem

        assert web.models(local.url) == [name]
        assert isinstance(local.ask(name), str)
        embedded = web.ask(f"{local.url}/v1/embeddings", {"model": name, "input": "Hello"}, 60.0)
        assert len(embedded["data"][0]["embedding"]) == 576
