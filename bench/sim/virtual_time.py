"""Time that jumps: an event loop for which ten minutes pass as fast as their work is done."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    A loop whose clock stands still while anything can run, and then jumps to the next timer.

    So `asyncio.sleep`, timeouts and `VirtualClock` all tell the same time. Nothing outside of the
    loop has a part in it: a socket that it waits for would never be waited for, and what another
    thread is to do is done at once.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Return the seconds since the loop was made."""
        return self._now

    def run_in_executor(
        self, executor: object, function: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[T]:
        """Call a function at once; time stands still meanwhile."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  # it is for whoever waits
            future.set_exception(error)
        return future

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("Everybody waits, and for nothing that could happen.")
        self._loop.jump(timeout)
        return super().select(0)


class VirtualClock:
    """The running loop's time as a `Clock`."""

    def monotonic(self) -> float:
        """Return the seconds since the loop was made."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what ``coroutine`` returns, run in virtual time from 0 on."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Have everybody's chance begin with ``seed`` in the block, and go on behind it as before."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
