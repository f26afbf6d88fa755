"""Puts one client before a real gateway, and finds the cells of its row."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.interop.cells import Cell, Wrong, check, end_all, tidy, tried, yes
from tests.interop.clients import Call, Client, Desk
from tests.interop.environments import Places
from tests.interop.server_row import started
from tests.interop.servers import SERVERS, make_model, prepare
from tests.support.emulators import free_port
from tests.support.line import MODEL as SCRIPTED
from tests.support.line import Line, Part, empty_line, until

COLUMNS = ("list", "plain", "stream", "tools", "error", "cancel", "continuation")
#: One run of a client, agents with their start included.
RUN_SECONDS_MAX = 150
LEASE_SECONDS = 3
#: The scripted answers: long enough to be broken off in their middle.
TOKENS, TOKENS_PER_SECOND = 60, 20
#: After this long a stream is in its middle, seconds.
MIDDLE_SECONDS = 1.0
IDLE_SECONDS_MAX = 3.0
UNKNOWN = "no-such-model"
#: What a client's tool answers; the scripted server has to have seen it.
PROOF = "interop-42"


@dataclass
class Hall:
    """One gateway, a provider with a real model, and two with scripted servers."""

    line: Line
    places: Places
    real: str
    real_url: str
    folder: Path
    backends: list[str] = field(default_factory=list)
    providers: list[Part] = field(default_factory=list)

    def open(self) -> None:
        """Start two scripted servers, and a provider beside each."""
        scripted = ("--first-token-seconds", "0.05", "--tokens", str(TOKENS))
        scripted += ("--tokens-per-second", str(TOKENS_PER_SECOND))
        for _ in range(2):
            self.backends.append(_scripted_server(self.line, *scripted))
            self.providers.append(self._provider(len(self.backends) - 1))

    def _provider(self, number: int) -> Part:
        name = f"scripted-{len(self.line.parts)}"
        return self.line.start_provider(name, self.backends[number], "--slots", "8")

    def running(self) -> list[float]:
        """Return how many requests each scripted server has running."""
        return [self.line.backend_state(url)["running"] for url in self.backends]

    def heard(self, text: str) -> bool:
        """Return whether one of them was told ``text``."""
        return any(
            text in body
            for url in self.backends
            for body in httpx.get(f"{url}/_script/bodies", timeout=10).json()
        )

    def kill_the_busy_one(self) -> None:
        """Kill the provider whose server has something running; another one takes its place."""
        number = max(range(2), key=lambda at: self.running()[at])
        self.providers[number].kill()
        self.providers[number] = self._provider(number)


def _scripted_server(line: Line, *arguments: str) -> str:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    part = line.start("backend", "tests.interop.scripted", "--port", str(port), *arguments)
    until(lambda: part.process.poll() is None and _answers(url), "the scripted server is up")
    return url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def opened(places: Places) -> Iterator[Hall]:
    """Yield a line for all clients, one after the other."""
    llama = next(server for server in SERVERS if server.name == "llama.cpp")
    prepare(llama, places)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interop-")))
        url = stack.enter_context(started(llama, places))
        line = stack.enter_context(empty_line())
        line.start_gateway(INFERLINE_LEASE_SECONDS=str(LEASE_SECONDS))
        line.start_provider("real", url, "--slots", "2")
        hall = Hall(line, places, llama.model, url, folder)
        hall.open()
        both = {llama.model, SCRIPTED}
        models = f"{line.url}/v1/models"
        until(lambda: both <= {m["id"] for m in httpx.get(models).json()["data"]}, "both models")
        yield hall


def row(client: Client, hall: Hall) -> dict[str, Cell]:
    """Return the cells of one client. Raises Unavailable where it can't be installed."""
    hall.places.install(client.environment)
    if client.name == "guidellm":
        make_model("smol", hall.places)
    trial = Trial(client, hall)
    cells = {}
    for name in COLUMNS:
        cells[name] = tried(trial.cell(name))
        print(f"    {name}: {cells[name].verdict} {cells[name].note}", flush=True)
    return cells


@dataclass
class Trial:
    """One client, and what it is asked."""

    client: Client
    hall: Hall
    #: Whom to ask, if not the gateway.
    _base_url: str = ""

    def cell(self, name: str) -> Callable[[], Cell]:
        """Return what finds the cell of a column."""
        case = "long" if name == "continuation" else name
        if self._call(case, self.hall.real) is None:
            return lambda: Cell("n/a")
        finding: Callable[[], Cell] = getattr(self, {"list": "listed"}.get(name, name))
        return finding

    def listed(self) -> Cell:
        seen = self._see("list", self.hall.real)
        check(self.hall.real in seen.get("models", ()), f"lists {seen}")
        return yes()

    def plain(self) -> Cell:
        return self._either(self._plain)

    def stream(self) -> Cell:
        return self._either(self._stream)

    def _either(self, look: Callable[[str], None]) -> Cell:
        """Look with the real model; where the server itself is at fault, with the scripted one."""
        if not self.client.real:
            look(SCRIPTED)
            return yes("scripted model")
        try:
            look(self.hall.real)
        except Wrong as wrong:
            try:
                self._directly(look)
            except Wrong:
                look(SCRIPTED)
                return yes(f"scripted model; at llama.cpp itself it fails as well: {wrong}"[:120])
            raise
        return yes()

    def _directly(self, look: Callable[[str], None]) -> None:
        """Look at the server without the gateway."""
        self._base_url = f"{self.hall.real_url}/v1"
        try:
            look(self.hall.real)
        finally:
            self._base_url = ""

    def _plain(self, model: str) -> None:
        seen = self._see("plain", model)
        check(seen.get("text"), f"no words: {seen}")

    def _stream(self, model: str) -> None:
        seen = self._see("stream", model)
        check(seen.get("text"), f"no words: {seen}")
        check(seen.get("pieces", 2) > 1, f"one piece only: {seen}")
        if not self.client.real:
            check(len(seen["text"].split()) == TOKENS, f"not the whole answer: {seen}")
        elif self._call("plain", model) is not None:
            whole = self._see("plain", model)["text"]
            check(seen["text"].strip() == whole.strip(), f"{seen['text']!r}, not {whole!r}")

    def tools(self) -> Cell:
        seen = self._see("tools", SCRIPTED)
        if seen.get("tool"):
            return yes("an answer of the given form")
        check(seen.get("text"), f"no words: {seen}")
        check(self.hall.heard(PROOF), f"the tool's result never came back: {seen}")
        return yes("called, run, and its result answered")

    def error(self) -> Cell:
        """Return an unknown model is told as what it is, at once."""
        start = time.monotonic()
        done = self._run("error", UNKNOWN)
        took = time.monotonic() - start
        said = done.stdout + done.stderr
        check(UNKNOWN in said, f"does not name the model: {said[-200:]}")
        return yes(f"404, told after {took:.1f} s" if "404" in said else f"told after {took:.1f} s")

    def cancel(self) -> Cell:
        with self._begun("cancel") as process:
            self._until_middle(process)
            start = time.monotonic()
            if self._waits:
                # It has closed its stream by itself, and waits.
                check(process.poll() is None, "it ended before its stream was closed")
            else:
                # Not ^C: some programs end their work before they end.
                os.killpg(process.pid, signal.SIGKILL)
            while any(self.hall.running()):
                check(time.monotonic() - start < IDLE_SECONDS_MAX, "the server goes on")
                time.sleep(0.02)
            check(time.monotonic() - start < IDLE_SECONDS_MAX, "the server went on")
        return yes(f"the server is idle {time.monotonic() - start:.1f} s later")

    def continuation(self) -> Cell:
        """Return its provider is killed in mid-stream, with another one there."""
        expected = self._see("long", SCRIPTED)["text"]
        with self._begun("long") as process:
            self._until_middle(process)
            self.hall.kill_the_busy_one()
            said, complained = process.communicate(timeout=RUN_SECONDS_MAX)
        seen = self._read("long", said, complained, process.returncode)
        text = seen.get("text", "").strip()
        if text == expected.strip() and not seen.get("error"):
            return yes("the same words as without the kill")
        if not self.client.real and len(text.split()) == TOKENS:
            # An agent says something new in each request, and the scripted server with it.
            return yes("a whole answer")
        if error := seen.get("error"):
            return Cell("told", tidy(error))
        check("provider_lost" not in said + complained, "told, but not as an error")
        return Cell("no", tidy(f"{seen.get('text')!r} instead of {expected!r}"))

    def _until_middle(self, process: subprocess.Popen[str]) -> None:
        limit = time.monotonic() + RUN_SECONDS_MAX
        while not any(self.hall.running()) and process.poll() is None:
            check(time.monotonic() < limit, "it never asks")
            time.sleep(0.02)
        time.sleep(MIDDLE_SECONDS)

    @property
    def _waits(self) -> bool:
        call = self._call("cancel", SCRIPTED)
        return call is not None and call.waits

    def _call(self, case: str, model: str) -> Call | None:
        folder = self.hall.folder / self.client.name.replace(" ", "-")
        base_url = self._base_url or f"{self.hall.line.url}/v1"
        desk = Desk(places=self.hall.places, folder=folder, base_url=base_url, model=model)
        folder.mkdir(exist_ok=True)
        return self.client.ask(desk, case)

    def _see(self, case: str, model: str) -> dict[str, Any]:
        done = self._run(case, model)
        seen = self._read(case, done.stdout, done.stderr, done.returncode)
        check(not seen.get("error"), str(seen.get("error")))
        return seen

    def _read(self, case: str, said: str, complained: str, code: int) -> dict[str, Any]:
        call = self._call(case, SCRIPTED)
        assert call is not None
        if code:
            return {"error": f"exit {code}: {(complained or said).strip()[-200:]}"}
        return call.read(said)

    def _run(self, case: str, model: str) -> subprocess.CompletedProcess[str]:
        with self._started(case, model) as process:
            said, complained = process.communicate(timeout=RUN_SECONDS_MAX)
        return subprocess.CompletedProcess(process.args, process.returncode, said, complained)

    @contextmanager
    def _begun(self, case: str) -> Iterator[subprocess.Popen[str]]:
        with self._started(case, SCRIPTED) as process:
            yield process

    @contextmanager
    def _started(self, case: str, model: str) -> Iterator[subprocess.Popen[str]]:
        call = self._call(case, model)
        assert call is not None
        cwd = self.hall.folder / self.client.name.replace(" ", "-") / "work"
        shutil.rmtree(cwd, ignore_errors=True)
        cwd.mkdir(parents=True)
        process = subprocess.Popen(
            ["nice", *call.command],
            cwd=cwd,
            env=self.hall.places.environ(**call.environ),
            # Programs take what is in their input for a part of the question.
            stdin=subprocess.PIPE if call.waits else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end_all(process, 1)
            for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
                pipe.close()
