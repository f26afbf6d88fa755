"""
Ends the parts of the one-machine mode when their supervisor is gone and could not.

It reads `+PID` and `-PID` from a pipe of which the supervisor alone holds the other end. The
pipe closes however the supervisor ends, `kill -9` included; what is then still on the list is
killed with all its descendants. Linux has a signal for that (PDEATHSIG), but macOS does not,
and it reaches no grandchildren.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import IO, Self


class Warden:
    """The supervisor's end of the pipe."""

    def __init__(self) -> None:
        # A session of its own: neither Ctrl-C nor the terminal's end reaches it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "inferline.local.processes.warden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin is not None
        self._pipe: IO[str] = self._process.stdin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()

    def guard(self, group: int) -> None:
        """Register a process group to be killed if the supervisor ends before `release`."""
        self._say(f"+{group}")

    def release(self, group: int) -> None:
        """Unregister a group that has ended."""
        self._say(f"-{group}")

    def _say(self, line: str) -> None:
        # A warden that somebody killed must not take the parts with it.
        with contextlib.suppress(OSError):
            self._pipe.write(line + "\n")


def kill_group(group: int) -> None:
    """Kill a process group, if anything of it still runs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def watch(lines: Iterable[str]) -> None:
    """Read the list until its writer is gone, then kill the groups that are on it."""
    groups: set[int] = set()
    for line in lines:
        sign, group = line[0], int(line[1:])
        if sign == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    watch(sys.stdin)
