"""Puts the whole line on one emulator of AWS, and finds the cells of its row."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.interop.asking import Asking, seconds_since
from tests.interop.cells import Cell, check, end_all, tried, yes
from tests.interop.emulators import Emulator
from tests.interop.environments import ROOT, Places, Unavailable
from tests.support.emulators import answers, free_port
from tests.support.line import MODEL, Line, empty_line, until

COLUMNS = (
    *("contract", "list", "plain", "stream", "large", "many", "again", "cancel"),
    "continuation",
)
#: LocalStack loads for long.
START_SECONDS_MAX = 90
CONTRACT_SECONDS_MAX = 900
LEASE_SECONDS = 3
#: Larger than a message may be, so that it goes by S3.
LARGE_BYTES = 800_000
AT_ONCE = 10
TOKENS, TOKENS_PER_SECOND = 40, 20
IDLE_SECONDS_MAX = 5.0


def row(emulator: Emulator, places: Places) -> dict[str, Cell]:
    """
    Return the cells of one emulator. Raises Unavailable where it can't be installed or started.
    """
    if emulator.environment:
        places.install(emulator.environment)
    with ExitStack() as stack:
        url = stack.enter_context(_started(emulator, places))
        line = stack.enter_context(empty_line())
        line.environ["AWS_ENDPOINT_URL"] = _address(emulator, url, line)
        trial = Trial(line, emulator)
        cells = {}
        for name in COLUMNS:
            limit = CONTRACT_SECONDS_MAX if name == "contract" else 90
            cells[name] = tried(trial.cell(name), limit)
            print(f"    {name}: {cells[name].verdict} {cells[name].note}", flush=True)
            if name == "list" and cells[name].verdict != "yes":
                break
        return cells


def _address(emulator: Emulator, url: str, line: Line) -> str:
    if not emulator.services:
        return url
    port = free_port()
    targets = dict.fromkeys(("sqs", "dynamodb", "other"), line.emulator_url)
    targets |= dict.fromkeys(emulator.services, url)
    words = [word for name, to in targets.items() for word in ("--to", f"{name}={to}")]
    words += ["--provisioned"] * emulator.provisioned
    line.start("switchboard", "tests.interop.switchboard", "--port", str(port), *words)
    address = f"http://127.0.0.1:{port}"
    until(lambda: _speaks(address), "the switchboard is up")
    return address


def _speaks(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return False
    return True


@contextmanager
def _started(emulator: Emulator, places: Places) -> Iterator[str]:
    port = free_port()
    command, more = emulator.command(places, port)
    places.logs.mkdir(parents=True, exist_ok=True)
    log_path = places.logs / f"{emulator.name.partition(' ')[0]}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            ["nice", *command],
            cwd=places.logs if emulator.environment else None,
            env=places.environ(**more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + START_SECONDS_MAX
        while not answers(port, process) and process.poll() is None:
            if time.monotonic() > limit:
                break
        if not answers(port, process):
            said = log_path.read_text(errors="replace").strip()
            raise Unavailable(f"it does not start: {said[-300:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        end_all(process)


@dataclass
class Trial:
    """A line on one emulator, with a scripted LLM server."""

    line: Line
    emulator: Emulator

    @property
    def asking(self) -> Asking:
        """Return the gateway."""
        return Asking(self.line.url, MODEL)

    def cell(self, name: str) -> Callable[[], Cell]:
        """Return what finds the cell of a column."""
        finding: Callable[[], Cell] = getattr(self, {"list": "listed"}.get(name, name))
        return finding

    def contract(self) -> Cell:
        """Return the project's own contract tests of stores and queues, run on this emulator."""
        command = [sys.executable, "-m", "pytest", "-q", "--no-header"]
        command += ["-p", "tests.interop.foreign", "-p", "no:cacheprovider", "-k", "foreign"]
        env = {**os.environ, "INTEROP_AWS": self.line.environ["AWS_ENDPOINT_URL"]}
        done = subprocess.run(
            ["nice", *command, *self.emulator.contract],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
        counts = dict(re.findall(r"(\d+) (passed|failed|error)", done.stdout[-300:]))
        outcomes = {name: int(count) for count, name in counts.items()}
        check(outcomes.get("passed"), f"no test has passed: {done.stdout[-200:]}")
        every = sum(outcomes.values())
        note = f"{outcomes['passed']} of {every} contract tests of {_named(self.emulator)}"
        if outcomes["passed"] == every:
            return yes(note)
        lacking = sorted(set(re.findall(r"\b(?:Unknown|Invalid)\w+Exception\b", done.stdout)))
        return Cell("partly", "; ".join([note, *lacking]))

    def listed(self) -> Cell:
        """Return tables, queues and bucket are made, and a provider enrols."""
        self.line.start_gateway(INFERLINE_LEASE_SECONDS=str(LEASE_SECONDS))
        rate = ("--tokens", str(TOKENS), "--tokens-per-second", str(TOKENS_PER_SECOND))
        self.line.start_backend(*rate)
        self.line.start_provider("p1", None, "--slots", "4")
        until(lambda: MODEL in self._models(), "the model is listed", 15)
        return yes()

    def _models(self) -> list[str]:
        data = httpx.get(f"{self.line.url}/v1/models", timeout=10).json()["data"]
        return [model["id"] for model in data]

    def plain(self) -> Cell:
        check(self.asking.say("Hello."), "an empty answer")
        return yes()

    def stream(self) -> Cell:
        expected = self.asking.say("Hello.")
        with self.asking.stream("Hello.") as stream:
            stream.end()
        check(stream.text == expected, f"{stream.text!r} instead of {expected!r}")
        return yes()

    def large(self) -> Cell:
        """Return a body that is larger than a message goes by S3."""
        check(self.asking.say("x" * LARGE_BYTES), "an empty answer")
        return yes()

    def many(self) -> Cell:
        start = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            texts = list(pool.map(self.asking.say, [f"Number {n}." for n in range(AT_ONCE)]))
        check(all(texts), "an empty answer")
        return yes(f"{AT_ONCE} at once in {seconds_since(start)}")

    def again(self) -> Cell:
        """Return the same Idempotency-Key twice is one request of the LLM server."""
        headers = {"idempotency-key": "the-same"}
        before = self._state()["calls"]
        body = self.asking.chat("Once.")
        url = f"{self.line.url}/v1/chat/completions"
        first, second = (httpx.post(url, json=body, headers=headers, timeout=60) for _ in "ab")
        check(first.is_success, f"{first.status_code}: {first.text[:150]}")
        check(first.content == second.content, f"another answer: {second.text[:150]}")
        check(self._state()["calls"] == before + 1, "the LLM server was asked twice")
        return yes()

    def cancel(self) -> Cell:
        with self.asking.stream("Hello again.", max_tokens=1000) as stream:
            stream.until(3)
        start = time.monotonic()
        while self._state()["running"]:
            check(time.monotonic() - start < IDLE_SECONDS_MAX, "the LLM server goes on")
            time.sleep(0.02)
        return yes(f"idle after {seconds_since(start)}")

    def continuation(self) -> Cell:
        expected = self.asking.say("A story.", max_tokens=1000)
        first = next(part for part in self.line.parts if part.name == "provider")
        parts = {"p1": first, "p2": self.line.start_provider("p2", None, "--slots", "4")}
        with self.asking.stream("A story.", max_tokens=1000) as stream:
            stream.until(8)
            start = time.monotonic()
            parts[stream.response.headers["x-inferline-provider"]].kill()
            stream.end()
        check(not stream.error, f"ends with {stream.error}")
        check(stream.text == expected, f"{stream.text!r} instead of {expected!r}")
        return yes(f"whole {seconds_since(start)} after the kill")

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.line.backend_state()
        return state


def _named(emulator: Emulator) -> str:
    return {"sqs": "queues", "dynamodb": "tables"}.get("".join(emulator.services[:1]), "all stores")
