"""What the raw data of batches through real processes tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.costs.calls import usd
from bench.harness.counting import Tally
from bench.report import Goal, Table, goals

Raw = dict[str, Any]

#: The goals: wall time over that of the same lines sent directly; calls to AWS for each line, and
#: US dollars for a million; validation, seconds, and what the gateway may grow by, MiB; and lines a
#: second over those of LiteLLM's runner.
WALL_TIMES, CALLS, USD = 1.02, 0.05, 0.50
VALIDATION_SECONDS, MEMORY_MIB = 15.0, 32.0
PEER_TIMES = 5.0


def real(raw: Raw) -> list[Table]:
    """Return the tables of what real processes did."""
    wall, long, peer = (raw[name] for name in ("wall", "long", "peer"))
    return [
        goals("Batches", [*_wall_goals(wall), *_long_goals(long), *_peer_goals(peer)]),
        _wall(wall),
        _long(long),
        _peer(peer),
    ]


def _wall_goals(wall: Raw) -> Iterator[Goal]:
    times = 1000 * _seconds(wall) / wall["direct_ms"]
    name, wanted = f"wall time of {wall['lines']} lines", f"<= {WALL_TIMES} x directly"
    yield Goal(name, wanted, f"{times:.3f} x", times <= WALL_TIMES)
    tally = _per_line(wall)
    calls, cost = sum(tally.calls.values()), usd(tally)
    yield Goal("calls to AWS for each line", f"<= {CALLS}", f"{calls:.3f}", calls <= CALLS)
    yield Goal("a million lines, list price", f"<= $ {USD:.2f}", f"$ {cost:.2f}", cost <= USD)


def _long_goals(long: Raw) -> Iterator[Goal]:
    seconds, grown = long["validation_seconds"], _grown(long)
    name = f"{long['lines']} lines: validation"
    wanted = f"<= {VALIDATION_SECONDS:g} s"
    yield Goal(name, wanted, f"{seconds:.1f} s", seconds <= VALIDATION_SECONDS)
    name, wanted = f"{long['lines']} lines: gateway's memory", f"<= {MEMORY_MIB:g} MiB more"
    yield Goal(name, wanted, f"{grown:.1f} MiB more", grown <= MEMORY_MIB)


def _peer_goals(peer: Raw) -> Iterator[Goal]:
    times = peer["litellm_seconds"]["default"] / peer["seconds"]
    name = f"lines a second at {peer['slots']} slots"
    yield Goal(name, f">= {PEER_TIMES:g} x LiteLLM's", f"{times:.1f} x", times >= PEER_TIMES)
    lost = peer["lines"] - peer["killed"]["kept"]
    yield Goal("lines lost with a killed provider", "0", f"{lost}", lost == 0)


def _wall(wall: Raw) -> Table:
    life, tally = wall["life"], _per_line(wall)
    seconds = wall["direct_ms"] / 1000
    rows = [
        ["directly", f"{seconds:.1f}", "1.000"],
        ["InferLine, from its creation to completed", *_beside(_seconds(wall), seconds)],
        ["InferLine, at the backend", *_beside(wall["backend_ms"] / 1000, seconds)],
        ["of these: validation", f"{life['validated'] - life['created']:.2f}", ""],
    ]
    counts = [(name, count) for name, count in sorted(tally.calls.items()) if count >= 0.0001]
    names = ", ".join(f"{name} {count:.4f}" for name, count in counts)
    return Table(
        f"Batches: {wall['lines']} lines, {wall['slots']} slots; seconds",
        ["", "wall time", "/ directly"],
        rows,
        "Real processes: gateway, provider, emulator of AWS, scripted backend. Answers have 100 to "
        "300 tokens, 50 a second. Directly: the same lines sent to the backend, as many at a time "
        "as it has slots, each as soon as another has ended. At the backend: from the begin of the "
        f"first answer to the end of the last. Output: {life['answered']} lines; the backend had "
        f"{wall['asked']} requests. Calls to AWS for each line, less those when idle, counted "
        f"by a proxy over all processes: {names}. A million lines cost $ {usd(tally):.2f} (SQS "
        f"{tally.sqs:.4f}, writes {tally.writes:.4f}, reads {tally.reads:.4f}, S3 puts "
        f"{tally.puts:.4f}, gets {tally.gets:.4f} for each line).",
    )


def _beside(seconds: float, directly: float) -> tuple[str, str]:
    return f"{seconds:.1f}", f"{seconds / directly:.3f}"


def _long(long: Raw) -> Table:
    before, most = (kib / 1024 for kib in long["memory_kib"])
    return Table(
        f"Batches: a file of {long['lines']} lines, {long['bytes'] / 1e6:.0f} MB",
        ["upload, s", "validation, s", "gateway's memory before, MiB", "at most", "lines"],
        [
            [
                f"{long['upload_seconds']:.1f}",
                f"{long['validation_seconds']:.1f}",
                f"{before:.1f}",
                f"{most:.1f}",
                f"{long['total']}",
            ]
        ],
        "From the request that creates the batch until it is in progress: all shards are stored, "
        "in the tasks' table and in their queue. The emulator of AWS shares the two cores.",
    )


def _peer(peer: Raw) -> Table:
    lines = peer["lines"]
    rows = [["directly", *_rate(peer["direct_seconds"], lines), "", ""]]
    for name, seconds in peer["litellm_seconds"].items():
        killed = peer["litellm_killed"] if name != "default" else None
        losses = ["", ""]
        if killed is not None:
            losses = [f"{killed['answered']}", f"{killed['kept']}"]
        rows.append([f"LiteLLM, {name}", *_rate(seconds, lines), *losses])
    killed = peer["killed"]
    kept = f"{killed['kept']} of {lines}, {killed['asked'] - lines} asked again"
    rows.append(["InferLine", *_rate(peer["seconds"], lines), f"{killed['answered']}", kept])
    head = ["", "seconds", "lines a second", "answered when killed", "lines in the output"]
    return Table(
        f"Batches: {lines} lines, {peer['slots']} slots, beside LiteLLM's runner",
        head,
        rows,
        "The same backend and file. LiteLLM's runner (`litellm_executed_batches`) and router run "
        "with their files in memory instead of PostgreSQL, so that they wait for no database; its "
        "default is 4 lines at a time. Killed (`kill -9`) when half of the lines were answered: "
        "LiteLLM's replica, or InferLine's provider, beside which another begins.",
    )


def _rate(seconds: float, lines: int) -> tuple[str, str]:
    return f"{seconds:.1f}", f"{lines / seconds:.1f}"


def _seconds(wall: Raw) -> float:
    """Return the seconds of a batch from the request that creates it."""
    return float(wall["life"]["ended"] - wall["life"]["uploaded"])


def _per_line(wall: Raw) -> Tally:
    return Tally.of(wall["tally"]).times(1 / wall["lines"])


def _grown(long: Raw) -> float:
    before, most = long["memory_kib"]
    return float(most - before) / 1024
