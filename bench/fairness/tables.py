"""What the raw data of `bench.fairness.fairness` tell."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from bench.dispatch.tables import SHARES, Times
from bench.report import Chart, Goal, Table, goals

ALONE, ONE_QUEUE, OURS, IDEAL = "alone", "one queue", "InferLine", "ideal"
#: The goals: the light tenant's p95 over what it is alone, and how much of the work that one queue
#: has the slots do is done.
P95_TIMES, WORK_SHARE = 1.5, 0.99

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """Outcome of the light tenants' requests of a scene, on one way."""

    raw: Raw

    def percentile(self, what: str, share: float) -> float:
        """Return the seconds that so many of all do not exceed; infinite if fewer were answered."""
        times = Times.of(self.raw[what])
        answered = times.until[-1] if times.until else 0
        at = bisect_left(times.until, share * (answered + self.raw["unanswered"]))
        return times.ms[at] / 1000 if at < len(times.ms) else inf

    @property
    def work(self) -> float:
        """Return the seconds that slots worked."""
        return float(sum(self.raw["work"].values()))

    @property
    def unanswered(self) -> str:
        """Return the part that was refused, or not answered in time."""
        count = sum(self.raw["took_ms"].values()) + self.raw["unanswered"]
        return f"{100 * self.raw['unanswered'] / count:.1f} %"

    @property
    def calls(self) -> str:
        """Return the calls of SQS for each answer, whoever's."""
        if not self.raw["calls"]:
            return ""
        return f"{sum(self.raw['calls'].values()) / self.raw['answered']:.2f}"


Scene = Mapping[str, Way]


def tell(raw: Raw) -> list[Table | Chart]:
    scenes: dict[str, Scene] = {
        name: {way: Way(one) for way, one in ways.items()} for name, ways in raw["scenes"].items()
    }
    return [
        goals("Fairness", [goal for name, scene in scenes.items() for goal in _goals(name, scene)]),
        _table(scenes, raw),
        _chart(scenes),
    ]


def _goals(name: str, scene: Scene) -> Iterator[Goal]:
    for title, what in (("waiting", "waited_ms"), ("answer", "took_ms")):
        alone, ours, best = (scene[way].percentile(what, 0.95) for way in (ALONE, OURS, IDEAL))
        yield Goal(
            f"{name}: {title} p95",
            f"<= {P95_TIMES} x {alone:.2f} s",
            f"{_seconds(ours)} s (ideal {_seconds(best)} s)",
            ours <= P95_TIMES * alone,
        )
    done = scene[OURS].work / scene[ONE_QUEUE].work
    wanted = f">= {WORK_SHARE} x one queue"
    yield Goal(f"{name}: work done", wanted, f"{done:.3f} x", done >= WORK_SHARE)


def _table(scenes: Mapping[str, Scene], raw: Raw) -> Table:
    head = ["", "", "waiting p50", "p95", "p99", "p95 / alone", "answer p50", "p95", "p99"]
    head += ["p95 / alone", "unanswered", "slots at work", "of these the heavy's", "SQS calls"]
    rows = []
    for name, scene in scenes.items():
        for title, way in scene.items():
            cells = [name, title]
            for what in ("waited_ms", "took_ms"):
                times = [way.percentile(what, share) for share in SHARES]
                alone = scene[ALONE].percentile(what, 0.95)
                cells += [*map(_seconds, times), _ratio(times[1], alone)]
            rows.append([*cells, way.unanswered, *_work(way), way.calls])
    return Table(
        "Fairness, simulated: the light tenant's requests; seconds",
        head,
        rows,
        "Simulated: InferLine's own gateway and providers in virtual time, with SQS and DynamoDB "
        "as far away as AWS; queues know no tenants, as SQS's own do not with so few slots. The "
        "number in a scene's name is the light tenant's load, as a share of what all slots can "
        f"do; the heavy one has {raw['times']} times as much, and is refused what the line could "
        f"not answer in ten minutes and what is beyond {raw['open_max']} open requests. Poisson "
        "arrivals; with bursts of 10 s on average twice the mean rate (three times in the last "
        "scene) for a quarter of the time. Answers take 4 s on "
        "average, lognormal (0.8), at one host of 4 slots where nothing else is said. Waiting is "
        "from sending a request until a slot begins with it, answer until its end. Alone: without "
        "the heavy tenant. One queue: nobody gives way. InferLine: who has more open than "
        f"{raw['share']:g} times the slots, and than half of the largest, does. Ideal: a queue "
        "that knows all at once, serves the light tenant first, breaks nothing off and "
        "leaves no slot idle; computed. Unanswered: refused, or not answered in time; a "
        "percentile beyond the answered ones is infinite.",
    )


def _work(way: Way) -> tuple[str, str]:
    if not way.raw["slot_seconds"]:
        return "", ""
    of_heavy = way.raw["work"].get("heavy", 0.0) / way.work  # None, and it is left out.
    return f"{100 * way.work / way.raw['slot_seconds']:.1f} %", f"{100 * of_heavy:.1f} %"


def _chart(scenes: Mapping[str, Scene]) -> Chart:
    """Return how long who waits, in the first scene, which has the fewest slots."""
    name, scene = next(iter(scenes.items()))
    return Chart(
        f"Waiting, {name}: share of the light tenant's requests that waited longer",
        "s",
        "percent",
        {title: _longer(way) for title, way in scene.items()},
        x_log=True,
    )


def _longer(way: Way) -> list[tuple[float, float]]:
    times = Times.of(way.raw["waited_ms"])
    count = sum(way.raw["waited_ms"].values()) + way.raw["unanswered"]
    points = zip(times.ms, times.until, strict=True)
    return [(max(ms, 1) / 1000, 100 * (1 - until / count)) for ms, until in points]


def _seconds(seconds: float) -> str:
    return "∞" if seconds == inf else f"{seconds:.2f}"


def _ratio(seconds: float, alone: float) -> str:
    return "" if not alone else "∞" if seconds == inf else f"{seconds / alone:.2f}"
