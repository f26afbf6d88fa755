"""The processes that are killed, stopped and asked to end, each with its own way to AWS."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos.faults import InjectingProxy
from tests.support.line import Line, Part

START_SECONDS_MAX = 120.0
#: How long a process that was asked to end may take until it is made to.
END_SECONDS_MAX = 60.0


async def until(look: Callable[[], object], what: str, seconds: float = START_SECONDS_MAX) -> None:
    """Return as soon as ``look`` gives something true; raises TimeoutError after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            while not look():  # noqa: ASYNC110  # it is elsewhere
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"not within {seconds:g} s: {what}") from None


@dataclass(slots=True, eq=False)
class Piece:
    """
    One gateway, provider, backend or emulator, in whichever process it lives at the moment.

    Times are of the loop's clock.
    """

    line: Line
    name: str
    command: tuple[str, ...]
    environ: dict[str, str]
    proxy: InjectingProxy | None = None
    part: Part | None = None
    #: When each of its processes ended, or was asked to.
    ended_at: list[float] = field(default_factory=list)
    #: The spans in which it was stopped; the last may still go on.
    stopped: list[list[float]] = field(default_factory=list)
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._awake.set()
        if self.proxy is not None:
            self.proxy.is_dead = lambda: not self.is_up
            self.proxy.awake = self._awake.wait

    @property
    def is_up(self) -> bool:
        """Return whether it has a process."""
        return self.part is not None and self.part.process.poll() is None

    @property
    def is_stopped(self) -> bool:
        """Return whether its process stands still."""
        return not self._awake.is_set()

    def start(self) -> None:
        """Begin a process for it."""
        self._awake.set()
        self.part = self.line.start(self.name, *self.command, environ=self.environ)

    def kill(self) -> None:
        """End it without warning."""
        assert self.part is not None
        self.ended_at.append(_now())
        self.part.kill()
        self._awake.set()

    def term(self) -> None:
        """Ask it to end, as an operator would."""
        assert self.part is not None
        self.ended_at.append(_now())
        self.part.process.send_signal(signal.SIGTERM)

    async def gone(self) -> int | None:
        """Return its exit code, once it has ended; None if it had to be made to."""
        assert self.part is not None
        process = self.part.process
        try:
            await until(lambda: process.poll() is not None, "it ends", END_SECONDS_MAX)
        except TimeoutError:
            # Python's own stack goes to the log.
            process.send_signal(signal.SIGABRT)
            await asyncio.to_thread(process.wait)
            return None
        return process.returncode

    def stop(self) -> None:
        """Have it stand still."""
        assert self.part is not None
        self._awake.clear()
        self.stopped.append([_now()])
        self.part.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on."""
        assert self.part is not None
        self.part.process.send_signal(signal.SIGCONT)
        self.stopped[-1].append(_now())
        self._awake.set()

    def stood_still(self, since: float) -> float:
        """Return for how many seconds it has been stopped since a moment."""
        now = _now()
        spans = [(max(since, span[0]), (span[1:] or [now])[0]) for span in self.stopped]
        return sum(max(0.0, end - begin) for begin, end in spans)

    @property
    def footprint(self) -> tuple[float, int]:
        """Return resident memory in MB, and open descriptors."""
        assert self.part is not None
        here = Path(f"/proc/{self.part.process.pid}")
        (resident,) = [
            int(line.split()[1])
            for line in (here / "status").read_text().splitlines()
            if line.startswith("VmRSS:")
        ]
        return resident / 1024, len(list((here / "fd").iterdir()))


def _now() -> float:
    return asyncio.get_running_loop().time()


def skewed(seconds: int) -> dict[str, str]:
    """
    Return what makes a process believe in another time of day; its monotonic clock stays right.
    """
    library = faketime()
    if library is None:
        return {}
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def faketime() -> Path | None:
    """Debian's libfaketime, where it is installed."""
    return next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


def need_faketime() -> None:
    """Skip a test on a laptop without libfaketime; fail it on CI."""
    if faketime() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs Debian's `faketime`")
