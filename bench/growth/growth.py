"""What a fleet's growth costs: calls and units of the registry and the queues, and their price."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Final

from bench.costs.template import declared
from bench.growth.cpu import cpu
from bench.growth.line import simulate
from bench.growth.scene import Scene
from bench.growth.tables import tell
from bench.harness import machine
from bench.harness.loader import Loader
from bench.report import progress
from inferline.settings import Settings

__all__ = ["measure", "tell"]

FLEETS: Final = (100, 1000, 5000)
MODELS: Final = 500
RATES: Final = (1.0, 100.0)
#: To see what grows with the models, at a fleet of the middle size.
FEW_MODELS: Final = 50


def scenes(*, quick: bool = False) -> dict[str, Scene]:
    """Return what is simulated, by name."""
    fleets, rates = (FLEETS[:2], RATES[:1]) if quick else (FLEETS, RATES)
    chosen = {}
    for functions in (True, False):
        edge = "functions" if functions else "a gateway"
        for providers in fleets:
            for rate in rates:
                chosen[f"{edge}, {providers} providers, {rate:g}/s"] = Scene(
                    providers=providers, models=MODELS, per_second=rate, functions=functions
                )
        chosen[f"{edge}, {FEW_MODELS} models"] = Scene(
            providers=FLEETS[1], models=FEW_MODELS, per_second=RATES[0], functions=functions
        )
    for providers in fleets:
        chosen[f"restart of {providers} providers"] = Scene(
            providers=providers,
            models=MODELS,
            per_second=RATES[0],
            functions=True,
            restarts=True,
        )
    return chosen


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """
    Simulate, in virtual time, which does not care how many scenes share the machine: each core has
    one. CPU time is measured behind them, alone. The load generator has nothing to do.
    """
    settings = Settings.from_env(declared().settings)
    chosen, loop, results = scenes(quick=quick), asyncio.get_running_loop(), dict[str, Any]()
    with machine.pool() as pool:
        # The longest first, so that none is left when all others have ended.
        jobs = {
            name: loop.run_in_executor(
                pool, _count, scene, settings if scene.functions else Settings()
            )
            for name, scene in sorted(chosen.items(), key=lambda one: -one[1].providers)
        }
        for name, job in jobs.items():
            results[name] = await job
            progress(f"simulated: {name}")
        times = {
            str(fleet): await loop.run_in_executor(pool, cpu, _scene(fleet), settings)
            for fleet in (FLEETS[:2] if quick else FLEETS)
        }
    return {
        "scenes": {name: asdict(scene) for name, scene in chosen.items()},
        "counted": {name: results[name] for name in chosen},
        "cpu_ms": times,
    }


def _count(scene: Scene, settings: Settings) -> dict[str, Any]:
    return simulate(scene, settings).raw()


def _scene(providers: int) -> Scene:
    return Scene(providers=providers, models=MODELS, per_second=RATES[0], functions=True)
