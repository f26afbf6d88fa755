"""The random run: a seeded mix of requests while processes die and AWS fails, and the verdict."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.client import Client, Trip, mixed
from tests.chaos.faults import Point, Trap
from tests.chaos.pieces import Piece, faketime
from tests.chaos.points import AT_GATEWAYS, AT_PROVIDERS, DEEDS, Deed
from tests.chaos.report import Report
from tests.chaos.world import DRAIN_SECONDS, SETTINGS, World, running_world

#: How likely a call to AWS gets a fault.
CHANCE = 0.01
#: How long a trap waits for its point, seconds.
TRAP_SECONDS = 3.0
#: Between two deeds, on average, seconds.
DEED_SECONDS = 0.4
#: How long a process stands still, seconds: longer than a lease, or a little while.
STOP_SECONDS = (SETTINGS.lease_seconds + 1.5, 1.0)
#: Requests before the first deed, after which the processes are weighed.
WARM_UP = 60
#: By how much a process may have grown over the run: MB, and descriptors, of which the idle
#: connections to AWS are most.
GROWTH_MAX = (48.0, 128)
#: The least share of the requests, whose clients stayed, that has to be answered.
ANSWERED_MIN = 0.5
#: The clocks of the processes, in turn; the first is of gateway 0 and provider 2.
SKEWS = (0, 420, -420)


class Chaos:
    """Does deeds to the processes of a world, one at a time of each kind, until told to end."""

    def __init__(
        self,
        world: World,
        rng: random.Random,
        report: Report,
        *,
        at_gateways: Sequence[Point] = AT_GATEWAYS,
        at_providers: Sequence[Point] = AT_PROVIDERS,
        trap_seconds: float = TRAP_SECONDS,
        stop_seconds: Sequence[float] = STOP_SECONDS,
    ) -> None:
        self._world = world
        self._rng = rng
        self._report = report
        self._points = {"g": at_gateways, "p": at_providers}
        self._trap_seconds = trap_seconds
        self._stop_seconds = stop_seconds
        self._busy: set[Piece] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        #: Every deed at every point comes up once before any does again.
        self._todo: deque[tuple[str, Point, Deed]] = deque()

    async def run(self) -> None:
        """Do deeds for ever."""
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / DEED_SECONDS))
            self._reap()
            draw = self._rng.random()
            if draw < 0.08:
                self._begin(self._world.emulator, self._pause(self._world.emulator, 1.5))
            elif draw < 0.16:
                backend = self._rng.choice(self._world.backends)
                self._begin(backend, self._break(backend))
            else:
                self._next()

    async def end(self) -> None:
        """Return once everything that was done is over and every process is up."""
        await asyncio.gather(*self._jobs)
        self._jobs.clear()

    def _reap(self) -> None:
        for job in [job for job in self._jobs if job.done()]:
            self._jobs.discard(job)
            job.result()

    def _next(self) -> None:
        if not self._todo:
            every = [
                (kind, p, d) for kind in self._points for p in self._points[kind] for d in DEEDS
            ]
            self._rng.shuffle(every)
            self._todo.extend(every)
        kind, point, deed = self._todo.popleft()
        # Number 0 stays, to be weighed at the end, and so that somebody is there.
        pieces = self._world.gateways[1:] if kind == "g" else self._world.providers[1:]
        free = [piece for piece in pieces if piece not in self._busy]
        if free:
            piece = self._rng.choice(free)
            self._begin(piece, self._trapped(piece, point, deed))
        else:
            self._todo.append((kind, point, deed))

    def _begin(self, piece: Piece, job: Coroutine[None, None, None]) -> None:
        if piece in self._busy:
            job.close()
            return
        self._busy.add(piece)
        task = asyncio.create_task(job)
        task.add_done_callback(lambda _: self._busy.discard(piece))
        self._jobs.add(task)

    async def _trapped(self, piece: Piece, point: Point, deed: Deed) -> None:
        """Wait until a process comes to a point, do the deed to it, and have it back."""
        assert piece.proxy is not None
        trap = Trap(point, {"kill": piece.kill, "stop": piece.stop, "term": piece.term}[deed])
        piece.proxy.traps.append(trap)
        with suppress(TimeoutError):
            await asyncio.wait_for(trap.sprung.wait(), self._trap_seconds)
        if not trap.sprung.is_set():
            piece.proxy.traps = [other for other in piece.proxy.traps if other is not trap]
            return
        self._report.deeds[f"{deed} at {point.name}"] += 1
        await self._mend(piece, deed)

    async def _mend(self, piece: Piece, deed: Deed) -> None:
        if deed == "stop":
            seconds = self._rng.choice(self._stop_seconds)
            await asyncio.sleep(seconds)
            piece.go_on()
            return
        if deed == "term":
            code = await piece.gone()
            if code != 0:
                self._report.wrongs.append(
                    f"{piece.name} ended with {code} after SIGTERM, {piece.ended_at[-1]:.1f}"
                )
        await asyncio.sleep(self._rng.uniform(0.1, 1.0))
        await self._world.restart(piece)

    async def _pause(self, piece: Piece, seconds: float) -> None:
        self._report.deeds[f"stop of {piece.name}"] += 1
        piece.stop()
        await asyncio.sleep(seconds)
        piece.go_on()

    async def _break(self, backend: Piece) -> None:
        if self._rng.random() < 0.5:
            await self._pause(backend, 2.0)
            return
        self._report.deeds[f"kill of {backend.name}"] += 1
        backend.kill()
        await asyncio.sleep(self._rng.uniform(0.1, 1.0))
        await self._world.restart(backend)


class Crowd:
    """The clients."""

    def __init__(self, world: World, rng: random.Random, report: Report) -> None:
        self._world = world
        self._rng = rng
        self._report = report
        self._client = Client(
            world.http, self._pick, SETTINGS.request_seconds_max, self._stood_still
        )
        self._asked = 0

    async def ask(self, requests: int, at_once: int) -> None:
        """Ask so many, some at a time."""
        left = iter(range(requests))
        await asyncio.gather(*(self._asking(left) for _ in range(at_once)))

    async def _asking(self, left: Iterator[int]) -> None:
        for _ in left:
            self._asked += 1
            ask = mixed(self._rng, self._asked, inline_chars_max=SETTINGS.inline_bytes_max)
            trip = await self._client.ask(ask)
            self._judge(trip)
            self._report.note(ask, trip)

    def _judge(self, trip: Trip) -> None:
        """Check that only a gateway that was itself hit has broken a connection."""
        for cut in trip.cuts:
            gateway = self._gateway(cut.url)
            if all(at < cut.begun - 1 for at in gateway.ended_at):
                trip.outcome.wrongs.append(f"broken off by {gateway.name}, which lives")
        if trip.outcome.end == "late":
            trip.outcome.wrongs.append("late: no end in time")

    def _pick(self) -> str:
        gateways = self._world.open_gateways
        return self._world.urls[self._rng.choice(gateways).name]

    def _gateway(self, url: str) -> Piece:
        return next(g for g in self._world.gateways if self._world.urls[g.name] == url)

    def _stood_still(self, since: float) -> float:
        pieces = [self._world.emulator, *self._world.gateways]
        return sum(piece.stood_still(since) for piece in pieces)


async def run(seed: int, requests: int, at_once: int = 16, logs: Path | None = None) -> Report:
    """Return one run, and what came of it. ``logs`` is where the logs of all processes go."""
    rng, report = random.Random(seed), Report(seed)
    skews = SKEWS if faketime() else (0,)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with running_world(rng, skews=skews, logs=logs) as world:
        crowd = Crowd(world, random.Random(rng.random()), report)
        await crowd.ask(min(WARM_UP, requests // 4), at_once)
        await world.emptied(60)
        steady = [world.gateways[0], world.providers[0]]
        before = {piece.name: piece.footprint for piece in steady}
        await _disturbed(world, crowd, rng, report, requests - min(WARM_UP, requests // 4), at_once)
        patience = SETTINGS.request_seconds_max + 2 * SETTINGS.lease_seconds + DRAIN_SECONDS
        report.remains = await world.emptied(patience + 60)
        for piece in steady:
            (memory, descriptors), (was, were) = piece.footprint, before[piece.name]
            report.growth[piece.name] = memory - was, descriptors - were
        report.computed, report.swept = world.tally(), world.swept
    report.seconds = loop.time() - begun
    _weigh(report)
    return report


async def _disturbed(
    world: World, crowd: Crowd, rng: random.Random, report: Report, requests: int, at_once: int
) -> None:
    """Run the part in which things go wrong; afterwards all is well again."""
    chaos = Chaos(world, random.Random(rng.random()), report)
    for piece in world.proxied:
        assert piece.proxy is not None
        piece.proxy.chance = CHANCE
    doing = asyncio.create_task(chaos.run())
    asking = asyncio.create_task(crowd.ask(requests, at_once))
    await asyncio.wait({doing, asking}, return_when=asyncio.FIRST_COMPLETED)
    if doing.done():
        asking.cancel()
        doing.result()
    doing.cancel()
    for piece in world.proxied:
        assert piece.proxy is not None
        piece.proxy.chance = 0.0
        piece.proxy.traps.clear()
        for (_, fault), count in piece.proxy.faults.items():
            report.faults[fault] += count
    await chaos.end()
    await asking


def _weigh(report: Report) -> None:
    """Add what the run as a whole has got wrong."""
    remains = report.remains
    if remains is not None and not remains.nothing:
        report.wrongs.append(f"left over: {remains}")
    for name, (memory, descriptors) in report.growth.items():
        if memory > GROWTH_MAX[0] or descriptors > GROWTH_MAX[1]:
            report.wrongs.append(f"{name} grew by {memory:.0f} MB, {descriptors} descriptors")
    stayed = report.outcomes.total() - report.outcomes["left"]
    if report.outcomes["ok"] < ANSWERED_MIN * stayed:
        report.wrongs.append("too few requests were answered for this to mean anything")
