"""
How long a slot that falls free waits until its next task runs, and how full all slots are kept.

By the backend's own clock: it notes when each answer began and ended. More is always asked than
there are slots. Beside it the backend is driven directly, by as many clients as it has slots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from bench.harness import machine, probe, rounds
from bench.harness.backend import MODEL
from bench.harness.loader import Loader, body
from bench.harness.rounds import MACHINE, Watched
from bench.harness.stack import (
    DIRECT,
    FAR,
    OURS,
    Contender,
    InferLine,
    Span,
    backend,
    inferline,
    spans,
)
from bench.harness.stats import cumulative, median, percentile, spread
from bench.report import Chart, Goal, Table, goals, progress
from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials


@dataclass(frozen=True, slots=True)
class Scene:
    """So many slots, answers of so many seconds on average, and how long it goes on."""

    slots: int
    answer_seconds: float
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.slots} slots, answers of {self.answer_seconds:g} s"


SCENES = (
    Scene(1, 0.14, 8.0),
    Scene(4, 0.14, 8.0),
    Scene(64, 1.5, 16.0),
    Scene(512, 2.0, 24.0),
    Scene(512, 8.0, 48.0),
)
ROUNDS = 2
#: For a look, each scene is this much shorter, and there is one round.
QUICK_SHARE = 0.5
#: Answers vary by so much up and down: those that began together do not end together.
VARY = 0.5
FIRST_SECONDS = 0.05
PER_SECOND = 100.0
#: So many more than the slots are asked at once, at the most: there is always a backlog.
BACKLOG_TIMES, BACKLOG_MORE, BACKLOG_MAX = 2, 8, 300
#: All of them may wait for a moment, before the first is claimed.
SETTINGS = {"INFERLINE_QUEUE_DEPTH_MAX": "2000"}
#: What is counted begins when all slots are at work, at the latest after this share of the time.
FILL_SHARE_MAX = 0.5
#: What SQS tells of a queue, and how often it is asked.
DEPTH = "ApproximateNumberOfMessages"
LOOK_SECONDS = 0.5
PROBES, PROBES_FAR = 20, 100

#: What is to be reached: milliseconds above one receive, and the share of what direct reaches.
REFILL_P50_MAX = 20.0
OCCUPANCY_MIN = 0.97
OCCUPANCY_SLOTS = 64


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    results = {}
    receives: dict[str, list[float]] = {OURS: [], FAR: []}
    for scene in SCENES:
        progress(scene.name)
        results[scene.name] = await _measure(load, scene, receives, quick=quick)
    return {"cores": machine.cores(), "scenes": results, "receive_ms": receives}


async def _measure(
    load: Loader, scene: Scene, receives: dict[str, list[float]], *, quick: bool
) -> dict[str, Any]:
    tokens = max(1, round((scene.answer_seconds - FIRST_SECONDS) * PER_SECOND))
    seconds = scene.seconds * (QUICK_SHARE if quick else 1)
    runs: dict[str, list[dict[str, Any]]] = {}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(
            backend(first=FIRST_SECONDS, per_second=PER_SECOND, tokens=tokens, vary=VARY)
        )
        ours = await enter(inferline(server.url, slots=scene.slots, settings=SETTINGS))
        far = await enter(inferline(server.url, slots=scene.slots, settings=SETTINGS, far=True))
        for one, tries in ((ours, PROBES), (far, PROBES_FAR)):
            times = await probe.probe(one.aws_url, tries // 4, far=one is far)
            receives[one.name] += times[probe.RECEIVE]
        contenders = [server, ours, far]
        for number in range(1 if quick else ROUNDS):
            for contender in contenders[:: -1 if number % 2 else 1]:
                run = await _run(load, contender, server, scene, seconds)
                runs.setdefault(contender.name, []).append(run)
                progress(
                    f"round {number + 1}, {contender.name}: {_occupancy(run, scene.slots):.1%}"
                )
    return {"slots": scene.slots, "answer_seconds": scene.answer_seconds, "runs": runs}


async def _run(
    load: Loader, contender: Contender, server: Contender, scene: Scene, seconds: float
) -> dict[str, Any]:
    """Ask for more than there are slots; milliseconds of empty slots, and running by the second."""
    is_direct = contender.name == DIRECT
    backlog = min(BACKLOG_MAX, BACKLOG_TIMES * scene.slots + BACKLOG_MORE)
    at_once = scene.slots + (0 if is_direct else backlog)
    await spans(server.url)
    begun = time.monotonic() * 1000
    waiting: list[tuple[float, int]] = []
    looking = asyncio.create_task(_watch(contender, waiting))
    try:
        with Watched([*rounds.processes(contender), server.router, load, MACHINE]) as cpu:
            block = await load.run(
                contender.url, body(stream=False), at_once, seconds=seconds, spread=seconds / 8
            )
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    ran = await spans(server.url)
    filled = full_at(ran, scene.slots, begun + seconds * 1000 * FILL_SHARE_MAX)
    window = (filled, begun + seconds * 1000)
    return {
        "filled_seconds": round((filled - begun) / 1000, 1),
        "empty_ms": [round(ms, 1) for ms in empty(ran, scene.slots, window)],
        "running": [round(mean, 2) for mean in running(ran, window)],
        "waiting": [depth for moment, depth in waiting if window[0] <= moment < window[1]],
        "answers": block.answers,
        "seconds": block.seconds,
        "cpu_ms": cpu.ms,
    }


async def _watch(contender: Contender, waiting: list[tuple[float, int]]) -> None:
    """Note for ever how many messages wait in the queue, and when: without any, none can run."""
    if not isinstance(contender, InferLine):
        return
    async with AwsClient("us-east-1", contender.aws_url, StaticCredentials("test", "test")) as aws:
        queues = (await aws.call("sqs", "ListQueues", {}))["QueueUrls"]
        (queue,) = [url for url in queues if MODEL in url and url.endswith("-default")]
        asked = {"QueueUrl": queue, "AttributeNames": [DEPTH]}
        while True:
            attributes = await aws.call("sqs", "GetQueueAttributes", asked)
            waiting.append((time.monotonic() * 1000, int(attributes["Attributes"][DEPTH])))
            await asyncio.sleep(LOOK_SECONDS)


def full_at(ran: Sequence[Span], slots: int, latest: float) -> float:
    """Return when all slots were first at work, or ``latest`` if they were not by then."""
    changes = sorted([(start, 1) for start, _ in ran] + [(end, -1) for _, end in ran])
    now = 0
    for moment, change in changes:
        now += change
        if now >= slots or moment >= latest:
            return min(moment, latest)
    return latest


def empty(ran: Sequence[Span], slots: int, window: Span) -> list[float]:
    """
    Return how long each slot that fell free within the window stood empty, milliseconds.

    The first ``slots`` answers fill the slots; from then on the n-th end makes room for the n-th
    start after them. What ends when no backlog is left has no such start and is not counted.
    """
    starts = sorted(start for start, _ in ran)[slots:]
    ends = sorted(end for _, end in ran)
    pairs = zip(starts, ends, strict=False)
    return [start - end for start, end in pairs if window[0] <= end < window[1]]


def running(ran: Sequence[Span], window: Span) -> list[float]:
    """Return how many answers ran, on average over each whole second of the window."""
    begin, end = window
    counts = [0.0] * int((end - begin) / 1000)
    for start, stop in ran:
        first = max(0, int((start - begin) / 1000))
        for second in range(first, min(len(counts), int((stop - begin) / 1000) + 1)):
            left, right = begin + second * 1000, begin + (second + 1) * 1000
            counts[second] += max(0.0, min(stop, right) - max(start, left)) / 1000
    return counts


def _occupancy(run: dict[str, Any], slots: int) -> float:
    """Return the share of its slots that a backend was working in."""
    return sum(run["running"]) / len(run["running"]) / slots


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    scenes, receive = raw["scenes"], {k: median(v) for k, v in raw["receive_ms"].items()}
    return [
        goals("Provider", _goals(scenes, receive)),
        _refills(scenes, receive),
        _full(scenes, raw["cores"]),
        Chart(
            "A slot falls free: until its next task runs",
            "ms",
            "percent of refills",
            {
                f"{name}, {scene['slots']} slots": cumulative(_all(runs))
                for scene in scenes.values()
                for name, runs in scene["runs"].items()
                if name != DIRECT
                and scene["answer_seconds"] < max(s.answer_seconds for s in SCENES)
            },
            x_log=True,
        ),
    ]


def _all(runs: Sequence[dict[str, Any]]) -> list[float]:
    return [max(0.1, ms) for run in runs for ms in run["empty_ms"]]


def _refills(scenes: dict[str, Any], receive: dict[str, float]) -> Table:
    rows = []
    for what, scene in scenes.items():
        for name, runs in scene["runs"].items():
            gaps = [ms for run in runs for ms in run["empty_ms"]]
            if not gaps:
                continue
            cells = [spread([median(run["empty_ms"]) for run in runs], 1)]
            cells += [f"{percentile(gaps, share):.1f}" for share in (0.9, 0.99)]
            cells += [f"{max(gaps):.1f}"]
            less = "" if name == DIRECT else f"{median(gaps) - receive[name]:.1f}"
            rows.append([what, name, *cells, less, str(len(gaps))])
    text = ", ".join(f"{ms:.1f} ms of {name}" for name, ms in receive.items())
    return Table(
        "Refill: a slot falls free while tasks wait; milliseconds until its next task runs",
        ["", "driven by", "p50 (rounds)", "p90", "p99", "most", "p50 less one receive", "refills"],
        rows,
        "By the backend's clock: from the end of an answer to the start of the one that takes its "
        f"room. A receive of a waiting message took the emulator {text} (p50) in the same run.",
    )


def _full(scenes: dict[str, Any], cores: int) -> Table:
    rows = []
    for what, scene in scenes.items():
        direct = median([_occupancy(run, scene["slots"]) for run in scene["runs"][DIRECT]])
        for name, runs in scene["runs"].items():
            shares = [100 * _occupancy(run, scene["slots"]) for run in runs]
            used = {key: sum(run["cpu_ms"][key] for run in runs) for key in runs[0]["cpu_ms"]}
            seconds = sum(run["seconds"] for run in runs)
            busy = used.pop("machine") / seconds / 10 / cores
            each = ", ".join(f"{who} {ms / seconds / 10:.0f}" for who, ms in used.items())
            cells = [spread(shares, 1), f"{median(shares) / direct:.1f}"]
            cells += [spread([run["answers"] / run["seconds"] for run in runs])]
            cells += [spread([run["filled_seconds"] for run in runs], 1)]
            depths = [depth for run in runs for depth in run["waiting"]]
            cells += [str(min(depths)) if depths else ""]
            rows.append([what, name, *cells, each, f"{busy:.0f}"])
    return Table(
        "Occupancy: percent of the slots that a backend works in while tasks wait",
        [
            "",
            "driven by",
            "percent (rounds)",
            "percent of direct",
            "answers/s (rounds)",
            "full after s (rounds)",
            "waiting, least",
            "percent of one core",
            "machine, percent",
        ],
        rows,
        "One provider process in each line. Answers are not streamed. Directly, as many clients as "
        "there are slots ask one thing after another. Counted from when all slots were at work, at "
        "the latest after half of the time. `waiting` is the least depth of the queue meanwhile: "
        "where it is 0, clients or gateway did not come up with enough tasks.",
    )


def _goals(scenes: dict[str, Any], receive: dict[str, float]) -> list[Goal]:
    reached = []
    for what, scene in scenes.items():
        direct = median([_occupancy(run, scene["slots"]) for run in scene["runs"][DIRECT]])
        for name, runs in scene["runs"].items():
            if name == DIRECT:
                continue
            above = median([ms for run in runs for ms in run["empty_ms"]]) - receive[name]
            wanted = f"<= {REFILL_P50_MAX:g} ms above one receive"
            is_met = above <= REFILL_P50_MAX
            reached.append(Goal(f"refill p50, {what}, {name}", wanted, f"{above:.1f} ms", is_met))
            if scene["slots"] >= OCCUPANCY_SLOTS:
                share = median([_occupancy(run, scene["slots"]) for run in runs]) / direct
                wanted = f">= {OCCUPANCY_MIN:.0%} of direct"
                is_met = share >= OCCUPANCY_MIN
                reached.append(Goal(f"occupancy, {what}, {name}", wanted, f"{share:.1%}", is_met))
    return reached
