"""
What the stack on AWS costs: idle for a month, for a million requests of 20 s, and for waiting.

The calls are counted on the real line: the function that waits as AWS starts it, a provider, and a
scripted backend that takes 20 s of real time for an answer in prose, with one request at a time,
since in a Lambda nobody shares a read.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import aiohttp

from bench.costs.bill import (
    LOG_BYTES,
    REQUESTS_A_KEY,
    RUN_SECONDS,
    TRAFFIC,
    WAITING,
    Bill,
    Counted,
    Item,
    Plan,
    counted,
    price_of,
    usd,
)
from bench.costs.calls import AFTER_SECONDS, tallied
from bench.costs.prices import HOURS_A_MONTH, PRICES
from bench.costs.template import Declared, declared
from bench.harness.counting import Proxy, Tally
from bench.harness.loader import Block, Loader, body, chat
from bench.harness.stack import CALLER, Contender, backend, emulator, function, inferline
from bench.harness.stats import percentile_of
from bench.report import Chart, Goal, Table, goals, progress
from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.sqs import KEY_REUSE_SECONDS
from inferline.maintenance.sweep import Sweep
from inferline.memory.queue import MemoryQueue
from inferline.settings import Settings
from inferline.usage.ledger import Entry

#: An answer: its first token, then the others, 20 s in all.
FIRST_SECONDS: Final = 0.4
PER_SECOND: Final = 25.0
TOKENS: Final = 490
SLOTS: Final = 32
#: Six heartbeats, and nine long polls of each queue: one more or less is no great part.
IDLE_SECONDS: Final = 180.0
QUICK_IDLE_SECONDS: Final = 20.0
SWEEPS: Final = 10
#: How many wait at once for what a container is loaded with.
WAITING_AT_ONCE: Final = 25
#: What the table of waiting tells of.
IN_FLIGHT: Final = (1, 25, 250)
FLUSH: Final = "INFERLINE_FLUSH_SECONDS"
#: US dollars beyond waiting and traffic for a million requests.
PLAIN_GOAL: Final = 10.0
STREAMED_GOAL: Final = 25.0


@dataclass(frozen=True, slots=True)
class Case:
    """A way to ask. ``flush`` 0: as the stack has it."""

    name: str
    streamed: bool
    flush: float = 0.0
    settings: Mapping[str, str] = field(default_factory=dict)


PLAIN: Final = Case("not streamed", False)
STREAMED: Final = Case("streamed", True)
CASES: Final = (
    PLAIN,
    STREAMED,
    *(Case(f"streamed, flush {seconds:g} s", True, seconds) for seconds in (0.1, 0.25, 0.5, 1.0)),
)

#: A line, its function, and what counts their calls.
Line = tuple[Contender, Proxy]


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Count; the bills are made of that."""
    stack = declared()
    number = 1 if quick else 4
    async with backend(
        first=FIRST_SECONDS, per_second=PER_SECOND, tokens=TOKENS, prose=True
    ) as server:
        async with _line(server.url, stack.settings) as (_, proxy):
            progress("idle")
            seconds = QUICK_IDLE_SECONDS if quick else IDLE_SECONDS
            idle, sweep = await _count_idle(proxy, seconds)
            progress("compressed")
            squeezed = await _squeezed_bytes(server.url, stack.settings)
        counts = {}
        for case in CASES[:2] if quick else CASES:
            progress(case.name)
            settings = {**stack.settings, **({FLUSH: f"{case.flush}"} if case.flush else {})}
            async with _line(server.url, settings) as line:
                counts[case.name] = await _count(load, line, case, idle, number)
        progress("a container")
        busy = await _busy(load, server.url, stack.settings)
    settings = Settings.from_env(stack.settings)
    plan = Plan(settings.enrol_seconds, KEY_REUSE_SECONDS, _metric_bytes())
    return {
        "declared": asdict(stack),
        "plan": asdict(plan),
        "flush_seconds": settings.flush_seconds,
        "idle_per_second": idle.raw(),
        "sweep": sweep.raw(),
        "squeezed_bytes": squeezed,
        "container_cpu_ms": busy,
        "per_request": counts,
    }


@asynccontextmanager
async def _line(url: str, settings: Mapping[str, str]) -> AsyncIterator[Line]:
    """
    Yield a line as on AWS, with a proxy that counts all its calls; a gateway enrols the provider.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        aws_url, _ = await enter(emulator())
        proxy = Proxy(aws_url)
        served = await enter(proxy.serving())
        await enter(inferline(url, slots=SLOTS, aws_url=served, settings=settings))
        yield await enter(function(served, settings)), proxy


async def _count_idle(proxy: Proxy, seconds: float) -> tuple[Tally, Tally]:
    """Return what an idle line calls in a second, and the sweep in one run."""
    idle, lasted = await tallied(proxy, lambda: asyncio.sleep(seconds))
    idle = idle.times(1 / lasted)
    settings = Settings()
    async with AwsClient(settings.region, proxy.url, StaticCredentials("test", "test")) as client:
        sweep = Sweep(
            store=DynamoTaskStore(client, settings.tasks_table),
            registry=DynamoRegistry(client, settings.registry_table, settings.silent_seconds),
            queue_maker=MemoryQueue(),
        )

        async def run() -> None:
            for _ in range(SWEEPS):
                await sweep.run()

        used, lasted = await tallied(proxy, run)
    return idle, (used - idle.times(lasted)).times(1 / SWEEPS)


async def _count(load: Loader, line: Line, case: Case, idle: Tally, number: int) -> dict[str, Any]:
    """Return one request, less what an idle line calls meanwhile."""
    one, proxy = line
    blocks: list[Block] = []

    async def ask() -> None:
        order = {"requests": number, "tokens": TOKENS if case.streamed else 0, "headers": CALLER}
        blocks.append(await load.run(one.url, body(stream=case.streamed), 1, **order))
        await asyncio.sleep(AFTER_SECONDS)

    used, lasted = await tallied(proxy, ask)
    [block] = blocks
    each = (used - idle.times(lasted)).times(1 / number)
    return {
        "streamed": case.streamed,
        "seconds": sum(block.total) / number / 1000,
        "first_ms": block.first,
        "answer_bytes": block.received / number,
        "gaps": block.gaps,
        "bursts": block.bursts,
        **each.raw(),
    }


async def _squeezed_bytes(url: str, settings: Mapping[str, str]) -> int:
    """
    Return how long a stream is for a client that takes it compressed, where that is switched on.
    """
    compressing = {**settings, "INFERLINE_COMPRESSION": "gzip"}
    headers = {**CALLER, "accept-encoding": "gzip"}
    async with (
        _line(url, compressing) as (one, _),
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(chat(one.url), json=body(stream=True), headers=headers) as response,
    ):
        assert response.headers["content-encoding"] == "gzip"
        return len(await response.read())


async def _busy(load: Loader, url: str, settings: Mapping[str, str]) -> float:
    """
    Return the CPU of a gateway that is a container, ms a second for each stream that it waits for.
    """
    async with inferline(url, slots=WAITING_AT_ONCE, settings=settings) as ours:
        before = ours.router.cpu_ms
        block = await load.run(ours.url, body(stream=True), WAITING_AT_ONCE, requests=1)
        return (ours.router.cpu_ms - before) / (sum(block.total) / 1000)


def _metric_bytes() -> int:
    """Return the log line that a request's metrics are."""
    from functions._metrics import EmfLedger

    line = io.StringIO()
    entry = Entry(
        ended_ms=0,
        tenant="tenant",
        model="organisation/a-model-of-some-name-7b",
        tier="default",
        path="/v1/chat/completions",
        streamed=True,
        status=200,
        attempt=1,
        queue_ms=100,
        first_ms=500,
        total_ms=20_000,
    )
    with redirect_stdout(line):
        EmfLedger().record(entry)
    return len(line.getvalue())


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    bill = Bill(Declared(**raw["declared"]), Plan(**raw["plan"]))
    counts_by_case = {name: counted(one) for name, one in raw["per_request"].items()}
    requests = {name: bill.of_request(one) for name, one in counts_by_case.items()}
    month = bill.of_month(Tally.of(raw["idle_per_second"]), Tally.of(raw["sweep"]))
    return [
        _goals(requests),
        *_request_tables(raw, requests, counts_by_case),
        *_flush_told(raw, requests),
        _waiting_table(bill, raw["container_cpu_ms"]),
        _month_table(month),
        _price_table(),
    ]


def _beyond(items: Sequence[Item]) -> float:
    """
    Return US dollars for a million requests, besides waiting and the traffic that any server pays.
    """
    return usd(items, without=(WAITING, TRAFFIC)) * 1e6


def _goals(requests: Mapping[str, Sequence[Item]]) -> Table:
    wanted = []
    for case, most in ((PLAIN, PLAIN_GOAL), (STREAMED, STREAMED_GOAL)):
        beyond = _beyond(requests[case.name])
        what = f"a million requests of 20 s, {case.name}, beyond waiting and traffic"
        wanted.append(Goal(what, f"<= $ {most:g}", f"$ {beyond:.2f}", beyond <= most))
    return goals("Cost", wanted)


def _request_tables(
    raw: Mapping[str, Any],
    requests: Mapping[str, Sequence[Item]],
    counts_by_case: Mapping[str, Counted],
) -> list[Table]:
    names = [name for name, _ in next(iter(requests.values()))]
    rows = [
        [name, *(f"{price_of(items[at][1]) * 1e6:.2f}" for items in requests.values())]
        for at, name in enumerate(names)
    ]
    rows.append(["**all**", *(f"**{usd(items) * 1e6:.0f}**" for items in requests.values())])
    beyond = [f"**{_beyond(items):.2f}**" for items in requests.values()]
    rows.append(["**beyond waiting and traffic**", *beyond])
    units = [
        ["Lambda, s", *(f"{one.seconds:.2f}" for one in counts_by_case.values())],
        ["answer, KB", *(f"{one.answer_bytes / 1e3:.1f}" for one in counts_by_case.values())],
        *(
            [what, *(f"{getattr(one.tally, name):.1f}" for one in counts_by_case.values())]
            for what, name in (
                ("SQS requests", "sqs"),
                ("DynamoDB write units", "writes"),
                ("DynamoDB read units", "reads"),
            )
        ),
        [
            "calls to AWS",
            *(f"{sum(one.tally.calls.values()):.0f}" for one in counts_by_case.values()),
        ],
    ]
    squeezed = raw["squeezed_bytes"]
    return [
        Table(
            "US dollars for a million requests of 20 s",
            ["", *requests],
            rows,
            f"Where nothing else is said, a stream's chunks gather for {raw['flush_seconds']:g} s, "
            "as the stack has it. For clients that take it compressed, with the switch `compress`, "
            f"a stream is {squeezed / 1e3:.1f} KB, and its traffic costs "
            f"$ {price_of({'traffic': squeezed}) * 1e6:.2f} a million.",
        ),
        Table("Counted for each of them", ["", *counts_by_case], units),
    ]


def _flush_told(
    raw: Mapping[str, Any], requests: Mapping[str, Sequence[Item]]
) -> list[Table | Chart]:
    """Return what a longer flush costs in smoothness, and saves."""
    rows, costs, gaps_ms = [], [], []
    for name, one in raw["per_request"].items():
        if not one["streamed"]:
            continue
        _, _, seconds = name.partition("flush ")
        flush = float(seconds.removesuffix(" s")) if seconds else raw["flush_seconds"]
        gaps = {float(gap): count for gap, count in one["gaps"].items()}
        bursts = {float(size): count for size, count in one["bursts"].items()}
        p50, p99 = (percentile_of(gaps, share) for share in (0.5, 0.99))
        cost = _beyond(requests[name])
        cells = (one["first_ms"][0], p50, p99, percentile_of(bursts, 0.99))
        rows.append((flush, [f"{flush:g}", f"{cost:.2f}", *(f"{cell:.0f}" for cell in cells)]))
        costs.append((flush, round(cost, 2)))
        gaps_ms.append((flush, p99))
    rows.sort()
    return [
        Table(
            "How long chunks gather: what that costs, and how smooth 25 tokens a second are",
            [
                "flush, s",
                "$ a million, beyond waiting and traffic",
                "first token, ms",
                "gap p50, ms",
                "gap p99, ms",
                "tokens at once, p99",
            ],
            [cells for _, cells in rows],
            "Gaps are between two tokens as the client sees them; the backend makes one each 40 "
            "ms. The gateway hands chunks that gathered for longer than 0.1 s out in steps of "
            "that, so a longer flush makes a stream later, not less smooth.",
        ),
        Chart(
            "Cost of a stream by how long its chunks gather",
            "flush, s",
            "$ for a million requests",
            {"beyond waiting and traffic": sorted(costs)},
        ),
        Chart(
            "Smoothness of a stream by how long its chunks gather",
            "flush, s",
            "gap between tokens p99, ms",
            {"as the client sees it": sorted(gaps_ms)},
        ),
    ]


def _waiting_table(bill: Bill, container_cpu_ms: float) -> Table:
    rows = []
    for at_once in IN_FLIGHT:
        cells = [f"{price_of(units):,.0f}" for _, units in bill.of_waiting(at_once)]
        rows.append([f"{at_once}", *cells, f"{at_once * container_cpu_ms / 1000:.2f}"])
    names = [name for name, _ in bill.of_waiting(1)]
    return Table(
        "Waiting for so many streams all the time, US dollars a month",
        ["in flight", *names, "cores that one gateway process needs for them"],
        rows,
        f"The function has {bill.stack.memory['inference'] * 1024:.0f} MB. Containers also pay no "
        "API Gateway. The processors' need is measured on this machine, with the stack's settings, "
        f"at {WAITING_AT_ONCE} streams of {PER_SECOND:g} tokens a second. No bill has been seen.",
    )


def _month_table(month: Sequence[Item]) -> Table:
    rows = [[name, f"{price_of(units):.2f}", _told(units)] for name, units in month]
    fixed = [item for item in month if not item[0].startswith("+")]
    rows.insert(len(fixed), ["**idle**", f"**{usd(fixed):.2f}**", ""])
    return Table(
        f"US dollars for a month of {HOURS_A_MONTH} h",
        ["", "$", "units"],
        rows,
        "Without free tiers. Counted: calls and their units, by a proxy before the emulator; the "
        "metrics' log line. Declared: memory, alarms, dashboard and key, in the stack's template. "
        f"Assumed: {', '.join(f'{s} s for {n}' for n, s in RUN_SECONDS.items())}; "
        f"{LOG_BYTES} further bytes of logs a run, kept a month; {REQUESTS_A_KEY} requests a "
        "minute with the same key, which is checked once a minute; rows deleted two days late; "
        "five pollers of the dead letters; data keys of tables kept for 300 s for each caller.",
    )


def _told(units: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:,.6g}" for name, count in units.items())


def _price_table() -> Table:
    rows = [
        [name, f"{price.usd:g} / {price.per:,.0f}", price.unit, price.source]
        for name, price in PRICES.items()
    ]
    return Table("List prices, us-east-1", ["", "$ / units", "unit", "source"], rows)
