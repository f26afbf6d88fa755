"""What automatic slots found, as tables, goals and charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

from bench.autoslots import real
from bench.autoslots.scenes import BOUND, FIRSTS_SECONDS, MADE_SECONDS, STORIES, Run
from bench.harness.stats import percentile_of
from bench.report import Chart, Goal, Table, goals

#: What is left out at the beginning: of slots that are set the filling, else the search; seconds.
FILLED_AT, SETTLED_AT = 50.0, 300.0
#: As near to the best is what it is to come, for so many seconds together.
NEAR = 0.95
WINDOW_SECONDS = 60
#: First tokens that may come after the bound: of 100 as many as the operator is promised.
LATE_SHARE = 0.05

#: The runs of a scene: in which slots were ``found``, and those of the sweep, ``fixed``.
Found = dict[str, list[Run]]


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    scenes, stories = raw["scenes"], raw["stories"]
    return [
        goals(
            "Automatic slots",
            [*_goals(scenes), *_story_goals(stories), *real.goals(raw["real"], NEAR)],
        ),
        _scene_table(scenes),
        _sweep_table(scenes),
        _story_table(stories),
        real.table(raw["real"]),
        *_charts(scenes, stories),
    ]


def rate(run: Run, begin: float, end: float | None = None) -> float:
    """Return the tokens a second."""
    made = run["made"]
    until = len(made) if end is None else round(end / MADE_SECONDS)
    return mean(made[round(begin / MADE_SECONDS) : until]) / MADE_SECONDS


def firsts(runs: Iterable[Run], begin: float, end: float = float("inf")) -> Counter[float]:
    """Return how often a first token took how long, seconds."""
    counts = Counter[float]()
    for run in runs:
        for number, histogram in enumerate(run["firsts"]):
            if begin <= number * FIRSTS_SECONDS < end:
                counts.update({float(seconds): count for seconds, count in histogram.items()})
    return counts


def late(counts: Mapping[float, int]) -> float:
    """Return the time to the first token that 95 of 100 keep; 0 when there was none."""
    return percentile_of(counts, 1 - LATE_SHARE) if counts else 0.0


def swept(fixed: Sequence[Run], begin: float = FILLED_AT) -> dict[int, tuple[float, float]]:
    """Return what each number of slots that was set does, and its first token's p95."""
    by_slots: dict[int, list[Run]] = {}
    for run in fixed:
        by_slots.setdefault(run["slots"], []).append(run)
    return {
        slots: (mean(rate(run, begin) for run in runs), late(firsts(runs, begin)))
        for slots, runs in sorted(by_slots.items())
    }


def best(fixed: Sequence[Run]) -> int:
    """Return the number that does most of those that keep the bound; of all, if none does."""
    rates = swept(fixed)
    kept = [slots for slots, (_, first) in rates.items() if first <= BOUND] or list(rates)
    return max(kept, key=lambda slots: rates[slots][0])


def reached(run: Run, least: float, begin: float = 0.0, end: float | None = None) -> int | None:
    """Return how long it took until as much was done as ``least`` for a minute, seconds."""
    last = (len(run["made"]) * MADE_SECONDS if end is None else end) - WINDOW_SECONDS
    for at in range(round(begin), round(last) + 1, MADE_SECONDS):
        if rate(run, at, at + WINDOW_SECONDS) >= least:
            return at - round(begin)
    return None


def slots_of(run: Run, begin: float, end: float) -> float:
    """Return how many slots there were, on average."""
    ends = [*(at for at, _ in run["limits"][1:]), end]
    spans = [
        (max(0.0, min(end, until) - max(begin, at)), limit)
        for (at, limit), until in zip(run["limits"], ends, strict=True)
    ]
    return sum(span * limit for span, limit in spans) / (end - begin)


def _seconds(run: Run) -> float:
    return float(len(run["made"]) * MADE_SECONDS)


def _goals(scenes: dict[str, Found]) -> list[Goal]:
    """
    Return of each scene whether as much is done as with the best, and whether first tokens keep up.
    """
    goals_of_scenes = []
    for name, runs in scenes.items():
        done, _ = swept(runs["fixed"])[best(runs["fixed"])]
        share = mean(rate(run, SETTLED_AT) / done for run in runs["found"])
        wanted = f">= {NEAR:.0%} of the best set"
        goals_of_scenes.append(Goal(f"throughput, {name}", wanted, f"{share:.1%}", share >= NEAR))
        first = late(firsts(runs["found"], SETTLED_AT))
        wanted = f"<= {BOUND:g} s"
        goals_of_scenes.append(
            Goal(f"first token p95, {name}", wanted, f"{first:.2f} s", first <= BOUND)
        )
    return goals_of_scenes


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which the backend of a story has one knee, and what the best number then does."""

    begin: float
    end: float
    knee: int
    done: float

    @property
    def half(self) -> float:
        """Return from when on what was found is to be as good."""
        return (self.begin + self.end) / 2


def spans(name: str, runs: Found) -> list[Span]:
    """Return the spans of a story that have a load."""
    parts, story = [], STORIES[name]
    for (begin, knee), (end, _) in pairwise([*story.knees.items(), (story.seconds, 0)]):
        if knee:
            rates = swept([run for run in runs["fixed"] if run["slots"] in (knee, knee + 1)])
            parts.append(Span(begin, end, knee, max(done for done, _ in rates.values())))
    return parts


def _story_goals(stories: dict[str, Found]) -> list[Goal]:
    story_goals = []
    for name, runs in stories.items():
        for span in spans(name, runs):
            shares = [rate(run, span.half, span.end) / span.done for run in runs["found"]]
            what = f"throughput, {name}, {span.knee} from {span.begin:g} s"
            wanted = f">= {NEAR:.0%} in the second half"
            story_goals.append(Goal(what, wanted, f"{mean(shares):.1%}", mean(shares) >= NEAR))
    return story_goals


def _scene_table(scenes: dict[str, Found]) -> Table:
    rows = []
    for name, runs in scenes.items():
        slots, own_runs = best(runs["fixed"]), runs["found"]
        done, _ = swept(runs["fixed"])[slots]
        shares = [rate(run, SETTLED_AT) / done for run in own_runs]
        counts = [slots_of(run, SETTLED_AT, _seconds(run)) for run in own_runs]
        row = [name, f"{slots}", f"{mean(counts):.1f} ({min(counts):.1f} to {max(counts):.1f})"]
        row += [_share(shares), f"{late(firsts(own_runs, SETTLED_AT)):.2f}"]
        row += [_times([reached(run, NEAR * done) for run in own_runs])]
        row += [f"{100 * mean(rate(run, 0) / done for run in own_runs):.0f} %", f"{len(own_runs)}"]
        rows.append(row)
    head = ["", "best set", "found (runs)", "throughput (worst run)", "p95, s", "near after, s"]
    return Table(
        "Automatic slots beside the best number that can be set",
        [*head, "from the start", "runs"],
        rows,
        "Simulated in virtual time: InferLine's own provider, begun with 1 slot, beside a scripted "
        "engine that tells nothing of its slots, under full load. Throughput is tokens a second, "
        f"from {SETTLED_AT:g} s on, trials of other numbers included, and of what the best number "
        f"does whose first token's p95 at the backend is {BOUND:g} s at the most. Near: when the "
        "first minute within 5 % of that began. From the start: throughput with the search "
        "included. A task takes some 6 s, with the knee at 200 some 15 s.",
    )


def _sweep_table(scenes: dict[str, Found]) -> Table:
    rows = []
    for name, runs in scenes.items():
        slots = best(runs["fixed"])
        for number, (done, first) in swept(runs["fixed"]).items():
            mark = "best" if number == slots else "" if first <= BOUND else "too late"
            rows.append([name, f"{number}", f"{done:.1f}", f"{first:.2f}", mark])
    note = (
        f"The sweep from which the best is taken, counted from {FILLED_AT:g} s on, when all slots "
        "have long been full."
    )
    return Table(
        "Slots that are set", ["", "slots", "tokens/s", "first token p95, s", ""], rows, note
    )


def _story_table(stories: dict[str, Found]) -> Table:
    rows = []
    for name, runs in stories.items():
        for span in spans(name, runs):
            begin, half, end, own_runs = span.begin, span.half, span.end, runs["found"]
            row = [name if begin == 0 else "", f"{begin:g} s: {span.knee}"]
            row += [_times([reached(run, NEAR * span.done, begin, end) for run in own_runs])]
            row += [_share([rate(run, half, end) / span.done for run in own_runs])]
            row += [f"{mean(slots_of(run, half, end) for run in own_runs):.1f}"]
            rows.append([*row, f"{late(firsts(own_runs, half, end)):.2f}", f"{len(own_runs)}"])
    head = ["", "from, knee", "near after, s", "second half (worst run)", "slots", "p95, s", "runs"]
    note = "The same while the backend or the load changes. The best is that of the knee of now."
    return Table("Automatic slots when something changes", head, rows, note)


def _charts(scenes: dict[str, Found], stories: dict[str, Found]) -> list[Chart]:
    """Return the first run of each."""
    shares = {}
    for name, runs in scenes.items():
        done, _ = swept(runs["fixed"])[best(runs["fixed"])]
        made = runs["found"][0]["made"]
        shares[name] = [
            (at * MADE_SECONDS / 60, count / MADE_SECONDS / done) for at, count in enumerate(made)
        ]
    title = "Throughput from one slot on; 1 is the best number that can be set"
    charts = [Chart(title, "minutes", "", shares)]
    for title, group in (
        ("Slots over time", scenes),
        ("Slots over time, when something changes", stories),
    ):
        limits = {name: _steps(runs["found"][0]["limits"]) for name, runs in group.items()}
        charts.append(Chart(title, "minutes", "slots", limits, y_log=True))
    return charts


def _share(shares: Sequence[float]) -> str:
    return f"{100 * mean(shares):.1f} % ({100 * min(shares):.1f} %)"


def _times(times: Sequence[int | None]) -> str:
    known = sorted(time for time in times if time is not None)
    if len(known) < len(times):
        return f"{known[0]} to never" if known else "never"
    return f"{known[0]} to {known[-1]}" if len(known) > 1 else f"{known[0]}"


def _steps(limits: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    points = [(limits[0][0] / 60, float(limits[0][1]))]
    for (_, before), (at, after) in pairwise(limits):
        points += [(at / 60, float(before)), (at / 60, float(after))]
    return points
