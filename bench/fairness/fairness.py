"""How long a light tenant waits beside one with a hundred times its load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.dispatch.tables import counted, pooled
from bench.fairness.line import OPEN_MAX, SETTLE_SECONDS, Found, simulate
from bench.fairness.tables import ALONE, IDEAL, ONE_QUEUE, OURS, tell
from bench.fairness.trace import SERVICE_SECONDS, Fate, Tenant, Trace, ideal, make
from bench.harness import machine
from bench.harness.loader import Loader
from bench.report import progress
from inferline.settings import Settings

__all__ = ["measure", "tell"]

#: How many times the light tenant's load a heavy one's is.
TIMES = 100
#: How many requests of a light tenant are counted, about.
COUNT, COUNT_QUICK = 500, 100
SEEDS, SEEDS_QUICK = (1, 2), (1,)
LIGHT, ANOTHER, HEAVY = "light", "another light one", "heavy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A fleet, by the slots of each host, and who asks it for what."""

    hosts: tuple[int, ...]
    #: Of the light tenant, as a share of what all slots can do.
    load: float
    light: tuple[Tenant, ...]
    heavy: tuple[Tenant, ...]
    swell: float = 1.0
    mean: float = SERVICE_SECONDS
    #: How many of the requests are counted that other scenes count.
    part: float = 1.0

    @property
    def lights(self) -> frozenset[str]:
        """Return the names of the light tenants."""
        return frozenset(tenant.name for tenant in self.light)

    def trace(self, seed: int, count: int) -> Trace:
        """Return a trace with about so many counted requests of the light tenant."""
        rate = self.load * sum(self.hosts) / self.mean
        seconds = SETTLE_SECONDS + self.part * count / rate
        return make(
            seed=seed,
            hosts=self.hosts,
            tenants=(*self.light, *self.heavy),
            seconds=seconds,
            swell=self.swell,
            mean=self.mean,
        )


def scene(hosts: tuple[int, ...], load: float, **differing: Any) -> Scene:
    """Return one light tenant and one heavy, but for what differs."""
    fields: dict[str, Any] = {
        "light": (Tenant(LIGHT, load),),
        "heavy": (Tenant(HEAVY, TIMES * load),),
    }
    return Scene(hosts=hosts, load=load, **fields | differing)


FLEETS = {"2 hosts of 1 slot": (1, 1), "1 host of 4": (4,), "8 hosts of 4": (4,) * 8}
LOADS = (0.1, 0.6)
SWELLS = {"": 1.0, ", bursts": 2.0}
#: What is looked at besides, before one host of four slots.
FEW = FLEETS["1 host of 4"]


def scenes(*, quick: bool) -> dict[str, Scene]:
    """Return what is simulated, by name."""
    swells = {"": 1.0} if quick else SWELLS
    scenes_by_name = {
        f"{fleet}, {load:g}{bursts}": scene(hosts, load, swell=swell)
        for fleet, hosts in FLEETS.items()
        if hosts != FEW or not quick
        for load in LOADS
        for bursts, swell in swells.items()
    }
    return scenes_by_name if quick else scenes_by_name | others()


def others() -> dict[str, Scene]:
    """Return other tenants, tiers and answers."""
    light, load = Tenant(LIGHT, 0.1), 0.1
    heavy = [Tenant(f"{HEAVY} {number}", TIMES * load) for number in range(5)]
    rare = 0.005
    return {
        "two light tenants": scene(FEW, load, light=(light, Tenant(ANOTHER, load))),
        "two heavy tenants": scene(FEW, load, heavy=heavy[:2]),
        "five heavy tenants": scene(FEW, load, heavy=heavy, part=0.5),
        "heavy in priority": scene(FEW, load, heavy=(Tenant(HEAVY, TIMES * load, "priority"),)),
        "light in flex": scene(FEW, load, light=(Tenant(LIGHT, load, "flex"),)),
        "answers of 40 s": scene(FEW, load, mean=10 * SERVICE_SECONDS, part=0.4),
        "heavy at 0.5, bursts": scene(FEW, rare, swell=3.0, part=0.3),
    }


#: The ways through the line: who of a scene asks, and what part of the slots a tenant may have
#: open before it gives way; 0 is any number.
SHARE = Settings().tenant_share
WAYS = {ALONE: (False, SHARE), ONE_QUEUE: (True, 0.0), OURS: (True, SHARE)}


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Simulate, in virtual time; ``load`` has no part in it."""
    loop, results = asyncio.get_running_loop(), dict[str, dict[str, Any]]()
    seeds, count = (SEEDS_QUICK, COUNT_QUICK) if quick else (SEEDS, COUNT)
    with machine.pool() as pool:
        jobs = {
            (name, way): [loop.run_in_executor(pool, run, one, way, seed, count) for seed in seeds]
            for name, one in scenes(quick=quick).items()
            for way in (*WAYS, IDEAL)
        }
        for (name, way), runs in jobs.items():
            results.setdefault(name, {})[way] = pooled(await asyncio.gather(*runs))
            progress(f"simulated: {name}, {way}")
    return {"times": TIMES, "share": SHARE, "open_max": OPEN_MAX, "scenes": results}


def run(one: Scene, way: str, seed: int, count: int) -> dict[str, Any]:
    """Return how a scene goes on one of the ways."""
    trace = one.trace(seed, count)
    if way == IDEAL:
        return _raw(trace, one, Found(ideal(trace, one.lights)))
    with_heavy, share = WAYS[way]
    names = {tenant.name for tenant in (*one.light, *(one.heavy if with_heavy else ()))}
    asked = trace.of(names)
    result = simulate(asked, seed=seed, tenant_share=share, waited_for=one.lights)
    return _raw(asked, one, result)


def _raw(trace: Trace, one: Scene, result: Found) -> dict[str, Any]:
    """Return what is kept of it."""
    counts = [
        number
        for number, request in enumerate(trace.requests)
        if request.at >= SETTLE_SECONDS and request.tenant.name in one.lights
    ]
    fates = [result.fates[number] for number in counts if number in result.fates]
    heavy = sum(seconds for name, seconds in result.work.items() if name not in one.lights)
    return {
        **_times(fates),
        "unanswered": len(counts) - len(fates),
        "work": {"light": round(result.work.total() - heavy, 1), "heavy": round(heavy, 1)},
        "slot_seconds": round(trace.slots * result.seconds, 1),
        "answered": len(result.fates),
        "calls": dict(result.calls),
    }


def _times(fates: Sequence[Fate]) -> dict[str, Any]:
    return {
        "waited_ms": counted(fate.waited for fate in fates),
        "took_ms": counted(fate.took for fate in fates),
    }
