"""The supervisor with stand-ins for the parts: order, ends of all kinds, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulators import free_port

PART = """
import http.server, json, os, signal, subprocess, sys
name, port, journal, manners = sys.argv[1:]

def note(what):
    with open(journal, "a") as file:
        file.write(f"{what} {name} {os.getpid()}\\n")

def end(*_):
    if manners != "deaf":
        note("end")
        os._exit(0)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

signal.signal(signal.SIGTERM, end)
note("start")
if manners == "parent":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(f"child-{child.pid}")
if manners == "broken":
    sys.exit("no disk left")
while manners == "mute":
    signal.pause()
http.server.HTTPServer(("127.0.0.1", int(port)), Answer).serve_forever()
"""

SUPERVISOR = """
import asyncio, json, sys
from pathlib import Path
from inferline.local import web
from inferline.local.processes.part import Part
from inferline.local.processes.supervisor import Supervisor

folder = Path(sys.argv[1])
parts = []
for name, manners, port, after in json.loads(sys.argv[2]):
    parts.append(Part(
        name=name, what="a stand-in", env={}, after=tuple(after), revive=manners == "revived",
        argv=(sys.executable, str(folder / "part.py"), name, str(port), str(folder / "journal"),
              manners),
        ready=lambda port=port: web.ask(f"http://127.0.0.1:{port}/"), drain_seconds=30.0,
    ))

async def up():
    print("all up", flush=True)

async def main():
    return await Supervisor(
        parts, logs=folder, tell=lambda text: print(text, flush=True),
        complain=lambda text: print(text, file=sys.stderr), once_ready=up,
    ).run()

sys.exit(asyncio.run(main()))
"""


class Stage:
    """A supervisor over stand-ins, watched from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str]

    def start(self, *parts: tuple[str, str], after: dict[str, list[str]] | None = None) -> None:
        (self.folder / "part.py").write_text(PART)
        plan = [(name, how, free_port(), (after or {}).get(name, [])) for name, how in parts]
        command = [sys.executable, "-c", SUPERVISOR, str(self.folder), json.dumps(plan)]
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, start_new_session=True, text=True
            )

    def start_and_wait(self, *parts: tuple[str, str], **more: Any) -> None:
        self.start(*parts, **more)
        until(lambda: "all up" in self.said())

    def said(self) -> str:
        return (self.folder / "out").read_text()

    def complained(self) -> str:
        return (self.folder / "err").read_text()

    def journal(self, what: str) -> list[str]:
        """Return the names of parts to which this happened, in order."""
        return [name for event, name, _ in self._events() if event == what]

    def pids(self) -> list[int]:
        numbers = [int(pid) for *_, pid in self._events()]
        return numbers + [
            int(e.split("-")[1]) for e, *_ in self._events() if e.startswith("child-")
        ]

    def pid(self, name: str) -> int:
        return [
            int(pid) for event, part, pid in self._events() if (event, part) == ("start", name)
        ][-1]

    def alive(self) -> list[int]:
        return [pid for pid in self.pids() if lives(pid)]

    def _events(self) -> list[list[str]]:
        journal = self.folder / "journal"
        return (
            [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
        )


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    if stage.process.poll() is None:
        os.killpg(stage.process.pid, signal.SIGKILL)
        stage.process.wait()
    until(lambda: stage.alive() == [])


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

CHAIN = {"gateway": ["emulator"], "provider": ["gateway"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_the_parts_in_the_reverse_order(stage: Stage, number: int) -> None:
    parts = [("emulator", "good"), ("gateway", "good"), ("provider", "good")]
    stage.start_and_wait(*parts, after=CHAIN)

    # As a terminal does it: to the whole group of the foreground.
    os.killpg(stage.process.pid, number)

    assert stage.process.wait(60) == 0
    assert stage.journal("start") == ["emulator", "gateway", "provider"]
    assert stage.journal("end") == ["provider", "gateway", "emulator"]
    assert stage.alive() == []


def test_a_part_is_told_of_once_it_is_ready(stage: Stage) -> None:
    stage.start_and_wait(("emulator", "good"))

    assert re.search(r"emulator +a stand-in +ready in +\d+\.\d s", stage.said())


def test_a_second_signal_kills_what_does_not_end(stage: Stage) -> None:
    stage.start_and_wait(("emulator", "good"), ("deaf", "deaf"))
    os.killpg(stage.process.pid, signal.SIGINT)
    until(lambda: "Ending all parts" in stage.said())
    assert stage.process.poll() is None

    os.killpg(stage.process.pid, signal.SIGINT)

    assert stage.process.wait(60) == 130
    assert stage.alive() == []


def test_kill_9_of_the_supervisor_leaves_nothing(stage: Stage) -> None:
    stage.start_and_wait(("emulator", "good"), ("deaf", "deaf"), ("mother", "parent"))
    assert len(stage.alive()) >= 4

    stage.process.kill()
    stage.process.wait()

    until(lambda: stage.alive() == [])


def test_what_a_part_started_ends_with_it(stage: Stage) -> None:
    stage.start_and_wait(("mother", "parent"))

    stage.process.terminate()

    assert stage.process.wait(60) == 0
    assert stage.alive() == []


def test_a_killed_provider_is_started_again(stage: Stage) -> None:
    stage.start_and_wait(("emulator", "good"), ("provider", "revived"))

    os.kill(stage.pid("provider"), signal.SIGKILL)

    until(lambda: stage.journal("start").count("provider") == 2)
    until(lambda: "provider started again" in stage.said())
    assert "provider was killed by SIGKILL; starting it again in 0.5 s" in stage.said()
    assert stage.process.poll() is None


def test_when_another_part_dies_all_ends_and_its_log_is_shown(stage: Stage) -> None:
    stage.start_and_wait(("emulator", "good"), ("gateway", "good"), ("provider", "revived"))
    (stage.folder / "gateway.log").write_text("the last that was heard of it\n")

    os.kill(stage.pid("gateway"), signal.SIGKILL)

    assert stage.process.wait(60) == 4
    assert "gateway was killed by SIGKILL" in stage.complained()
    assert "the last that was heard of it" in stage.complained()
    assert stage.alive() == []


def test_a_part_that_can_not_start_ends_all(stage: Stage) -> None:
    stage.start(("emulator", "good"), ("gateway", "broken"), ("provider", "good"), after=CHAIN)

    assert stage.process.wait(60) == 4
    assert "gateway ended with exit code 1" in stage.complained()
    assert "no disk left" in stage.complained()
    assert "provider" not in stage.journal("start")
    assert stage.alive() == []


def test_a_signal_during_the_start_ends_what_has_started(stage: Stage) -> None:
    stage.start(("emulator", "good"), ("gateway", "mute"), after=CHAIN)
    until(lambda: stage.journal("start") == ["emulator", "gateway"])

    stage.process.send_signal(signal.SIGINT)

    assert stage.process.wait(60) == 0
    assert stage.alive() == []
