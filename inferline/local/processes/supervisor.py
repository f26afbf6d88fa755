"""Starts the parts in order, supervises them, and ends them in order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from inferline.background import Backoff, first_of
from inferline.local import failures
from inferline.local.failures import LocalError, PartFailed, PartMissing
from inferline.local.processes.child import Child, described
from inferline.local.processes.part import Part
from inferline.local.processes.warden import Warden
from inferline.local.web import NoAnswer

#: Seconds between two checks of a part that is starting.
LOOK_SECONDS = 0.05
#: Pauses before a part is started again.
RESTARTS = Backoff(0.5, 8.0)
#: A part that lived for so long is started again as if it were the first time.
HEALTHY_SECONDS = 30.0


class Supervisor:
    """
    The parts, in the order in which they start; they end in the reverse order.

    `once_ready` runs when all are up. It may raise a LocalError to end everything.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        logs: Path,
        tell: Callable[[str], None],
        complain: Callable[[str], None],
        once_ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._parts = parts
        self._logs = logs
        self._tell = tell
        self._complain = complain
        self._once_ready = once_ready
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._children: list[Child] = []
        self._asked = asyncio.Event()
        self._killed = False

    async def run(self) -> int:
        """Run everything until it fails or a signal asks for the end; return the exit code."""
        with Warden() as warden:
            for part in self._parts:
                log = self._logs / f"{part.name}.log"
                log.unlink(missing_ok=True)
                self._children.append(Child(part, log, warden))
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._ask_to_end)
            try:
                code = await self._live_until_asked()
            except LocalError as failure:
                self._complain(str(failure))
                code = failure.exit_code
            finally:
                await self._end()
        return failures.KILLED if self._killed else code

    def _ask_to_end(self) -> None:
        if not self._asked.is_set():
            self._asked.set()
            self._tell("\nEnding all parts. Ctrl-C again kills them.")
            return
        self._killed = True
        for child in self._children:
            child.kill()

    async def _live_until_asked(self) -> int:
        try:
            await first_of(self._live(), self._asked.wait())
        except BaseExceptionGroup as group:
            raise _first_failure(group) from None
        return failures.OK

    async def _end(self) -> None:
        for child in reversed(self._children):
            await child.stop()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._keep(child))
            group.create_task(self._finish())

    async def _finish(self) -> None:
        for ready in self._ready.values():
            await ready.wait()
        await self._once_ready()

    async def _keep(self, child: Child) -> None:
        """Start a part when those before it are ready, and restart it if it should be."""
        part = child.part
        for name in part.after:
            await self._ready[name].wait()
        await self._bring_up(child)
        self._ready[part.name].set()
        if part.ready is None:
            return
        failures = 0
        while True:
            since = time.monotonic()
            code = await child.ended()
            if not part.revive:
                raise PartFailed(_obituary(child, described(code)))
            if time.monotonic() - since > HEALTHY_SECONDS:
                failures = 0
            pause = RESTARTS.seconds(failures)
            failures += 1
            self._tell(f"  {part.name} {described(code)}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            child.start()
            self._tell(f"  {part.name} started again")

    async def _bring_up(self, child: Child) -> None:
        part = child.part
        begin = time.monotonic()
        child.start()
        if part.ready is None:
            code = await child.ended()
            if code != 0:
                kind = PartMissing if code == failures.MISSING else PartFailed
                raise kind(_obituary(child, described(code)))
        else:
            await self._wait_until_ready(child, part.ready, begin + part.patience_seconds)
        took = time.monotonic() - begin
        self._tell(f"  {part.name:<10} {part.what:<58} ready in {took:4.1f} s")

    async def _wait_until_ready(
        self, child: Child, ready: Callable[[], object], deadline: float
    ) -> None:
        while True:
            try:
                await asyncio.to_thread(ready)
            except NoAnswer as last:
                if child.exit_code is not None:
                    raise PartFailed(_obituary(child, described(child.exit_code))) from last
                if time.monotonic() >= deadline:
                    patience = f"was not ready after {child.part.patience_seconds:g} s ({last})"
                    raise PartFailed(_obituary(child, patience)) from last
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return


def _obituary(child: Child, fate: str) -> str:
    if child.part.uses_terminal:
        return f"{child.part.name} {fate}; it said why above."
    words = child.last_words()
    return f"{child.part.name} {fate}." + (words and f" Its log, {child.log}, ends with:{words}")


def _first_failure(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that a person can act on; any other is a bug here, shown whole."""
    for failure in group.exceptions:
        if isinstance(failure, LocalError):
            return failure
    return group
