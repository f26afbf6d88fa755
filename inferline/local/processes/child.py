"""One running part: a process in a session of its own that ends with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

from inferline.local.processes.part import Part
from inferline.local.processes.warden import Warden, kill_group

#: Between two looks at whether a process has ended.
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
        Start the process; what it writes is added to its log.

        Its own session keeps Ctrl-C on the terminal from it, so that the order of ending is ours.
        """
        output = None if self.part.shown else self.log.open("ab")
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
        """None while it runs, or before it was started; negative: killed by that signal."""
        return None if self._process is None else self._process.poll()

    async def ended(self) -> int:
        """Wait for the end, then end what the process left behind; gives the exit code."""
        code = await self._exit_code_within(float("inf"))
        self.kill()
        assert code is not None
        return code

    async def stop(self) -> None:
        """Ask it to end and give it the part's time for that, then kill it."""
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
        """Kill it, and whatever it started, at once."""
        if self._process is not None:
            kill_group(self._process.pid)
            self._warden.release(self._process.pid)

    def last_words(self, lines: int = 8) -> str:
        """The end of its log, indented."""
        if self.part.shown or not self.log.is_file():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
        return "".join(f"\n    {line}" for line in text.strip().splitlines()[-lines:])


def described(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was killed by {signal.Signals(-exit_code).name}"
