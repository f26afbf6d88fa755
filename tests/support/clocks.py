"""Clocks that tests set."""

from __future__ import annotations


class StandingClock:
    """Stands still until told."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError
