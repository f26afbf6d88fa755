"""
What the stack on AWS costs: idle for a month, and for a million requests of 20 s.

The calls are counted on the real line: gateway, provider and a scripted backend that takes 20 s of
real time for an answer, with one request at a time, since in a Lambda nobody shares a read. What no
emulator shows (durations of the small functions, log lines, what Lambda polls) is assumed here in
one place, and the tables say so.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any, Final

import aiohttp

from bench.calls import AFTER_SECONDS, tallied
from bench.counting import Proxy, Tally
from bench.loader import Loader, body
from bench.prices import HOURS_A_MONTH, MINUTES_A_MONTH, PRICES, SECONDS_A_MONTH
from bench.report import Table, progress
from bench.stack import InferLine, backend, emulator, inferline
from bench.template import Declared, declared
from inferline.aws.client import AwsClient
from inferline.aws.credentials import StaticCredentials
from inferline.aws.dynamodb import DynamoTaskStore
from inferline.aws.registry import DynamoRegistry
from inferline.aws.sqs import KEY_REUSE_SECONDS
from inferline.ledger import Entry
from inferline.memory import MemoryQueue
from inferline.minutes import FLUSH_SECONDS
from inferline.settings import Settings
from inferline.sweep import Sweep

#: An answer: its first token, then the others, 20 s in all.
FIRST_SECONDS: Final = 0.4
PER_SECOND: Final = 25.0
TOKENS: Final = 490
SLOTS: Final = 4
#: Six heartbeats, and nine long polls of each queue: one more or less is no great part.
IDLE_SECONDS: Final = 180.0
SWEEPS: Final = 10


#: Assumed. How long one run of the small functions takes, seconds.
RUN_SECONDS: Final = {"control": 0.1, "authorizer": 0.05, "sweep": 0.3}
#: Assumed. What Lambda and the API write of a run into their logs, besides our metrics.
LOG_BYTES: Final = 1500
#: Assumed. How long logs are kept, months.
LOG_MONTHS: Final = 1.0
#: Assumed. TTL deletes a row "typically within two days" after its hour.
ROW_SECONDS: Final = 3600 + 2 * 24 * 3600
#: Assumed. Lambda polls a queue for its function with five long polls of 20 s.
SOURCE_POLLS: Final = 5 / 20
#: Assumed. DynamoDB keeps a data key for 300 s for each caller, SQS as long as its queues say. The
#: sweep reads two tables. A model in use has a queue, where a sender counts twice and a receiver
#: once, and three callers of the tables: inference, the provider and control.
TABLE_KEY_SECONDS: Final = 300
SWEEP_KEYS: Final = 2
MODEL_QUEUE_KEYS: Final = 2 + 1
MODEL_TABLE_KEYS: Final = 3
#: Metrics of the sweep while there is a provider, and of each model in use.
SWEEP_METRICS: Final = 6
MODEL_METRICS: Final = 6
#: Rules of the firewall, a fifth of its price each.
WAF_RULES: Final = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A way to ask."""

    name: str
    streamed: bool
    settings: Mapping[str, str] = field(default_factory=dict)


CASES: Final = (
    Case("not streamed", False),
    Case("streamed", True),
    Case("streamed, flush 0.5 s", True, {"INFERLINE_FLUSH_SECONDS": "0.5"}),
)


@dataclass(frozen=True, slots=True)
class Counted:
    """One request as it was counted."""

    seconds: float
    answer_bytes: float
    tally: Tally


#: A line, and what counts its calls.
Line = tuple[InferLine, Proxy]
#: What is paid for: a name, and units by price.
Item = tuple[str, dict[str, float]]


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Count, then make the bills."""
    bill = Bill(stack := declared(), _metric_bytes())
    times = 1 if quick else 4
    async with backend(first=FIRST_SECONDS, per_second=PER_SECOND, tokens=TOKENS) as server:
        async with _line(server.url, stack.settings) as (_, proxy):
            idle, sweep = await _count_idle(proxy)
        found = {}
        for case in CASES:
            progress(case.name)
            async with _line(server.url, {**stack.settings, **case.settings}) as line:
                found[case.name] = await _count(load, line, case, idle, times)
    return {
        "declared": asdict(bill.stack),
        "metric_bytes": bill.metric_bytes,
        "idle_per_second": idle.raw(),
        "sweep": sweep.raw(),
        "per_request": {
            name: {"seconds": one.seconds, "answer_bytes": one.answer_bytes, **one.tally.raw()}
            for name, one in found.items()
        },
    }


def tell(raw: dict[str, Any]) -> list[Table]:
    bill = Bill(Declared(**raw["declared"]), raw["metric_bytes"])
    found = {
        name: Counted(one["seconds"], one["answer_bytes"], Tally.of(one))
        for name, one in raw["per_request"].items()
    }
    requests = {name: bill.of_request(counted) for name, counted in found.items()}
    month = bill.of_month(Tally.of(raw["idle_per_second"]), Tally.of(raw["sweep"]))
    return [*_request_tables(requests, found), _month_table(month), _price_table()]


def _metric_bytes() -> int:
    """The log line that a request's metrics are."""
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


@asynccontextmanager
async def _line(url: str, settings: Mapping[str, str]) -> AsyncIterator[Line]:
    """A line as on AWS, with a proxy that counts all its calls."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        aws_url, _ = await enter(emulator())
        proxy = Proxy(aws_url)
        served = await enter(proxy.serving())
        yield await enter(inferline(url, slots=SLOTS, aws_url=served, settings=settings)), proxy


async def _count_idle(proxy: Proxy) -> tuple[Tally, Tally]:
    """What an idle line calls in a second, and the sweep in one run."""
    idle, lasted = await tallied(proxy, lambda: asyncio.sleep(IDLE_SECONDS))
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


async def _count(load: Loader, line: Line, case: Case, idle: Tally, times: int) -> Counted:
    """One request, less what an idle line calls meanwhile."""
    totals: list[float] = []
    ours, proxy = line

    async def ask() -> None:
        order = {"requests": times, "tokens": TOKENS if case.streamed else 0}
        totals.extend((await load.run(ours.url, body(stream=case.streamed), 1, **order)).total)
        # Until the gateway has written the last request's figures, too.
        await asyncio.sleep(FLUSH_SECONDS + AFTER_SECONDS)

    used, lasted = await tallied(proxy, ask)
    answer_bytes = await _answer_bytes(ours.url)
    each = (used - idle.times(lasted)).times(1 / times)
    return Counted(sum(totals) / times / 1000, answer_bytes / times, each)


async def _answer_bytes(url: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/overview") as response,
    ):
        response.raise_for_status()
        return int((await response.json())["hour"]["total"]["answer_bytes"])


@dataclass(frozen=True, slots=True)
class Bill:
    """Makes units of what was counted and of what the stack declares."""

    stack: Declared
    metric_bytes: int

    def of_request(self, counted: Counted) -> list[Item]:
        """What a request is billed."""
        tally, asked = counted.tally, self._run("authorizer")
        return [
            ("API Gateway", {"api": max(1, ceil(counted.answer_bytes / 10e6))}),
            ("Lambda that waits", self._run("inference", counted.seconds)),
            ("SQS, fair queues", {"sqs": tally.sqs, "sqs-fair": tally.fair}),
            ("DynamoDB writes", {"writes": tally.writes}),
            ("DynamoDB reads", {"reads": tally.reads}),
            ("DynamoDB storage", {"stored": tally.stored * ROW_SECONDS / SECONDS_A_MONTH}),
            ("logs", _logs(LOG_BYTES + self.metric_bytes)),
            ("traces, if each is sampled", {"traces": 1}),
            ("authorizer, if never cached", {**asked, "reads": 1, **_logs(LOG_BYTES)}),
            ("traffic to the client", {"traffic": counted.answer_bytes}),
        ]

    def of_month(self, idle: Tally, sweep: Tally) -> list[Item]:
        """
        What the stack costs a month, and what is added by who uses it.

        ``idle`` is a second's calls, ``sweep`` those of one sweep, both with one model.
        """
        settings = Settings.from_env(self.stack.settings)
        beats = SECONDS_A_MONTH / settings.enrol_seconds
        tables, queues = SECONDS_A_MONTH / TABLE_KEY_SECONDS, SECONDS_A_MONTH / KEY_REUSE_SECONDS
        polls = idle.times(SECONDS_A_MONTH)
        swept = {"schedule": 1, "traces": 1, "reads": sweep.reads, **self._run("sweep")}
        swept |= _logs(LOG_BYTES)
        beat = {"api": 1, "traces": 1, **self._run("control"), **_logs(LOG_BYTES)}
        called = {"sqs": polls.sqs, "writes": polls.writes, "reads": polls.reads}
        return [
            ("KMS key", {"kms-key": self.stack.keys}),
            ("sweep, each minute", {**_times(swept, MINUTES_A_MONTH), "kms": tables * SWEEP_KEYS}),
            ("dead letters, polled by Lambda", {"sqs": SECONDS_A_MONTH * SOURCE_POLLS}),
            ("alarms", {"alarm": self.stack.alarm_metrics}),
            ("dashboard; an account's first three are free", {"dashboard": self.stack.dashboards}),
            (
                "+ a provider of one model, idle",
                {**called, **_times(beat, beats), "metric": SWEEP_METRICS},
            ),
            (
                "+ a model in use",
                {
                    "metric": MODEL_METRICS,
                    "kms": tables * MODEL_TABLE_KEYS + queues * MODEL_QUEUE_KEYS,
                },
            ),
            ("+ firewall, if switched on", {"waf": 1 + WAF_RULES / 5}),
        ]

    def _run(self, function: str, seconds: float | None = None) -> dict[str, float]:
        """One run of a function."""
        lasted = RUN_SECONDS[function] if seconds is None else seconds
        return {"lambda-requests": 1, "lambda-seconds": self.stack.memory[function] * lasted}


def _logs(length: float) -> dict[str, float]:
    return {"logs": length, "logs-kept": length * LOG_MONTHS}


def _times(units: Mapping[str, float], factor: float) -> dict[str, float]:
    return {name: count * factor for name, count in units.items()}


def usd(items: Sequence[Item]) -> float:
    """What all items cost, US dollars."""
    return sum(_usd(units) for _, units in items)


def _usd(units: Mapping[str, float]) -> float:
    return sum(PRICES[name].of(count) for name, count in units.items())


def _request_tables(
    requests: Mapping[str, Sequence[Item]], found: Mapping[str, Counted]
) -> list[Table]:
    names = [name for name, _ in next(iter(requests.values()))]
    rows = [
        [name, *(f"{_usd(items[at][1]) * 1e6:.2f}" for items in requests.values())]
        for at, name in enumerate(names)
    ]
    rows.append(["**all**", *(f"**{usd(items) * 1e6:.0f}**" for items in requests.values())])
    units = [
        ["Lambda, s", *(f"{one.seconds:.2f}" for one in found.values())],
        ["answer, KB", *(f"{one.answer_bytes / 1e3:.1f}" for one in found.values())],
        *(
            [what, *(f"{getattr(one.tally, name):.1f}" for one in found.values())]
            for what, name in (
                ("SQS requests", "sqs"),
                ("DynamoDB write units", "writes"),
                ("DynamoDB read units", "reads"),
            )
        ),
        ["calls to AWS", *(f"{sum(one.tally.calls.values()):.0f}" for one in found.values())],
    ]
    return [
        Table("US dollars for a million requests of 20 s", ["", *requests], rows),
        Table("Counted for each of them", ["", *found], units),
    ]


def _month_table(month: Sequence[Item]) -> Table:
    rows = [[name, f"{_usd(units):.2f}", _told(units)] for name, units in month]
    fixed = [item for item in month if not item[0].startswith("+")]
    at = len(fixed)
    rows.insert(at, ["**idle**", f"**{usd(fixed):.2f}**", ""])
    return Table(
        f"US dollars for a month of {HOURS_A_MONTH} h",
        ["", "$", "units"],
        rows,
        "Without free tiers. Counted: calls and their units, by a proxy before the emulator; the "
        "metrics' log line. Declared: memory, alarms, dashboard and key, in the stack's template. "
        f"Assumed: {', '.join(f'{s} s for {n}' for n, s in RUN_SECONDS.items())}; "
        f"{LOG_BYTES} further bytes of logs a run, kept a month; each run traced; rows deleted two "
        "days late; five pollers of the dead letters; data keys of tables kept for 300 s for each "
        "caller.",
    )


def _told(units: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:,.6g}" for name, count in units.items())


def _price_table() -> Table:
    rows = [
        [name, f"{price.usd:g} / {price.per:,.0f}", price.unit, price.source]
        for name, price in PRICES.items()
    ]
    return Table("List prices, us-east-1", ["", "$ / units", "unit", "source"], rows)
