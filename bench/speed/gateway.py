"""What a request costs the router: answers a second, and CPU time of its process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from bench.harness import machine, rounds
from bench.harness.loader import Loader
from bench.harness.rounds import Found, Runs
from bench.harness.stack import DIRECT, OURS, PEER, Contender, backend, inferline, litellm
from bench.harness.stats import median, percentile, spread
from bench.report import Chart, Goal, Table, goals

STREAMS = (1, 8, 32, 128)
#: More than requests at a time: nothing waits for a slot.
SLOTS = 160
TOKENS = 16
SECONDS, QUICK_SECONDS = 6.0, 3.0
ROUNDS, QUICK_ROUNDS = 5, 2
#: Of each round: enough for a 99th percentile of all, and not the thousands that direct makes.
SAMPLES_MAX = 200

#: What is to be reached: requests a second for each core of the gateway, alone and beside LiteLLM.
RATE_MIN = 400.0
RATIO_MIN = 10.0


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        direct = await enter(backend(first=0, per_second=0, tokens=TOKENS))
        ours = await enter(inferline(direct.url, slots=SLOTS))
        peer = await enter(litellm(direct.url))
        granian = await enter(litellm(direct.url, server="granian"))
        contenders: list[Contender] = [direct, ours, peer, granian]
        seconds = QUICK_SECONDS if quick else SECONDS
        runs = await rounds.interleave(
            *(
                load,
                contenders,
                {streams: {"seconds": seconds, "samples_max": SAMPLES_MAX} for streams in STREAMS},
            ),
            rounds=QUICK_ROUNDS if quick else ROUNDS,
            stream=False,
            others=[direct.router],
        )
    return {"cores": machine.cores(), "rounds": rounds.raw(runs)}


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    runs = rounds.read(raw["rounds"])
    return [
        goals("Gateway", _goals(runs)),
        _costs(runs),
        _loads(runs, raw["cores"]),
        Chart(
            "Requests a second for each core of the router, not streamed",
            "at once",
            "requests/s",
            _lines(runs),
            x_log=True,
            y_log=True,
        ),
    ]


def rates(runs: Runs) -> list[float]:
    """
    Return the requests a second that one core of the router's process has time for, in each round.
    """
    return [1000 / each for each in runs.cpu_each(next(iter(runs.cpu_ms)))]


def _best_peer(by_name: dict[str, Runs]) -> float:
    """Return the peer's highest rate: whichever of its set-ups is the fastest."""
    return max(median(rates(runs)) for name, runs in by_name.items() if name.startswith(PEER))


def _costs(all_runs: Found) -> Table:
    rows = []
    for streams, name, runs, _ in rounds.each(all_runs):
        own, *others = runs.cpu_ms
        ratio = median(rates(runs)) / _best_peer(all_runs[streams])
        rest = [other for other in others if other in ("provider", "emulator")]
        p50, p99 = (f"{percentile(runs.total, share):.1f}" for share in (0.5, 0.99))
        rows.append(
            [
                str(streams),
                name,
                spread(rates(runs)),
                "" if name == DIRECT else f"{ratio:.1f}",
                spread(runs.cpu_each(own), 2),
                spread(runs.rates),
                p50,
                p99,
                ", ".join(f"{other} {median(runs.cpu_each(other)):.2f}" for other in rest),
            ]
        )
    return Table(
        "Router: chat completions, not streamed, of a backend that answers at once",
        [
            "at once",
            "asked",
            "requests/s a core (rounds)",
            "times LiteLLM's",
            "CPU ms an answer (rounds)",
            "answers/s (rounds)",
            "p50 ms",
            "p99 ms",
            "other processes, CPU ms an answer",
        ],
        rows,
        "The rate a core is 1000 ms by the CPU time, user and system, of the process that clients "
        "talk to: the backend itself, InferLine's gateway, LiteLLM's proxy. LiteLLM's is that of "
        "the faster of its two servers. Answers a second are what came of it here, where "
        "everything shares the machine.",
    )


def _loads(all_runs: Found, cores: int) -> Table:
    rows = [
        [str(streams), name, *rounds.load_cells(runs, cores)]
        for streams, name, runs, _ in rounds.each(all_runs)
    ]
    head = ["at once", "asked", *rounds.LOAD_HEAD]
    return Table("Router: who used the machine", head, rows, rounds.load_note(cores))


def _lines(all_runs: Found) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for streams, name, runs, _ in rounds.each(all_runs):
        if name != DIRECT:
            lines.setdefault(name, []).append((streams, median(rates(runs))))
    return lines


def _goals(all_runs: Found) -> list[Goal]:
    reached = []
    for streams, by_name in all_runs.items():
        rate = median(rates(by_name[OURS]))
        ratio = rate / _best_peer(by_name)
        at = f"{streams} at once"
        label = f"requests/s a core, {at}"
        reached.append(Goal(label, f">= {RATE_MIN:g}", f"{rate:.0f}", rate >= RATE_MIN))
        label = f"times LiteLLM's rate a core, {at}"
        reached.append(Goal(label, f">= {RATIO_MIN:g}", f"{ratio:.1f}", ratio >= RATIO_MIN))
    return reached
