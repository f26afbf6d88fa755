"""What good clients lose when the requests of others always fail, at one server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import aiohttp

from bench.harness.backend import MODEL
from bench.harness.loader import Block, Loader, chat
from bench.harness.processes import free_port, python, running
from bench.harness.stack import OURS, PEER, Contender, inferline, litellm
from bench.harness.stats import median, percentile, spread
from bench.report import Goal, Table, goals, progress

#: What the clients ask for whose requests fail, each by its own name; the last has one of each.
FAILURES: dict[str, Sequence[str]] = {
    "500": ["500"],
    "502": ["502"],
    "503": ["503"],
    "429": ["rate limited"],
    "an event that is no JSON": ["short malformed"],
    "a stream that breaks off": ["short cut"],
    "an error event in a 200": ["short error event"],
    "mixed": ["500", "rate limited", "short malformed", "short cut"],
}
ALONE, MORE_GOOD = "alone", "4 more good ones"
#: How long a client whose request has failed waits, seconds: as SDKs do, and not at all.
PAUSES = {"0.5 s": 0.5, "none": 0.0}
GOOD, BAD = 4, 4
#: More than there are clients: nobody waits for a slot that a failing request has.
SLOTS = 12
SECONDS, QUICK_SECONDS = 6.0, 4.0
ROUNDS, QUICK_ROUNDS = 3, 1
#: A router that is still ill from what was before has so long to get well.
WELL_SECONDS_MAX, WELL_ANSWER_SECONDS = 40.0, 0.5
#: A good client gives up after so long, and asks again.
PATIENCE_SECONDS = 20.0

#: What is to be reached, of the same clients alone.
RATE_SHARE_MIN, P99_TIMES_MAX = 0.9, 1.5

#: Of the scene in which a long stream begins behind a failure: slots, and short requests beside it.
STREAM_SLOTS, SHORT_REQUESTS = 4, 5

Raw = dict[str, Any]


async def measure(load: Loader, *, quick: bool) -> Raw:
    seconds, count = (QUICK_SECONDS, QUICK_ROUNDS) if quick else (SECONDS, ROUNDS)
    return {
        "blocks": await _beside(load, seconds, count),
        "stream": await _behind(1 if quick else ROUNDS),
    }


async def _beside(load: Loader, seconds: float, rounds: int) -> Raw:
    """Return the blocks of load by the failing clients' pause, by who is there and by contender."""
    runs: Raw = {pause: {} for pause in PAUSES}
    async with contenders(SLOTS) as routers:
        for number in range(rounds):
            for pause, who in [(p, w) for p in PAUSES for w in (ALONE, MORE_GOOD, *FAILURES)]:
                # Every other round in reverse: nobody always runs after the same neighbour.
                for contender in routers[:: -1 if number % 2 else 1]:
                    await _well(contender.url)
                    block, statuses = await _block(load, contender.url, who, PAUSES[pause], seconds)
                    by_name = runs[pause].setdefault(who, {})
                    kept = {
                        **asdict(block),
                        "first": [],
                        "gaps": {},
                        "bursts": {},
                        "statuses": statuses,
                    }
                    by_name.setdefault(contender.name, []).append(kept)
                    progress(
                        f"round {number + 1} of {rounds}, pause {pause}, {who}, {contender.name}: "
                        f"{block.rate:.1f} good answers/s, the others {statuses}"
                    )
    return runs


@asynccontextmanager
async def contenders(slots: int) -> AsyncIterator[list[Contender]]:
    """InferLine and LiteLLM's proxy before the same server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        command = python("bench.failures.failing_backend", str(port))
        await stack.enter_async_context(running("server", command, ready_url=f"{url}/health"))
        yield [
            await stack.enter_async_context(inferline(url, slots=slots)),
            await stack.enter_async_context(litellm(url)),
        ]


async def _block(
    load: Loader, url: str, who: str, pause: float, seconds: float
) -> tuple[Block, dict[str, int]]:
    """Return the good clients' answers, and how often the others were told what."""
    streams = GOOD + BAD if who == MORE_GOOD else GOOD
    statuses: Counter[str] = Counter()
    async with aiohttp.ClientSession() as session:
        behaviours = FAILURES.get(who, [])
        others = [
            asyncio.create_task(
                _fail(session, url, behaviours[at % len(behaviours)], pause, statuses)
            )
            for at in range(BAD if behaviours else 0)
        ]
        try:
            block = await load.run(
                url,
                _body("short"),
                streams,
                seconds=seconds,
                spread=0.2,
                patience=PATIENCE_SECONDS,
                # How many fail is told, whatever it is.
                failed_share_max=1.0,
            )
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
    return block, dict(statuses)


async def _fail(
    session: aiohttp.ClientSession, url: str, behaviour: str, pause: float, statuses: Counter[str]
) -> None:
    """Send requests that always fail, one after the other."""
    body = _body(behaviour, stream=behaviour.startswith("short"))
    while True:
        try:
            async with session.post(chat(url), json=body) as response:
                await response.read()
                statuses[str(response.status)] += 1
        except aiohttp.ClientError:
            statuses["broken"] += 1
        await asyncio.sleep(pause)


def _body(behaviour: str, *, stream: bool = False) -> dict[str, Any]:
    content = f"[{behaviour} 1] Why does a conveyor belt need nobody to hand out the work?"
    messages = [{"role": "user", "content": content}]
    return {"model": MODEL, "messages": messages, "stream": stream}


async def _well(url: str) -> None:
    """Return once as many are answered at once, without delay, as there are good clients."""
    patience = time.monotonic() + WELL_SECONDS_MAX
    while time.monotonic() < patience:
        took = await asyncio.gather(*(_short(url) for _ in range(GOOD)))
        if max(took) < WELL_ANSWER_SECONDS:
            return


async def _short(url: str) -> float:
    """Return the seconds that a short request takes; as many as it may where it gets no answer."""
    begun = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    with suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(chat(url), json=_body("short")) as response,
        ):
            await response.read()
            if response.status == 200:
                return time.monotonic() - begun
    return PATIENCE_SECONDS


async def _behind(rounds: int) -> Raw:
    """
    Return the seconds of short requests beside a long stream, without and with a failure before it.

    By contender and what was before, a list for each stream.
    """
    runs: Raw = {}
    async with contenders(STREAM_SLOTS) as routers:
        for _ in range(rounds):
            for contender in routers:
                for before in ("nothing", "500"):
                    await _well(contender.url)
                    took = await _beside_stream(contender.url, is_behind=before == "500")
                    runs.setdefault(contender.name, {}).setdefault(before, []).append(took)
                    progress(f"a stream behind {before}, {contender.name}: {took}")
    return runs


async def _beside_stream(url: str, *, is_behind: bool) -> list[float]:
    """
    Return a failure or none, then a stream of 900 tokens, and short requests once it has begun.
    """
    async with aiohttp.ClientSession() as session:
        if is_behind:
            async with session.post(chat(url), json=_body("500")) as failed:
                await failed.read()
        async with session.post(chat(url), json=_body("long", stream=True)) as response:
            await response.content.readline()
            took = [round(await _short(url), 4) for _ in range(SHORT_REQUESTS)]
            response.close()
    return took


def tell(raw: Raw) -> list[Table]:
    return [
        goals("Isolation", [*_goals(raw["blocks"]), _stream_goal(raw["stream"])]),
        *(_table(raw["blocks"][pause], pause) for pause in raw["blocks"]),
        _stream_table(raw["stream"]),
    ]


class Runs:
    """The good clients' answers of one contender in one kind of company."""

    def __init__(self, blocks: Sequence[Raw]) -> None:
        self.rates = [block["answers"] / block["seconds"] for block in blocks]
        self.failed = sum(block["failed"] for block in blocks)
        #: Milliseconds of each; who got no answer has waited for it.
        self.total = [ms for block in blocks for ms in block["total"]]
        self.total += [PATIENCE_SECONDS * 1000] * self.failed
        self.statuses: Counter[str] = Counter()
        for block in blocks:
            self.statuses.update(block["statuses"])

    @property
    def rate(self) -> float:
        return median(self.rates)

    def ms(self, share: float) -> float:
        """Return a percentile of the answers' milliseconds."""
        return percentile(self.total, share) if self.total else float("inf")


def _goals(blocks: Raw) -> list[Goal]:
    """Return the worst of all kinds of failures stands for all."""
    reached = []
    for pause, by_who in blocks.items():
        alone = Runs(by_who[ALONE][OURS])
        runs = {who: Runs(by_who[who][OURS]) for who in FAILURES}
        who, share = min(
            ((who, one.rate / alone.rate) for who, one in runs.items()), key=lambda pair: pair[1]
        )
        what = f"good answers/s beside failing clients, pause {pause}, least"
        shown = f"{share:.2f} ({who})"
        reached.append(Goal(what, f">= {RATE_SHARE_MIN:g} x alone", shown, share >= RATE_SHARE_MIN))
        who, times = max(
            ((who, one.ms(0.99) / alone.ms(0.99)) for who, one in runs.items()),
            key=lambda pair: pair[1],
        )
        what = f"their p99, pause {pause}, most"
        shown = f"{times:.2f} ({who})"
        reached.append(Goal(what, f"<= {P99_TIMES_MAX:g} x alone", shown, times <= P99_TIMES_MAX))
    return reached


def _table(by_who: Raw, pause: str) -> Table:
    rows = []
    for who, by_name in by_who.items():
        for name in (OURS, PEER):
            runs, alone = Runs(by_name[name]), Runs(by_who[ALONE][name])
            # Eight good clients are compared by what four of them have.
            part = GOOD / (GOOD + BAD) if who == MORE_GOOD else 1.0
            rows.append(
                [
                    who if who in (ALONE, MORE_GOOD) else f"4 whose answer is {who}",
                    name,
                    spread([rate * part for rate in runs.rates], 1),
                    f"{runs.rate * part / alone.rate:.2f}",
                    f"{runs.ms(0.5):.0f}",
                    f"{runs.ms(0.99):.0f}",
                    f"{runs.ms(0.99) / alone.ms(0.99):.2f}",
                    str(runs.failed),
                    ", ".join(f"{count} x {status}" for status, count in runs.statuses.items()),
                ]
            )
    return Table(
        f"Isolation: 4 good clients beside others, who pause {pause} behind each failure",
        [
            "beside them",
            "asked",
            "good answers/s (rounds)",
            "of alone",
            "p50 ms",
            "p99 ms",
            "p99 of alone",
            "failed",
            "the others were told",
        ],
        rows,
        "Both routers stand before the same server, with a slot for everybody, in turn. A good "
        "answer takes the server 0.1 s. The same 4 good clients are compared: alone, beside 4 more "
        "good ones (of all 8, the share of 4), and beside 4 whose requests always fail. LiteLLM "
        "runs as `bench/peers/litellm.yaml` has it: no retries, no cooldowns.",
    )


def _stream_goal(raw: Raw) -> Goal:
    # The first of them waits for what the others then find done.
    without, behind = (
        median([took[0] for took in raw[OURS][before]]) for before in ("nothing", "500")
    )
    times = behind / without
    shown = f"{times:.2f} ({behind * 1000:.0f} ms)"
    what = "the first short request beside a stream of 900 tokens, behind a 500"
    return Goal(what, f"<= {P99_TIMES_MAX:g} x without", shown, times <= P99_TIMES_MAX)


def _stream_table(raw: Raw) -> Table:
    rows = [
        [name, before, *(spread([seconds * 1000 for seconds in took]) for took in (firsts, others))]
        for name, by_before in raw.items()
        for before, runs in by_before.items()
        for firsts, others in [([run[0] for run in runs], [s for run in runs for s in run[1:]])]
    ]
    return Table(
        "Isolation: a short request while somebody streams 900 tokens",
        ["asked", "before the stream", "the first, ms (least to greatest)", "those behind it"],
        rows,
        f"The server has {STREAM_SLOTS} slots, of which the stream holds one. Where one client's "
        "request has failed before, the others should wait no longer than without.",
    )
