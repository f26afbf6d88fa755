"""One running part: a process in a session of its own that ends with all its descendants."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

from inferline.local.processes.part import Part
from inferline.local.processes.warden import Warden, kill_group

#: Seconds between two checks of a process that may have ended.
LOOK_SECONDS = 0.05


class Child:
    """A part's process."""

    def __init__(self, part: Part, log: Path, warden: Warden) -> None:
        self.part = part
        self.log = log
        self._warden = warden
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """
        Start the process; its output is added to its log.

        In its own session it does not get the terminal's Ctrl-C, so that the supervisor decides the
        order of ending.
        """
        output = None if self.part.uses_terminal else self.log.open("ab")
        try:
            self._process = subprocess.Popen(
                self.part.argv,
                env=dict(self.part.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()
        self._warden.guard(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """
        Return None while it runs or before its start; a negative number is the signal that killed
        it.
        """
        return None if self._process is None else self._process.poll()

    async def ended(self) -> int:
        """Wait for its end, kill its remaining descendants, and return the exit code."""
        code = await self._exit_code_within(float("inf"))
        self.kill()
        assert code is not None
        return code

    async def stop(self) -> None:
        """Ask it to end, wait for the part's drain time, then kill it."""
        if self._process is None:
            return
        if self.exit_code is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            await self._exit_code_within(self.part.drain_seconds)
        self.kill()
        self._process.wait()

    async def _exit_code_within(self, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while True:
            code = self.exit_code
            if code is not None or time.monotonic() >= end:
                return code
            await asyncio.sleep(LOOK_SECONDS)

    def kill(self) -> None:
        """Kill it and its descendants at once."""
        if self._process is not None:
            kill_group(self._process.pid)
            self._warden.release(self._process.pid)

    def last_words(self, lines: int = 8) -> str:
        """Return the end of its log, indented."""
        if self.part.uses_terminal or not self.log.is_file():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
        return "".join(f"\n    {line}" for line in text.strip().splitlines()[-lines:])


def described(exit_code: int) -> str:
    """Describe how a process ended."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was killed by {signal.Signals(-exit_code).name}"
