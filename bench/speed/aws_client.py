"""What a call to AWS costs its caller: with InferLine's client, aiobotocore and boto3."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from bench.harness.loader import Loader
from bench.harness.machine import LITELLM_PYTHON
from bench.harness.processes import ROOT, BenchError
from bench.harness.stack import emulator
from bench.harness.stats import median, spread
from bench.report import Table, progress

#: Each client, and whose environment it is in: aiobotocore needs another botocore than ours.
CLIENTS = {
    "InferLine": Path(sys.executable),
    "boto3": Path(sys.executable),
    "aiobotocore": LITELLM_PYTHON,
}
CALLS, QUICK_CALLS = 1500, 300
ROUNDS, QUICK_ROUNDS = 3, 1


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """
    Return what each call cost by client, operation and parallel calls; a value for each round.
    """
    rounds_by_client: dict[str, list[list[dict[str, Any]]]] = {}
    async with emulator() as (url, _):
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            for name, interpreter in list(CLIENTS.items())[:: -1 if number % 2 else 1]:
                progress(f"round {number + 1}, {name}")
                costs = await _child(interpreter, name, url, QUICK_CALLS if quick else CALLS)
                rounds_by_client.setdefault(name, []).append(costs)
    return {name: rounds_by_client[name] for name in CLIENTS}


async def _child(interpreter: Path, name: str, url: str, calls: int) -> list[dict[str, Any]]:
    """Measure a client in a process of its own: its CPU is then the client's alone."""
    command = [str(interpreter), "-m", "bench.speed.aws_calls", name]
    process = await asyncio.create_subprocess_exec(
        *command, "--endpoint", url, "--calls", str(calls), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"{' '.join(command)} ended with {process.returncode}")
    costs: list[dict[str, Any]] = json.loads(output)
    return costs


def tell(raw: dict[str, Any]) -> list[Table]:
    rows = []
    first = next(iter(raw))
    for at, one in enumerate(raw[first][0]):
        own = median([costs[at]["cpu_ms"] for costs in raw[first]])
        for name, rounds in raw.items():
            cpu = [costs[at]["cpu_ms"] for costs in rounds]
            rates = [costs[at]["calls_per_second"] for costs in rounds]
            cells = [spread(cpu, 2), f"{median(cpu) / own:.1f}", spread(rates)]
            rows.append([one["operation"], str(one["at_once"]), name, *cells])
    return [
        Table(
            "The client of AWS: what a call costs its caller",
            [
                "call",
                "at once",
                "client",
                "CPU ms (rounds)",
                "times InferLine's",
                "calls/s (rounds)",
            ],
            rows,
            "CPU is that of the client's process alone; calls a second also depend on the "
            "emulator, which shares the machine. boto3 blocks, and runs in as many threads as "
            "there are calls at once.",
        )
    ]
