"""Requests to stop the process."""

from __future__ import annotations

import asyncio


class Stopping:
    """Requests to stop: the first to drain, the second to hand back at once."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.now = asyncio.Event()
        #: The longest time for draining, whatever the settings say; None: as they say.
        self.seconds_max: float | None = None

    def ask(self) -> None:
        """Ask to stop; a second time, to stop now."""
        (self.now if self.drain.is_set() else self.drain).set()

    def ask_within(self, seconds: float) -> None:
        """Ask to stop because the host ends: running tasks have this time to finish."""
        if not self.drain.is_set():
            self.seconds_max = seconds
            self.drain.set()
