"""Batches through real processes: their wall time, their calls to AWS, and a very long file."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.batches.files import TERMINAL, User, direct, write
from bench.costs.calls import tallied
from bench.harness.backend import MODEL
from bench.harness.counting import Proxy
from bench.harness.machine import LITELLM_PYTHON
from bench.harness.processes import ROOT, BenchError, Running, running
from bench.harness.stack import (
    LITELLM_ENVIRONMENT,
    Span,
    backend,
    emulator,
    inferline,
    provider,
    spans,
)
from bench.report import progress

#: A line's answer has so many tokens on average, up and down by the share, so many a second.
TOKENS, VARY, PER_SECOND, FIRST_SECONDS = 200, 0.5, 50.0, 0.05
SLOTS, LINES, LINES_QUICK = 16, 1000, 160
#: Beside LiteLLM.
PEER_SLOTS, PEER_LINES, PEER_LINES_QUICK = 32, 640, 160
#: Idle calls come by the clock: this long catches heartbeats, long polls and their bunching.
IDLE_SECONDS, IDLE_SECONDS_QUICK = 60.0, 20.0
LONG_LINES, LONG_LINES_QUICK, LONG_LINE_BYTES = 50_000, 5_000, 1024
LOOK_SECONDS = 0.02
#: So long after its provider's end a shard goes on at another.
LEASE = {"INFERLINE_LEASE_SECONDS": "5"}

Raw = dict[str, Any]


async def measure(*, quick: bool) -> Raw:
    """Run batches, one after the other."""
    with tempfile.TemporaryDirectory(prefix="inferline-bench-") as folder:
        at = Path(folder)
        progress("real: wall time and calls")
        wall = await _wall(write(at / "wall.jsonl", LINES_QUICK if quick else LINES), quick=quick)
        progress("real: a long file")
        lines = LONG_LINES_QUICK if quick else LONG_LINES
        long = await _long(write(at / "long.jsonl", lines, LONG_LINE_BYTES))
        progress("real: beside LiteLLM")
        lines = PEER_LINES_QUICK if quick else PEER_LINES
        peer = await _peer(write(at / "peer.jsonl", lines), lines)
    return {
        "wall": wall,
        "long": {"lines": LONG_LINES_QUICK if quick else LONG_LINES, **long},
        "peer": {"lines": lines, **peer},
    }


async def _wall(path: Path, *, quick: bool) -> Raw:
    """Return the times of a batch, those of its lines sent directly, and its calls to AWS."""
    script = {"first": FIRST_SECONDS, "per_second": PER_SECOND, "tokens": TOKENS, "vary": VARY}
    async with backend(**script) as server:
        await direct(server.url, path, SLOTS)
        alone = await spans(server.url)
    async with backend(**script) as server, emulator() as (aws_url, _):
        proxy = Proxy(aws_url)
        async with (
            proxy.serving() as proxied,
            inferline(server.url, slots=SLOTS, aws_url=proxied) as ours,
            User(ours.url) as user,
        ):
            seconds = IDLE_SECONDS_QUICK if quick else IDLE_SECONDS
            idle, lasted = await tallied(proxy, lambda: asyncio.sleep(seconds))
            lives, through = [], list[Span]()

            async def run() -> None:
                lives.append(await user.run(path, _answered(server.url, len(alone), through)))

            used, took = await tallied(proxy, run)
    return {
        "slots": SLOTS,
        "lines": len(alone),
        "direct_ms": _lasted(alone),
        "backend_ms": _lasted(through),
        "life": asdict(lives[0]),
        "asked": len(through),
        "tally": (used - idle.times(took / lasted)).raw(),
    }


async def _answered(url: str, lines: int, answers: list[Span]) -> None:
    """Collect a backend's answers until it has given so many."""
    while len(answers) < lines:
        answers += await spans(url)
        await asyncio.sleep(LOOK_SECONDS)


def _lasted(answers: list[Span]) -> float:
    """Return the milliseconds from the begin of the first answer to the end of the last."""
    return max(end for _, end in answers) - min(begin for begin, _ in answers)


async def _long(path: Path) -> Raw:
    """Return how long a long file's upload and validation take, and the gateway's memory."""
    async with (
        backend(first=FIRST_SECONDS, per_second=PER_SECOND, tokens=TOKENS) as server,
        inferline(server.url, slots=1) as ours,
        User(ours.url) as user,
    ):
        # What it needs once, whatever the size: its code for files and batches.
        few = write(path.with_name("few.jsonl"), 2)
        await user.until(await user.create(await user.upload(few)), *TERMINAL)
        async with _memory(ours.router) as memory:
            begun = time.monotonic()
            file_id = await user.upload(path)
            uploaded = time.monotonic()
            batch_id = await user.create(file_id)
            batch = await user.until(batch_id, "in_progress", *TERMINAL)
            validated = time.monotonic()
        await user.cancel(batch_id)
    return {
        "bytes": path.stat().st_size,
        "upload_seconds": uploaded - begun,
        "validation_seconds": validated - uploaded,
        "status": batch["status"],
        "total": batch["request_counts"]["total"],
        "memory_kib": memory,
    }


@asynccontextmanager
async def _memory(process: Running) -> AsyncIterator[list[int]]:
    """Yield what becomes a process's resident memory before, and the most of it meanwhile, KiB."""
    memory = [process.rss_kib] * 2

    async def look() -> None:
        while True:
            memory[1] = max(memory[1], process.rss_kib)
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield memory
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _peer(path: Path, lines: int) -> Raw:
    """Return both runners on one backend: lines a second, and what a kill in the middle costs."""
    script = {"first": FIRST_SECONDS, "per_second": PER_SECOND, "tokens": TOKENS, "vary": VARY}
    async with backend(**script) as server:
        direct_seconds = await direct(server.url, path, PEER_SLOTS)
        theirs = {}
        for name, at_once in (("default", None), (f"{PEER_SLOTS} at once", PEER_SLOTS)):
            theirs[name] = await _theirs(server.url, path, at_once)
        killed = await _theirs_killed(server.url, path, lines)
    async with (
        backend(**script) as server,
        inferline(server.url, slots=PEER_SLOTS, settings=LEASE) as ours,
        User(ours.url) as user,
    ):
        life = await user.run(path)
    return {
        "slots": PEER_SLOTS,
        "direct_seconds": direct_seconds,
        "litellm_seconds": theirs,
        "litellm_killed": killed,
        "seconds": life.ended - life.created,
        "answered": life.answered,
        "killed": await _ours_killed(script, path, lines),
    }


@asynccontextmanager
async def _litellm(url: str, path: Path, at_once: int | None) -> AsyncIterator[Running]:
    """Run LiteLLM's runner on a file, which writes its output beside it."""
    if not LITELLM_PYTHON.exists():
        raise BenchError("LiteLLM is not installed; `make bench` installs it")
    output = path.with_suffix(".out")
    output.unlink(missing_ok=True)
    command = [str(LITELLM_PYTHON), str(ROOT / "bench/peers/litellm_batch.py")]
    command += ["--backend", url, "--model", MODEL, "--input", str(path), "--output", str(output)]
    command += [] if at_once is None else ["--at-once", str(at_once)]
    async with running("litellm", command, environment=LITELLM_ENVIRONMENT) as process:
        yield process


async def _theirs(url: str, path: Path, at_once: int | None) -> float:
    """Return the seconds that LiteLLM's runner takes."""
    async with _litellm(url, path, at_once) as process:
        await asyncio.to_thread(process.process.wait)
        ended = json.loads(process.log.read_text().splitlines()[-1])
        if ended["status"] != "completed":
            raise BenchError(f"LiteLLM's batch is {ended['status']}")
        return float(ended["seconds"])


async def _theirs_killed(url: str, path: Path, lines: int) -> Raw:
    """Kill LiteLLM's runner when half of the lines are answered; return what is left of these."""
    await spans(url)
    answered = 0
    async with _litellm(url, path, PEER_SLOTS) as process:
        while answered < lines // 2:
            process.check()
            answered += len(await spans(url))
            await asyncio.sleep(LOOK_SECONDS)
        process.process.kill()
    output = path.with_suffix(".out")
    kept = len(output.read_text().splitlines()) if output.exists() else 0
    return {"answered": answered, "kept": kept}


async def _ours_killed(script: dict[str, Any], path: Path, lines: int) -> Raw:
    """
    Kill a provider when half of the lines are answered, and begin another.

    Returns how many lines were answered then, how many of all are in the output in the end, and how
    many requests the backend had.
    """
    answered = 0
    async with (
        backend(**script) as server,
        inferline(server.url, slots=PEER_SLOTS, settings=LEASE) as ours,
        User(ours.url) as user,
    ):
        batch_id = await user.create(await user.upload(path))
        while answered < lines // 2:
            ours.provider.check()
            answered += len(await spans(server.url))
            await asyncio.sleep(LOOK_SECONDS)
        ours.provider.process.kill()
        asked = answered
        options = {"slots": PEER_SLOTS, "aws_url": ours.aws_url, "name": "another"}
        async with provider(ours.url, server.url, **options):
            batch = await user.until(batch_id, *TERMINAL)
            asked += len(await spans(server.url))
        kept = await user.answered(batch["output_file_id"])
    return {"answered": answered, "kept": kept, "asked": asked}
