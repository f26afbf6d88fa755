"""The random run of batches: processes die, S3 refuses, and every line stands in one file."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos.batches.oracle import Line, Verdict
from tests.chaos.batches.points import AT_GATEWAYS, AT_PROVIDERS
from tests.chaos.batches.user import User
from tests.chaos.report import Report
from tests.chaos.run import CHANCE, Chaos, Crowd
from tests.chaos.world import SETTINGS, World, running_world

#: A shard's lease is four times as long, a batch's twice: what a killed process held is another's
#: within seconds. AWS stands still for less.
LEASE_SECONDS = 2.0
#: How long a trap waits for its point, seconds: a shard's calls are few.
TRAP_SECONDS = 8.0
#: How long a process stands still, seconds: longer than a shard's lease, or a little while.
STOP_SECONDS = (4 * LEASE_SECONDS + 1.5, 1.0)
#: Lines of a batch of a short run and of a long one, and batches at a time.
BATCH_LINES, BATCH_LINES_LONG, BATCHES_AT_ONCE = 40, 200, 25
LINES_LONG = 2000
#: Requests are asked beside the batches, so many at a time.
REQUESTS_AT_ONCE = 4
#: From this number on lines have names of their own, beside those of requests.
FIRST_LINE = 1_000_000
#: How long one batch may take, seconds.
SECONDS_MAX = 1800.0


@dataclass(slots=True)
class BatchReport:
    """Report of a run: that of its requests, deeds and faults, and the verdicts on its batches."""

    run: Report
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def wrongs(self) -> list[str]:
        """Return what must never be."""
        return [*self.run.wrongs, *(wrong for one in self.verdicts for wrong in one.wrongs)]

    @property
    def is_good(self) -> bool:
        """Return whether nothing happened that must never be."""
        return not self.wrongs

    def lines(self) -> Iterator[str]:
        """Yield the report as a table."""
        unanswered = sum((verdict.unanswered for verdict in self.verdicts), Counter[str]())
        yield f"seed                    {self.run.seed}"
        yield f"batches                 {len(self.verdicts)} in {self.run.seconds:.0f} s"
        yield f"  lines answered        {sum(verdict.answered for verdict in self.verdicts)}"
        yield f"  lines refused         {sum(verdict.refused for verdict in self.verdicts)}"
        yield f"  lines unanswered      {dict(unanswered) or 'none'}"
        yield f"requests                {dict(self.run.outcomes)}"
        yield f"deeds                   {self.run.deeds.total()}"
        for name, count in sorted(self.run.deeds.items()):
            yield f"  {name:<30}{count}"
        yield f"faults of AWS           {self.run.faults.total()}"
        yield f"tokens                  {self.run.computed} computed"
        wrongs = self.wrongs
        yield "wrong                   " + ("" if wrongs else "nothing")
        yield from (f"  {wrong}" for wrong in wrongs[:50])


def mixed(rng: random.Random, number: int) -> Line:
    """Return the line of that number in a seeded mix."""
    long = rng.random() < 0.1
    return Line(
        name=f"r{FIRST_LINE + number}",
        tokens=rng.randint(25, 60) if long else rng.randint(1, 12),
        interval=0.02 if long else 0.005,
        status=400 if rng.random() < 0.03 else None,
    )


async def run(
    seed: int, lines: int, requests: int, refusing_seconds: float, logs: Path | None = None
) -> BatchReport:
    """
    Return one run, and what came of it: so many lines in batches, with so many requests beside.

    S3 refuses every call for some seconds. ``logs`` is where the logs of all processes go.
    """
    rng, report = random.Random(seed), BatchReport(Report(seed))
    settings = replace(SETTINGS, lease_seconds=LEASE_SECONDS)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with running_world(rng, settings=settings, logs=logs) as world:
        user = User(world.http, lambda: world.urls[rng.choice(world.open_gateways).name])
        crowd = Crowd(world, random.Random(rng.random()), report.run)
        all_lines = [mixed(rng, number) for number in range(lines)]
        batches = lines // (BATCH_LINES_LONG if lines >= LINES_LONG else BATCH_LINES)
        room = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def run_batch(number: int) -> Verdict:
            async with room:
                return await user.run(all_lines[number::batches], SECONDS_MAX)

        async with _disturbed(world, rng, report.run, refusing_seconds):
            asking = asyncio.create_task(crowd.ask(requests, REQUESTS_AT_ONCE))
            report.verdicts = await asyncio.gather(*map(run_batch, range(batches)))
            await asking
        report.run.remains = await world.emptied(120)
        if not report.run.remains.nothing:
            report.run.wrongs.append(f"left over: {report.run.remains}")
        report.run.computed = world.tally()
    report.run.seconds = loop.time() - begun
    return report


@asynccontextmanager
async def _disturbed(
    world: World, rng: random.Random, report: Report, refusing_seconds: float
) -> AsyncIterator[None]:
    """Have things go wrong in the context; afterwards all is well again."""
    chaos = Chaos(
        world,
        random.Random(rng.random()),
        report,
        at_gateways=AT_GATEWAYS,
        at_providers=AT_PROVIDERS,
        trap_seconds=TRAP_SECONDS,
        stop_seconds=STOP_SECONDS,
    )
    proxies = [piece.proxy for piece in world.proxied if piece.proxy is not None]
    for proxy in proxies:
        proxy.chance = CHANCE
    work = [asyncio.create_task(chaos.run()), asyncio.create_task(_refuse(world, refusing_seconds))]
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        for task in work:
            if not task.cancelled():
                task.result()
        for proxy in proxies:
            proxy.chance, proxy.refusing = 0.0, ""
            proxy.traps.clear()
            for (_, fault), count in proxy.faults.items():
                report.faults[fault] += count
        await chaos.end()


async def _refuse(world: World, seconds: float) -> None:
    """Have S3 refuse every call for some seconds, once lines run."""
    made = world.tally()
    while world.tally() == made:  # noqa: ASYNC110  # it is elsewhere
        await asyncio.sleep(0.1)
    for refusing in ("s3", ""):
        for piece in world.proxied:
            if piece.proxy is not None:
                piece.proxy.refusing = refusing
        await asyncio.sleep(seconds)
