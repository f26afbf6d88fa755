"""What the raw data of `bench.dispatch.dispatch` tell."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log
from typing import Any

from bench.report import Chart, Goal, Table, goals

AWARE, INDIFFERENT, IDEAL = "InferLine", "InferLine, indifferent", "ideal"
#: The fleet that all is about, and the load at which other fleets are looked at.
MAIN, SCENE_LOAD = "2 fast, 3 medium, 3 slow", 0.6
#: The goals: waiting's p99 over the ideal one, besides one receive; and at the least load the total
#: time's p99 over that of indifferent pulling.
WAIT_TIMES, TOTAL_TIMES = 1.15, 0.7
SHARES = (0.5, 0.95, 0.99)
#: Times are kept in steps of this, so that raw data stay small.
STEP = 1.02

#: What is kept of some requests: `samples` makes it.
Raw = dict[str, Any]


def samples(waited: Iterable[float], took: Iterable[float], limit: float) -> Raw:
    """Return the seconds of some requests as they are kept: counts of milliseconds, in steps."""
    waits = list(waited)
    return {
        "waited_ms": counted(waits),
        "took_ms": counted(took),
        "in_time": sum(seconds <= limit for seconds in waits),
    }


def counted(seconds: Iterable[float]) -> Counter[str]:
    """Return how many there are of each time: milliseconds, in steps."""
    return Counter(map(_step, seconds))


def _step(seconds: float) -> str:
    ms = seconds * 1000
    return str(round(STEP ** round(log(ms, STEP)))) if ms >= 0.5 else "0"


def pooled(runs: Iterable[Raw]) -> Raw:
    """Merge several runs into one."""
    sums: Raw = {}
    for run in runs:
        for name, value in run.items():
            if isinstance(value, Mapping):
                sums[name] = Counter(sums.get(name, {})) + Counter(value)
            else:
                sums[name] = sums.get(name, 0) + value
    return sums


@dataclass(frozen=True, slots=True)
class Times:
    """Counted milliseconds."""

    ms: Sequence[int]
    #: How many are not more, for each of these.
    until: Sequence[int]

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Times:
        """Return those that were kept."""
        ordered = sorted((int(ms), count) for ms, count in counts.items())
        return cls([ms for ms, _ in ordered], list(accumulate(count for _, count in ordered)))

    def percentile(self, share: float) -> int:
        """Return the least that so many do not exceed."""
        return self.ms[bisect_left(self.until, share * self.until[-1])]

    def cells(self) -> list[str]:
        """Return the percentiles of a table, seconds."""
        return [f"{self.percentile(share) / 1000:.2f}" for share in SHARES]


@dataclass(frozen=True, slots=True)
class Found:
    """Results of one contender at one load."""

    raw: Raw

    @property
    def waited(self) -> Times:
        return Times.of(self.raw["waited_ms"])

    @property
    def took(self) -> Times:
        return Times.of(self.raw["took_ms"])

    @property
    def count(self) -> int:
        return self.waited.until[-1]

    def share(self, what: str) -> str:
        """Return a count as a share of the requests, in per cent."""
        return f"{100 * self.raw[what] / self.count:.1f} %"

    @property
    def calls(self) -> float:
        """Return the calls of SQS for each request."""
        return sum(self.raw["calls"].values()) / self.count


@dataclass(frozen=True, slots=True)
class Scene:
    """All contenders on the same traces, by load and name."""

    results: Mapping[float, Mapping[str, Found]]
    #: One receive, p99.
    receive_ms: float

    @classmethod
    def of(cls, raw: Mapping[str, Mapping[str, Raw]], receive_ms: float) -> Scene:
        """Return what was kept; JSON's keys are strings."""
        return cls(
            {
                float(load): {way: Found(one) for way, one in ways.items()}
                for load, ways in raw.items()
            },
            receive_ms,
        )

    def waiting(self, load: float) -> Goal:
        """Return whether waiting is as short as it is to be."""
        ways = self.results[load]
        ideal_ms, ours_ms = (ways[way].waited.percentile(0.99) for way in (IDEAL, AWARE))
        goal_ms = WAIT_TIMES * ideal_ms + self.receive_ms
        return Goal(
            f"waiting p99 at {load:g}",
            f"<= {WAIT_TIMES} x {ideal_ms / 1000:.2f} s + {self.receive_ms:.0f} ms",
            f"{ours_ms / 1000:.2f} s (goal {goal_ms / 1000:.2f} s)",
            ours_ms <= goal_ms,
        )

    def gain(self, load: float) -> Goal:
        """Return whether the total time gains as much as it is to."""
        ratio = self.ratio(load, AWARE)
        wanted = f"<= {TOTAL_TIMES} x indifferent pulling"
        return Goal(f"total p99 at {load:g}", wanted, f"{ratio:.2f} x", ratio <= TOTAL_TIMES)

    def ratio(self, load: float, way: str) -> float:
        """Return the total time's p99 over that of indifferent pulling."""
        ways = self.results[load]
        return ways[way].took.percentile(0.99) / ways[INDIFFERENT].took.percentile(0.99)


def tell(raw: Raw) -> list[Table | Chart]:
    simulated, real = raw["simulated"], raw["real"]
    lines = {name: Scene.of(one, raw["receive_ms"]["AWS"]) for name, one in simulated.items()}
    main, played = lines.pop(MAIN), Scene.of(real, raw["receive_ms"]["emulator"])
    reached = [
        *_goals("simulated", main),
        *(_goals("real", played) if played.results else []),
    ]
    return [
        goals("Dispatch", reached),
        _table(f"Dispatch, simulated: {MAIN}; seconds", main, raw["limit_seconds"]["AWS"], LINE),
        *([_scenes(lines)] if lines else []),
        *(_played(played, raw) if played.results else []),
    ]


def _goals(where: str, scene: Scene) -> list[Goal]:
    results = [scene.waiting(load) for load in scene.results] + [scene.gain(min(scene.results))]
    return [Goal(f"{where}: {one.what}", one.wanted, one.result, one.is_met) for one in results]


LINE = (
    "Simulated: InferLine's own gateway and providers in virtual time, with SQS and DynamoDB as "
    "far away as AWS; any of the receives that wait gets a message."
)


def _table(title: str, scene: Scene, limit_seconds: float, note: str) -> Table:
    head = ["load", "", "waiting p50", "p95", "p99", "p99 / ideal", "begun in time", "total p50"]
    head += ["p95", "p99", "/ indifferent", "on the slowest", "SQS calls", "requests"]
    rows = []
    for load, ways in scene.results.items():
        best = ways[IDEAL].waited.percentile(0.99)
        for way, results in ways.items():
            times = f"{results.waited.percentile(0.99) / best:.1f}" if best else ""
            cells = [f"{load:g}", way, *results.waited.cells(), times, results.share("in_time")]
            cells += [*results.took.cells(), f"{scene.ratio(load, way):.2f}"]
            cells += [
                results.share("on_slowest"),
                f"{results.calls:.2f}" if results.raw["calls"] else "",
            ]
            failed = results.raw.get("failed", 0)
            rows.append([*cells, f"{results.count}" + (f", {failed} failed" if failed else "")])
    return Table(
        title,
        head,
        rows,
        f"{note} Load: of the fleet's capacity, in bursts (a Markov-modulated Poisson process: "
        "bursts of 10 s on average at 1.5 times the mean rate take a quarter of the time). Answers "
        "are 200 tokens on average, lognormal (0.8); a fast host makes 100 a second in each of 4 "
        "slots, a medium one 50, a slow one 25. Waiting is from sending a request until a slot "
        f"begins with it; in time is within {limit_seconds:g} s. Ideal: a central queue that knows "
        "every arrival and every free slot at once, first come, first served, the fastest free "
        "slot first. Indifferent: providers take no notice of faster ones.",
    )


def _scenes(scenes: Mapping[str, Scene]) -> Table:
    """Return other fleets and arrivals, in short."""
    head = ["", "waiting p99: ideal", "InferLine", "indifferent", "goal", "total p99: ideal"]
    head += ["InferLine", "indifferent", "ratio", "SQS calls", "indifferent"]
    rows = []
    for name, scene in scenes.items():
        ways = [scene.results[SCENE_LOAD][way] for way in (IDEAL, AWARE, INDIFFERENT)]
        goal = "met" if scene.waiting(SCENE_LOAD).is_met else "NOT MET"
        cells = [name, *(way.waited.cells()[-1] for way in ways), goal]
        cells += [*(way.took.cells()[-1] for way in ways), f"{scene.ratio(SCENE_LOAD, AWARE):.2f}"]
        rows.append([*cells, *(f"{way.calls:.2f}" for way in ways[1:])])
    return Table(
        "Dispatch, simulated: other fleets and arrivals; seconds",
        head,
        rows,
        f"At {SCENE_LOAD:g} of the capacity; hosts have 4 slots where nothing else is said.",
    )


def _played(scene: Scene, raw: Raw) -> list[Table | Chart]:
    play = raw["real_time"]
    load = max(scene.results)
    return [
        _table(
            f"Dispatch, real processes: {MAIN}; seconds",
            scene,
            raw["limit_seconds"]["emulator"],
            f"Real: the same trace for each, {play['seconds']:g} s long, played to a real gateway "
            "with a provider process for each of the eight scripted servers, or to LiteLLM's proxy "
            "before the same servers, which queue what is beyond their slots. The servers tell "
            "when a slot began, by the clock of the client. All is "
            f"{play['speedup']:g} times as fast as simulated.",
        ),
        Chart(
            f"Waiting at {load:g} of the capacity, real: share of requests that waited longer",
            "ms",
            "percent",
            {way: _longer(results.waited) for way, results in scene.results[load].items()},
            y_log=True,
        ),
    ]


def _longer(times: Times) -> list[tuple[float, float]]:
    """Return which share waited longer than each of the times."""
    count = times.until[-1]
    points = zip(times.ms, times.until, strict=True)
    return [(float(ms), 100 * (1 - until / count)) for ms, until in points if until < count]
