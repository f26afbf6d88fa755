"""Under more than can be answered: the share in time, beside what anybody could reach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import mean
from typing import Any

from bench.harness.loader import Loader
from bench.harness.stats import spread
from bench.overload.line import World, simulate
from bench.overload.trace import Trace, bound, foreseeing, make, unforeseeing
from bench.report import Table, progress

SLOTS = 32
SEEDS = (1, 2, 3)

Maker = Callable[..., Trace]

#: What is asked of the line, and how many gateways it has.
SCENES: dict[str, tuple[Maker, int]] = {
    "lengths as of an LLM": (make, 1),
    "the same, all of one length": (partial(make, sigma=0.0), 1),
    "the same, in bursts of 5 s": (partial(make, burst_seconds=5.0), 1),
    "the same, in bursts of 20 s": (partial(make, burst_seconds=20.0), 1),
    "the same, two gateways": (make, 2),
    "the same, two models": (partial(make, models=2), 1),
    "at 0.7 times the capacity": (partial(make, load=0.7), 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Shares of all requests of a trace."""

    ours: float
    #: Answers that clients no longer wait for, and those that nobody began.
    late: float
    refused: float
    #: What somebody reaches who knows everything at once but lengths, what nobody exceeds who does
    #: not know these, and what somebody reaches who does.
    unforeseeing: float
    bound: float
    foreseeing: float
    #: What takes longer than its client waits, and how much of all work that is.
    hopeless: float
    hopeless_work: float
    #: Of the refusals: who was let in at the time that was told.
    kept_word: float
    #: Attempts that began after their client had left.
    begun_late: int


def result(scene: str, seed: int) -> Result:
    """Run a scene."""
    maker, gateways = SCENES[scene]
    trace = maker(seed=seed, slots=SLOTS)
    world = simulate(trace, gateways=gateways, seed=seed)
    return _result(trace, world)


def _result(trace: Trace, world: World) -> Result:
    fates, requests = world.fates, trace.requests
    hopeless = [request.service for request in requests if request.service > request.patience]
    refused = [fate for fate in fates if fate.retry_after is not None]
    ours = sum(fate.answered for fate in fates)
    return Result(
        ours=ours / len(fates),
        late=(len(fates) - ours - len(refused)) / len(fates),
        refused=len(refused) / len(fates),
        unforeseeing=len(unforeseeing(trace)) / len(fates),
        bound=bound(trace),
        foreseeing=len(foreseeing(trace)) / len(fates),
        hopeless=len(hopeless) / len(fates),
        hopeless_work=sum(hopeless) / sum(request.service for request in requests),
        kept_word=sum(fate.kept_word for fate in refused) / max(1, len(refused)),
        begun_late=sum(server.begun_late for server in world.servers),
    )


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    by_scene = {}
    for scene in SCENES:
        progress(scene)
        seeds = SEEDS[:1] if quick else SEEDS
        by_scene[scene] = [await asyncio.to_thread(result, scene, seed) for seed in seeds]
    return {scene: [asdict(one) for one in results] for scene, results in by_scene.items()}


def tell(raw: dict[str, Any]) -> list[Table]:
    columns = {
        "in time": "ours",
        "omniscient but for lengths": "unforeseeing",
        "bound of these": "bound",
        "foreseeing lengths": "foreseeing",
        "refused": "refused",
        "too late": "late",
        "hopeless": "hopeless",
        "its work": "hopeless_work",
        "date kept": "kept_word",
    }
    rows = []
    for scene, results in raw.items():
        shares = [[100 * one[name] for one in results] for name in columns.values()]
        cells = [spread(shares[0], 1), *(f"{mean(values):.1f}" for values in shares[1:])]
        rows.append([scene, *cells, str(len(results))])
    return [
        Table(
            "Overload: ten minutes at 1.2 times the capacity; percent of all requests",
            ["", *columns, "traces"],
            rows,
            "Simulated: InferLine's own gateway and providers run in virtual time, with stores in "
            "memory that are as far away as AWS and tell a queue's depth two seconds late. "
            f"{SLOTS} slots at 4 providers; Poisson arrivals; answers of 4 s on average, lognormal "
            "(0.8); clients wait 5 to 30 s, evenly spread. Omniscient dispatchers see every "
            "arrival, deadline and slot at once, start the most urgent first and drop what has too "
            "little time left; nobody who does not know how long answers will be exceeds the bound "
            "on average, whatever the order, even by breaking answers off. Foreseeing: knows "
            "lengths as well, and leaves out the 5 % of requests that are a sixth of all work. "
            "Hopeless: takes longer than its client waits, which nobody can tell beforehand. Date "
            "kept: who was let in after Retry-After, of the refused; the overload went on. Bursts "
            "of 20 s are longer than most clients wait: there the order of arrival, which is "
            "SQS's, costs what is missing.",
        )
    ]
