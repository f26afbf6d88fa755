"""An event loop whose time moves when a test says so, and that can tell when nothing is left."""

from __future__ import annotations

import asyncio

#: More rounds than this without coming to rest is a loop that goes round in circles.
ROUNDS_MAX = 10_000


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs only inside `settle` and `advance`: between them, everything waits."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self._step = step
        self.faults: list[str] = []
        super().__init__()
        self.set_exception_handler(lambda _, context: self.faults.append(str(context)))

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run until everything waits: for time, for the backend, or for the machine."""
        for _ in range(ROUNDS_MAX):
            self.call_soon(self.stop)
            self.run_forever()
            # There is no public way to ask whether a loop has something to do.
            if not self._ready and not self._is_due():
                return
        raise AssertionError("The code under test goes round in circles.")

    def advance(self, seconds: float) -> None:
        """Let time pass, in small steps, as it passes for processes that are not stopped."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + self._step)
            self.settle()

    def skip(self, until: float) -> None:
        """Let time pass in one step, as it passes where nobody does anything."""
        self.now = max(self.now, until)
        self.settle()

    def close(self) -> None:
        """End what is left, as the end of a process would."""
        for _ in range(10):
            if not (left := asyncio.all_tasks(self)):
                break
            for task in left:
                task.cancel()
            self.settle()
        self.run_until_complete(self.shutdown_asyncgens())
        super().close()

    def _is_due(self) -> bool:
        return bool(self._scheduled) and self._scheduled[0].when() <= self.now


class LoopClock:
    """A `Clock` of such a loop."""

    def __init__(self, loop: SteppedLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
