"""Which calls to AWS a request takes, and what a million such requests would cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from bench.harness.counting import Proxy, Tally
from bench.harness.loader import Loader, body
from bench.harness.stack import backend, emulator, inferline
from bench.report import Table, progress

#: US dollars for a million units: list prices of us-east-1, tables on demand, 2026.
USD_SQS: Final = 0.40
USD_FAIR: Final = 0.10
USD_WRITES: Final = 0.625
USD_READS: Final = 0.125
USD_PUTS: Final = 5.00
USD_GETS: Final = 0.40
HOURS_A_MONTH: Final = 730

TOKENS = 200
PER_SECOND = 25.0
SLOTS = 16
#: Idle calls come by the clock: this long catches heartbeats, long polls and their bunching.
IDLE_SECONDS = 60.0
#: What was begun goes on for a moment after the answer: the end of the message.
AFTER_SECONDS = 1.0

#: Name, whether streamed, requests at a time, and times.
Case = tuple[str, bool, int, int]


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    cases: list[Case] = [
        ("streamed, one at a time", True, 1, 1 if quick else 4),
        ("streamed, 8 at a time", True, 8, 1 if quick else 3),
        ("not streamed, one at a time", False, 1, 1 if quick else 4),
        ("not streamed, 8 at a time", False, 8, 1 if quick else 3),
    ]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(backend(first=0.05, per_second=PER_SECOND, tokens=TOKENS))
        aws_url, _ = await enter(emulator())
        proxy = Proxy(aws_url)
        ours = await enter(inferline(server.url, slots=SLOTS, aws_url=await enter(proxy.serving())))
        await load.run(ours.url, body(stream=True), SLOTS, requests=1)
        seconds = 20.0 if quick else IDLE_SECONDS
        idle, lasted = await tallied(proxy, lambda: asyncio.sleep(seconds))
        idle = idle.times(1 / lasted)
        tallies = {}
        for name, streamed, streams, times in cases:
            progress(name)
            used, lasted = await tallied(
                proxy, lambda case=(streamed, streams, times): _ask(load, ours.url, *case)
            )
            tallies[name] = (used - idle.times(lasted)).times(1 / (streams * times))
    return {
        "idle_per_second": idle.raw(),
        "per_request": {name: tally.raw() for name, tally in tallies.items()},
    }


async def tallied(proxy: Proxy, work: Callable[[], Awaitable[Any]]) -> tuple[Tally, float]:
    """Return what was called during ``work``, and how many seconds it took."""
    begun, before = time.monotonic(), proxy.tally.copy()
    await work()
    return proxy.tally - before, time.monotonic() - begun


async def _ask(load: Loader, url: str, streamed: bool, streams: int, times: int) -> None:
    length = TOKENS / PER_SECOND
    order = {"requests": times, "spread": length, "tokens": TOKENS if streamed else 0}
    await load.run(url, body(stream=streamed), streams, **order)
    await asyncio.sleep(AFTER_SECONDS)


def usd(tally: Tally) -> float:
    """Return what a million times a tally costs, US dollars."""
    return (
        tally.sqs * USD_SQS
        + tally.fair * USD_FAIR
        + tally.writes * USD_WRITES
        + tally.reads * USD_READS
        + tally.puts * USD_PUTS
        + tally.gets * USD_GETS
    )


def tell(raw: dict[str, Any]) -> list[Table]:
    tallies = {name: Tally.of(raw_tally) for name, raw_tally in raw["per_request"].items()}
    idle = Tally.of(raw["idle_per_second"])
    columns = [*tallies.values(), idle.times(60)]
    names = sorted({name for tally in columns for name in tally.calls})
    # Those of the start are not there.
    names = [name for name in names if any(round(t.calls[name], 2) for t in columns)]
    rows = [[name, *(f"{tally.calls[name]:.2f}" for tally in columns)] for name in names]
    rows.append(["all calls", *(f"{sum(tally.calls.values()):.2f}" for tally in columns)])
    for what, attribute in (
        ("SQS requests billed", "sqs"),
        ("DynamoDB write units", "writes"),
        ("DynamoDB read units", "reads"),
    ):
        rows.append([what, *(f"{getattr(tally, attribute):.2f}" for tally in columns)])
    priced = [f"$ {usd(tally):.2f}" for tally in tallies.values()]
    rows.append(["a million requests, list price", *priced, ""])
    month = usd(idle) * 3600 * HOURS_A_MONTH / 1e6
    return [
        Table(
            f"AWS: calls for each request of {TOKENS} tokens at {PER_SECOND:g} a second, less what "
            "an idle InferLine calls",
            ["call", *tallies, "idle, a minute"],
            rows,
            "Counted by a proxy before the emulator, over all processes; units follow AWS's rules "
            "for the items' sizes. Idle, one gateway, one provider and one model cost "
            f"$ {month:.2f} a month. Prices a million: SQS $ {USD_SQS:.2f} (with message group "
            f"$ {USD_SQS + USD_FAIR:.2f}), DynamoDB on demand writes $ {USD_WRITES:g}, reads "
            f"$ {USD_READS:g}. Lambda, API Gateway and traffic are not in it.",
        )
    ]
