"""The other end of the load generator: gives it orders and reads its samples."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.harness.backend import MODEL
from bench.harness.processes import ROOT, BenchError, cpu_ms, python

#: A line of samples may be long.
_LINE_BYTES_MAX = 256 * 1024 * 1024
#: Of the requests of a block, so many may fail.
FAILED_SHARE_MAX = 0.01


@dataclass(frozen=True, slots=True)
class Block:
    """Results of one block of load. Times are milliseconds."""

    first: list[float]
    total: list[float]
    #: How many there were; of very many, some samples were kept.
    answers: int
    seconds: float
    failed: int
    errors: list[str] = field(default_factory=list)
    #: Between two tokens of a stream: how often, by milliseconds.
    gaps: dict[str, int] = field(default_factory=dict)
    #: Tokens that came at once: how often, by their number.
    bursts: dict[str, int] = field(default_factory=dict)
    #: Bytes of all bodies.
    received: int = 0

    @property
    def rate(self) -> float:
        """Return the answers a second."""
        return self.answers / self.seconds


class Loader:
    """A load generator that runs."""

    name = "load"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def cpu_ms(self) -> float:
        """Return the CPU time that it has used so far."""
        return cpu_ms(self._process.pid)

    async def run(
        self,
        url: str,
        body: dict[str, Any],
        streams: int,
        *,
        failed_share_max: float = FAILED_SHARE_MAX,
        **order: Any,
    ) -> Block:
        """
        Put a load on the chat completions of ``url``; see `bench.harness.load.Order`.

        Raises BenchError when more than such a share of requests failed.
        """
        samples = await self._do(do="run", url=chat(url), body=body, streams=streams, **order)
        first = [first for first, _ in samples["samples"]]
        total = [total for _, total in samples["samples"]]
        names = ("answers", "seconds", "failed", "errors", "gaps", "bursts", "received")
        block = Block(first, total, *(samples[name] for name in names))
        if block.failed:
            print(
                f"{url}: {block.failed} failed, {block.answers} not: {block.errors}",
                file=sys.stderr,
            )
        if block.failed > failed_share_max * (block.failed + block.answers):
            raise BenchError(f"{block.failed} requests to {url} failed: {block.errors}")
        return block

    async def hold(
        self, url: str, body: dict[str, Any], streams: int, seconds: float, spread: float = 0.0
    ) -> int:
        """
        Open streams, spread over some seconds, and leave them open; at most ``seconds`` more.

        How many have begun to answer. Raises BenchError if some broke off.
        """
        order = {"streams": streams, "seconds": seconds, "spread": spread}
        state = await self._do(do="hold", url=chat(url), body=body, **order)
        if state["open"] != streams:
            raise BenchError(f"only {state['open']} of {streams} streams stayed open")
        return int(state["begun"])

    async def held(self) -> dict[str, int]:
        """
        Return how many held streams are ``open``, and their ``tokens`` and ``pieces``.
        """
        return await self._do(do="told")

    async def let_go(self) -> int:
        """Abandon the streams that are held open; returns how many still were."""
        return int((await self._do(do="release"))["open"])

    async def _do(self, **order: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        line = await stdout.readline()
        if not line:
            raise BenchError("the load generator ended")
        reply: dict[str, Any] = json.loads(line)
        if error := reply.get("error"):
            raise BenchError(f"the load generator: {error}")
        return reply


@asynccontextmanager
async def loader() -> AsyncIterator[Loader]:
    """Yield a load generator, for the time of the context."""
    process = await asyncio.create_subprocess_exec(
        *python("bench.harness.load"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
    )
    try:
        yield Loader(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def chat(url: str) -> str:
    """Return the address of the chat completions below ``url``."""
    return f"{url}/v1/chat/completions"


def body(*, stream: bool) -> dict[str, Any]:
    """Return a short chat, the same for every contender."""
    words = "Why does a conveyor belt need nobody to hand out the work? Answer in one paragraph."
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": words},
    ]
    return {"model": MODEL, "messages": messages, "stream": stream}
