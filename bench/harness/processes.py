"""Starts the processes under measurement, ends them, and reads what they cost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.report import RESULTS

ROOT = Path(__file__).parents[2]
#: LiteLLM imports for several seconds, longer on a busy machine.
START_SECONDS_MAX = 90.0
#: A provider ends with its last long poll, which takes up to 20 s.
END_SECONDS_MAX = 30.0
#: Ticks of utime and stime a second.
_TICKS = os.sysconf("SC_CLK_TCK")

#: All that a child process sees of our environment, so that nobody's settings or keys get in.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")
#: The emulator takes any keys; these keep botocore from looking for real ones.
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


#: The processes that are to be profiled, by name, and where each one's profile goes that has begun.
PROFILED: dict[str, list[Path]] = {}


class BenchError(Exception):
    """A measurement can't go on."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started here."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def cpu_ms(self) -> float:
        """Return the CPU time used so far by it and all that it started."""
        return cpu_ms(self.process.pid)

    @property
    def rss_kib(self) -> int:
        """Return the resident memory."""
        total = 0
        for pid in family(self.process.pid):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total

    def check(self) -> None:
        """Raise BenchError, with the end of the log, if it has ended."""
        if (code := self.process.poll()) is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{self.name} ended with {code}:\n{tail}")


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    pids = [pid]
    for one in pids:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            pids += map(int, children.read_text().split())
    return pids


def cpu_ms(pid: int) -> float:
    """Return the CPU time of a process and all that it started: user and system, all threads."""
    ticks = 0
    for one in family(pid):
        after_name = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks * 1000 / _TICKS


class Machine:
    """Everything that runs on this machine, as if it were one process."""

    name = "machine"

    @property
    def cpu_ms(self) -> float:
        """Return the time that all cores together have been busy, or were given to other guests."""
        counts = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        idle, waiting_for_disks = counts[3:5]
        return (sum(counts) - idle - waiting_for_disks) * 1000 / _TICKS


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    ready_url: str | None = None,
) -> AsyncIterator[Running]:
    """Run a command while in the context, from when ``ready_url`` answers 200 on."""
    if (profiles := PROFILED.get(name)) is not None:
        profiles.append(RESULTS / f"profile-{name}-{len(profiles) + 1}.json")
        command = [command[0], "-m", "bench.harness.sampled", str(profiles[-1]), *command[2:]]
    passed_on = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    with tempfile.TemporaryDirectory(prefix="inferline-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**passed_on, "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        part = Running(name, process, log)
        try:
            if ready_url is not None:
                await answers(ready_url, part)
            yield part
        finally:
            await asyncio.to_thread(_end, part)


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules."""
    return [sys.executable, "-m", module, *arguments]


async def answers(url: str, process: Running, wanted: bytes = b"") -> None:
    """Return once ``url`` answers 200 with ``wanted`` in its body."""
    patience = time.monotonic() + START_SECONDS_MAX
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < patience:
            process.check()
            try:
                async with session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as response:
                    if response.status == 200 and wanted in await response.read():
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)
    tail = process.log.read_text(errors="replace")[-2000:]
    raise BenchError(f"{process.name} was not ready in {START_SECONDS_MAX:g} s at {url}:\n{tail}")


def _end(process: Running) -> None:
    """Ask it to end; make it end, with what it started, if it does not."""
    if process.process.poll() is None:
        process.process.send_signal(signal.SIGTERM)
        try:
            process.process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            print(f"{process.name} did not end in {END_SECONDS_MAX:g} s", file=sys.stderr)
    with suppress(ProcessLookupError):
        os.killpg(process.process.pid, signal.SIGKILL)
    process.process.wait()
