"""The tables of the fleet's growth, made of what was counted and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from statistics import mean, median
from typing import Any, Final

from bench.costs.cost import RUN_SECONDS
from bench.costs.prices import PRICES, SECONDS_A_MONTH
from bench.report import Chart, Table

#: The kinds of the registry's rows that a request or a heartbeat may need.
REGISTRY: Final = ("model", "provider", "fleet")
EVERYWHERE: Final = (*REGISTRY, "minute", "tasks")
#: What is done, by what it is called in the tables, and where its cost arises. What a request costs
#: at the tasks' table and the queues is its own and the same for any fleet.
CALLS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "a request": ("request", REGISTRY),
    "a heartbeat": ("heartbeat", REGISTRY),
    "a process's start": ("start", REGISTRY),
    "GET /v1/models": ("list of models", EVERYWHERE),
    "GET /health": ("health", EVERYWHERE),
    "GET /v1/tasks/{id}": ("task", EVERYWHERE),
    "a viewer's poll of the page": ("overview", EVERYWHERE),
    "the sweep, each minute": ("sweep", EVERYWHERE),
    "a provider joins": ("join", REGISTRY),
    "a provider leaves": ("leave", REGISTRY),
}
#: What may grow.
NOUNS: Final = ("providers", "requests", "models")
#: From this exponent on something counts as growing.
GROWS: Final = 0.25
#: Memory of the function that takes heartbeats, GB.
CONTROL_GB: Final = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """One scene as it was counted."""

    scene: Mapping[str, Any]
    counted: Mapping[str, Any]

    def a_second(self, unit: str, kinds: Sequence[str], *whats: str) -> float:
        """Return the units a second of what was done, or of everything."""
        total = 0.0
        for key, tally in self.counted["tallies"].items():
            what, _, kind = key.rpartition(" ")
            if kind in kinds and (not whats or what in whats):
                total += tally[unit]
        return total / self.counted["seconds"]

    def events(self, what: str) -> float:
        """Return how often something was done, a second."""
        return float(self.counted["events"].get(what, 0)) / self.counted["seconds"]

    def each(self, what: str, kinds: Sequence[str]) -> tuple[float, float] | None:
        """Read and write units of one; None if it was not done."""
        count = self.events(what)
        if not count:
            return None
        reads, writes = (self.a_second(unit, kinds, what) / count for unit in ("reads", "writes"))
        return reads, writes


#: What something costs in a scene, US dollars; 0 where it was not done.
Price = Callable[[Run], float]


def tell(raw: Mapping[str, Any]) -> list[Table | Chart]:
    """Return what was found, for people."""
    runs = [Run(scene, raw["counted"][name]) for name, scene in raw["scenes"].items()]
    return [
        *(_bill(runs, functions) for functions in (True, False)),
        _each(runs),
        _growth(runs),
        *_product(runs),
        _restarts(runs),
        _cpu(raw["cpu_ms"]),
        _chart(runs),
    ]


def _usual(runs: Sequence[Run], functions: bool) -> list[Run]:
    """Return the scenes of one edge in which fleets and requests differ and nothing else does."""
    kind = {"models": _models(runs), "restarts": False, "functions": functions}
    return [run for run in runs if kind.items() <= run.scene.items()]


def _bill(runs: Sequence[Run], functions: bool) -> Table:
    head = [
        *("providers", "requests/s", "heartbeats/s", "polls/s"),
        *("registry reads/s", "registry writes/s", "registry $", "heartbeats $", "polls $"),
    ]
    rows = [_bill_row(run) for run in _usual(runs, functions)]
    where = "each request and heartbeat is a run of a function" if functions else "one gateway"
    return Table(
        f"A fleet of {_models(runs)} models a second, and list prices a month: {where}",
        head,
        rows,
        "Reads and writes are DynamoDB's request units on rows of models, providers and the fleet, "
        "for all requests and heartbeats and two viewers of the page, who poll it each 3 s. Polls "
        "are calls of ReceiveMessage, nine queues a provider. Heartbeats $: API Gateway "
        "and Lambda of their requests, where they are such. Every host serves three models that "
        "chance chose, the worst case for pools.",
    )


def _bill_row(run: Run) -> list[str]:
    reads, writes = (run.a_second(unit, REGISTRY) for unit in ("reads", "writes"))
    beats, polls = run.events("heartbeat"), _polls(run)
    each = PRICES["api"].of(1) + PRICES["lambda-requests"].of(1)
    each += PRICES["lambda-seconds"].of(RUN_SECONDS["control"] * CONTROL_GB)
    beats_price = beats * each if run.scene["functions"] else 0.0
    prices = (_usd(reads, writes), beats_price, PRICES["sqs"].of(polls))
    return [
        f"{run.scene['providers']:,}",
        f"{run.scene['per_second']:g}",
        *(f"{rate:,.1f}" for rate in (beats, polls, reads, writes)),
        *(f"{price * SECONDS_A_MONTH:,.0f}" for price in prices),
    ]


def _polls(run: Run) -> float:
    calls = run.counted["tallies"]["provider sqs"]["calls"]["ReceiveMessage"]
    return float(calls) / run.counted["seconds"]


def _each(runs: Sequence[Run]) -> Table:
    """Return what one of each costs, by the size of the fleet."""
    rare = _rare(runs)
    rows = []
    for label, (what, kinds) in CALLS.items():
        cells = [_units(run.each(what, kinds)) for run in rare]
        if any(cells):
            rows.append([label, *cells])
    return Table(
        f"Read and write units of one, {_models(runs)} models, functions",
        ["", *(f"{run.scene['providers']:,} providers" for run in rare)],
        rows,
        "Written: reads + writes. One a second of each but heartbeats; more often, processes share "
        "what they have read.",
    )


def _rare(runs: Sequence[Run]) -> list[Run]:
    """Return the scenes of functions with the fewest requests."""
    usual = _usual(runs, functions=True)
    fewest = min(run.scene["per_second"] for run in usual)
    return [run for run in usual if run.scene["per_second"] == fewest]


def _growth(runs: Sequence[Run]) -> Table:
    prices: dict[str, Price] = {
        label: partial(_price, what=what, kinds=kinds) for label, (what, kinds) in CALLS.items()
    }
    prices["a provider's polls, a second"] = _price_of_polls
    rows = []
    for label, price in prices.items():
        exponents = _exponents(runs, price)
        if any(exponent is not None for exponent in exponents):
            rows.append([label, *map(_exponent_text, exponents), _verdict(exponents)])
    return Table(
        "How the price of one grows: exponents fitted to what was counted",
        ["", *(f"with {noun}" for noun in NOUNS), "grows"],
        rows,
        f"1 is growth in proportion, 0 is none; from {GROWS} on it counts. Fitted to logarithms of "
        "the price of one, over all fleets and rates where functions serve; for models, between "
        "two numbers of them. There are as many heartbeats, joins and polls as providers: what of "
        "them grows with the providers grows with their square, and what of a request does grows "
        "with the product of both.",
    )


def _price(run: Run, *, what: str, kinds: Sequence[str]) -> float:
    price = run.each(what, kinds)
    return 0.0 if price is None else _usd(*price)


def _price_of_polls(run: Run) -> float:
    return PRICES["sqs"].of(run.a_second("sqs", ("sqs",), "provider")) / run.scene["providers"]


def _exponents(runs: Sequence[Run], price: Price) -> list[float | None]:
    """
    Return how a price grows with providers, with requests and with models; None where none differ.
    """
    usual = _usual(runs, functions=True)
    restarts = [run for run in runs if run.scene["restarts"]]
    fleets = usual if any(map(price, usual)) else restarts
    few = min(run.scene["models"] for run in runs)
    alike = [run for run in runs if run.scene["models"] == few and run.scene["functions"]]
    models = [*alike, *(run for run in usual if _like(run, alike[0]))]
    return [
        _slope(chosen, price, grows, same)
        for chosen, grows, same in (
            (fleets, "providers", "per_second"),
            (usual, "per_second", "providers"),
            (models, "models", "providers"),
        )
    ]


def _like(run: Run, other: Run) -> bool:
    return all(run.scene[name] == other.scene[name] for name in ("providers", "per_second"))


def _slope(runs: Sequence[Run], price: Price, grows: str, same: str) -> float | None:
    """Return the exponent by which a price grows with one number, among runs that share another."""
    groups: dict[float, list[tuple[float, float]]] = {}
    for run in runs:
        if value := price(run):
            groups.setdefault(run.scene[same], []).append((log(run.scene[grows]), log(value)))
    above = below = 0.0
    for points in groups.values():
        x_mean, y_mean = (mean(values) for values in zip(*points, strict=True))
        above += sum((x - x_mean) * (y - y_mean) for x, y in points)
        below += sum((x - x_mean) ** 2 for x, _ in points)
    return above / below if below else None


def _exponent_text(exponent: float | None) -> str:
    return "" if exponent is None else f"{exponent:.2f}".replace("-0.00", "0.00")


def _verdict(exponents: Sequence[float | None]) -> str:
    growing = [noun for noun, one in zip(NOUNS, exponents, strict=True) if one and one > GROWS]
    return f"with {' and '.join(growing)}" if growing else "no"


def _product(runs: Sequence[Run]) -> list[Table]:
    """Return what neither the providers nor the requests explain by themselves, if both differ."""
    reads = {
        (run.scene["providers"], run.scene["per_second"]): run.a_second("reads", REGISTRY)
        for run in _usual(runs, functions=True)
    }
    corners = [(p, r) for p in _ends(list(reads), 0) for r in _ends(list(reads), 1)]
    if len(set(corners)) < len(corners):
        return []
    few, few_asked, many, both = (reads[corner] for corner in corners)
    product = both - many - few_asked + few
    figures = [f"{units:,.0f}" for units in (few, few_asked, many, both, product)]
    names = [f"{providers:,} providers, {rate:g}/s" for providers, rate in corners]
    table = Table(
        "Read units a second of the registry, and what of them grows with the product",
        [*names, "the last, less what each explains", "share"],
        [[*figures, f"{product / both:.0%}"]],
        "Where the two add up, the last column but one is 0.",
    )
    return [table]


def _ends(places: Sequence[tuple[float, float]], at: int) -> tuple[float, float]:
    ends = [place[at] for place in places]
    return min(ends), max(ends)


def _restarts(runs: Sequence[Run]) -> Table:
    """Return what it takes to start every provider anew within a minute."""
    return Table(
        "Every provider is started anew within a minute: what leaving and joining take in all",
        ["providers", "reads", "writes", "$"],
        [_restart(run) for run in runs if run.scene["restarts"]],
    )


def _restart(run: Run) -> list[str]:
    each = (run.a_second(unit, REGISTRY, "join", "leave") for unit in ("reads", "writes"))
    reads, writes = (units * run.counted["seconds"] for units in each)
    cells = [f"{reads:,.0f}", f"{writes:,.0f}", f"{_usd(reads, writes):.4f}"]
    return [f"{run.scene['providers']:,}", *cells]


def _cpu(times: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """Return the medians of what was timed, by the size of the fleet."""
    actions = next(iter(times.values()))
    return Table(
        "CPU of the gateway for one, ms (median)",
        ["", *(f"{int(size):,} providers" for size in times)],
        [[what, *(f"{median(each[what]):.3g}" for each in times.values())] for what in actions],
        "With that of the tables in memory that it asks, and without HTTP. Whether anybody serves "
        "is looked at for each waiting request, up to 5 times a second.",
    )


def _chart(runs: Sequence[Run]) -> Chart:
    lines: dict[str, list[tuple[float, float]]] = {}
    for run in _usual(runs, functions=True):
        name = f"{run.scene['per_second']:g} requests a second"
        point = (run.scene["providers"], run.a_second("reads", REGISTRY))
        lines.setdefault(name, []).append(point)
    return Chart(
        "What is read of the registry, where functions serve",
        "providers",
        "read units a second",
        lines,
        x_log=True,
        y_log=True,
    )


def _models(runs: Sequence[Run]) -> int:
    return int(max(run.scene["models"] for run in runs))


def _units(units: tuple[float, float] | None) -> str:
    if units is None:
        return ""
    reads, writes = units
    return f"{reads:.3g} + {writes:.2g}" if writes else f"{reads:.3g}"


def _usd(reads: float, writes: float) -> float:
    return PRICES["reads"].of(reads) + PRICES["writes"].of(writes)
