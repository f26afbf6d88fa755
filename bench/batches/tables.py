"""What the raw data of `bench.batches.batches` tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.batches.trace import ANSWER_TOKENS, LINE_TOKENS, PROMPT_TOKENS, SLOTS
from bench.harness.stats import percentile_of
from bench.report import Chart, Goal, Table, goals

ALONE, FIFO, HOLDBACK, EVICT, OURS = (
    "requests alone",
    "FIFO",
    "holdback 50 %",
    "evict and redo",
    "InferLine",
)
#: The goals: requests' p99 until the first token over that of requests alone, lines' tokens a
#: second over those of FIFO, and the share of lines' tokens that were made in vain.
FIRST_TIMES, LINE_SHARE, LOST_SHARE = 1.1, 0.95, 0.005
#: Times are kept with so many digits.
DIGITS = 3

Raw = dict[str, Any]


def counted(seconds: Iterable[float]) -> Counter[str]:
    """Return how many there are of each time: milliseconds, of few digits."""
    return Counter(f"{1000 * each:.{DIGITS}g}" for each in seconds)


@dataclass(frozen=True, slots=True)
class Arm:
    """Results of one way to run lines beside requests."""

    raw: Raw

    def ms(self, what: str, share: float) -> float:
        """Return the milliseconds that so many of the requests do not exceed."""
        return percentile_of({float(ms): n for ms, n in self.raw[what].items()}, share)

    @property
    def requests(self) -> int:
        """Return how many requests had a first token."""
        return sum(self.raw["first_ms"].values())

    @property
    def line_tokens_second(self) -> float:
        """Return how many new tokens lines had in a second."""
        return float(self.raw["line_tokens"] / self.raw["seconds"])

    @property
    def lost(self) -> float:
        """Return the share of the lines' tokens that the engine had made before."""
        made = self.raw["line_tokens_made"]
        return 1 - self.raw["line_tokens"] / made if made else 0.0

    @property
    def again(self) -> float:
        """Return the prompt tokens of lines that were computed again, for each token of theirs."""
        made = self.raw["line_tokens_made"]
        return float(self.raw["prompt_tokens_again"] / made) if made else 0.0


Scene = Mapping[str, Arm]


def beside_requests(raw: Raw) -> list[Table | Chart]:
    """Return the tables of what was simulated."""
    scenes = {
        name: {arm: Arm(one) for arm, one in arms.items()} for name, arms in raw["scenes"].items()
    }
    return [
        goals(
            "Batches beside requests",
            [goal for name, scene in scenes.items() for goal in _goals(name, scene)],
        ),
        _table(scenes),
    ]


def _goals(name: str, scene: Scene) -> Iterator[Goal]:
    alone, fifo, ours = (scene[arm] for arm in (ALONE, FIFO, OURS))
    times = ours.ms("first_ms", 0.99) / alone.ms("first_ms", 0.99)
    yield Goal(
        f"{name}: first token of requests, p99",
        f"<= {FIRST_TIMES} x requests alone",
        f"{times:.2f} x",
        times <= FIRST_TIMES,
    )
    share = ours.line_tokens_second / fifo.line_tokens_second
    yield Goal(
        f"{name}: lines' tokens",
        f">= {LINE_SHARE} x FIFO",
        f"{share:.3f} x",
        share >= LINE_SHARE,
    )
    yield Goal(
        f"{name}: lines' tokens made twice",
        f"<= {100 * LOST_SHARE:g} %",
        f"{100 * ours.lost:.2f} %",
        ours.lost <= LOST_SHARE,
    )


def _table(scenes: Mapping[str, Scene]) -> Table:
    head = ["load", "", "first token p50", "/ alone", "p99", "/ alone", "between tokens p50"]
    head += ["/ alone", "lines' tokens a second", "/ FIFO", "made twice", "prompt tokens again"]
    head += ["suspended or evicted", "requests"]
    rows = []
    for name, scene in scenes.items():
        alone, fifo = scene[ALONE], scene[FIFO].line_tokens_second
        for title, arm in scene.items():
            cells = [name, title]
            for what, share in (("first_ms", 0.5), ("first_ms", 0.99), ("between_ms", 0.5)):
                ms = arm.ms(what, share)
                cells += [f"{ms:.3g}", f"{ms / alone.ms(what, share):.2f}"]
            rows.append([*cells, *_lines(arm, fifo), f"{arm.requests}"])
    return Table(
        "Batches beside requests, simulated; milliseconds",
        head,
        rows,
        "Simulated: InferLine's own gateway and provider in virtual time, with SQS and DynamoDB "
        f"as far away as AWS, before a scripted engine of {SLOTS} slots that works as vLLM does: "
        "every step makes a token for each running sequence; it takes 18 ms, 0.12 ms for each "
        "sequence, and the time of the prompt tokens computed in it, of which a second has 12,000; "
        "a prefix cache keeps blocks of 16 tokens, the least recently used go first. Load: the "
        "share of the slots that the requests alone keep busy. Poisson arrivals; in bursts twice "
        f"the mean rate for 10 s on average. Prompts have {PROMPT_TOKENS} tokens on average "
        f"(lognormal, 0.5), answers {ANSWER_TOKENS} (0.7), those of lines {LINE_TOKENS}; there are "
        "always more lines. FIFO: lines have the slots that are free, and keep them to their end. "
        "Holdback: the same, of half the slots at most. Evict and redo: a request takes a line's "
        "slot, and the line begins anew. Made twice: the share of the lines' tokens that the "
        "engine had made before. Prompt tokens again: those of lines that the engine computed "
        "though it had computed or made them before, as a share of the lines' tokens.",
    )


def _lines(arm: Arm, fifo: float) -> list[str]:
    if not arm.raw["line_tokens_made"]:
        return [""] * 5
    return [
        f"{arm.line_tokens_second:.0f}",
        f"{arm.line_tokens_second / fifo:.3f}",
        f"{100 * arm.lost:.2f} %",
        f"{100 * arm.again:.1f} %",
        f"{arm.raw['resumed']:.0f}",
    ]
